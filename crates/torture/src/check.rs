//! The judge: whether what people did and what is on record keep the promises of the house.
//!
//! Each invariant is one function that compares named sources and nothing else; its doc comment says
//! what is compared with what. A check is exact: it holds for everything it counts, or it names what
//! breaks it and the ride concerned.
//!
//! | file | invariants |
//! |---|---|
//! | `money` | I1 fees |
//! | `books` | I2 ledger, I13 refunds |
//! | `drivers` | I3 one driver, one ride at a time |
//! | `decision` | I4 one winner of cancel and start |
//! | `record` | I5 nothing lost, no ghosts; I6 order |
//! | `view` | I7 view = fold(stream) = sources |
//! | `told` | I8 messages |
//! | `causes` | I9 correlation and causation |
//! | `rest` | I10 the mesh is at rest |
//! | `answers` | I11 refusals, I12 reads, P1 the same answer for ever |
//! | `dues` | I14 who owes |
//! | `truth` | I15 what people are answered about fees, I16 what they are told |

mod answers;
mod books;
mod case;
mod causes;
mod contract;
mod decision;
mod drivers;
mod dues;
mod fold;
mod money;
mod record;
mod rest;
#[cfg(test)]
mod tests;
mod told;
mod truth;
mod view;

use kernel::Uuid;

use self::case::Case;
use crate::evidence::Evidence;
use crate::history::Operation;

/// What the harness itself has put into the stream.
///
/// Everything it publishes carries a `Nats-Msg-Id` that begins with `torture-` (or none at all), so
/// that it can be told from what relays publish, and is named here by its `ce-id`:
///
/// * `injected`: copies of events that were in the stream already, with their own headers, subject
///   and payload. They must change nothing.
/// * `parked`: poison. The kind is one that consumers read, the payload bytes that no protobuf
///   message can be (`0xFF..`), the aggregate is one of its own, `aggregate-version` counts from 1 in
///   the order of publishing, and the correlation id is that of no ride. Each consumer that reads
///   the kind must park it, and with it whatever follows on the same aggregate; nobody else may.
///
/// Naming one that never came to the stream does no harm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// The ids of poison.
    pub(crate) parked: Vec<Uuid>,
    /// The ids of events that were published again.
    pub(crate) injected: Vec<Uuid>,
}

/// What became of one invariant.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Its number, such as `I1`.
    pub(crate) invariant: &'static str,
    /// What it says, in a few words.
    pub(crate) title: &'static str,
    /// How many things were checked.
    pub(crate) checked: usize,
    /// What breaks it.
    pub(crate) violations: Vec<Violation>,
}

/// One breach of an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The ride concerned, by its allocation, when there is one.
    pub(crate) ride: Option<Uuid>,
    /// What is wrong.
    pub(crate) why: String,
}

/// Judges a run that has come to rest.
pub(crate) fn check(
    operations: &[Operation],
    evidence: &Evidence,
    expected: &Expected,
) -> Vec<Verdict> {
    let case = Case::new(operations, evidence, expected);
    let invariants: [fn(&Case<'_>) -> Verdict; 17] = [
        money::fees,
        books::agree,
        drivers::one_at_a_time,
        decision::one_winner,
        record::nothing_lost_no_ghosts,
        record::in_order,
        view::is_the_fold_and_the_sources,
        told::once,
        causes::chains_are_whole,
        rest::at_rest,
        answers::refused_is_without_effect,
        answers::reads_never_go_back,
        books::refunds,
        dues::last_word,
        truth::of_fees,
        truth::last_word_is_told_last,
        answers::the_same_for_ever,
    ];
    invariants.iter().map(|invariant| invariant(&case)).collect()
}

impl Verdict {
    /// Nothing checked yet.
    fn new(invariant: &'static str, title: &'static str) -> Verdict {
        Verdict { invariant, title, checked: 0, violations: Vec::new() }
    }

    /// Turns to one more thing to check, which belongs to this ride.
    fn of(&mut self, ride: impl Into<Option<Uuid>>) -> Subject<'_> {
        self.checked += 1;
        Subject { ride: ride.into(), violations: &mut self.violations }
    }
}

/// One thing that is checked.
struct Subject<'a> {
    ride: Option<Uuid>,
    violations: &'a mut Vec<Violation>,
}

impl Subject<'_> {
    /// Says what is wrong unless it holds.
    fn must(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.fails(why());
        }
    }

    /// Says what is wrong.
    fn fails(&mut self, why: impl Into<String>) {
        self.violations.push(Violation { ride: self.ride, why: why.into() });
    }
}
