//! The promises of the event backbone, checked on models small enough to visit every state.
//!
//! A test tries a few schedules, a torture run some thousands; these models try all of them, for two
//! or three events and two processes of a kind. What goes wrong in a distributed system nearly
//! always goes wrong in a small one.
//!
//! | model | question |
//! |---|---|
//! | [`backbone`] | does an event get from the outbox into the stream and to its effect, once and in order? |
//! | [`projection`] | is a view the fold of the stream, whoever folds it? |
//! | [`cancel`] | can a ride be both started and cancelled, and is everybody told the truth? |
//! | [`charge`] | is the fee taken exactly once, whoever dies, and is everybody told the truth? |
//!
//! All but [`cancel`] have a switch for each line of defence. The tests show that everything holds with
//! all of them, and for each line what breaks without it, in the fewest steps; or that nothing does,
//! and then the line is there for speed. The platform's own hold rule and the contexts' own domain
//! types are part of the models; everything else is modelled, and each module says how.
//!
//! `cargo test -p models -- --nocapture` prints how many states each model has.

pub mod backbone;
pub mod cancel;
pub mod charge;
pub mod check;
pub mod event;
pub mod projection;
