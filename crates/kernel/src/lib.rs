//! The words every bounded context shares, and nothing else.
//!
//! No I/O, no async runtime, no serialisation, no protocol: a reader who knows this crate knows the
//! grammar in which the contexts are written.
//!
//! | word | meaning |
//! |---|---|
//! | [`Aggregate`] | a thing that decides for itself; its methods return the events that happened |
//! | [`Cause`] | why a change happens: a client's request id or the event a policy reacts to |
//! | [`Actor`] | who asks: a customer, a driver, an operator or one of our own services |
//! | [`Repository`] | where aggregates live; one change = one transaction = row + events + cause |
//! | [`Rejection`] | a refusal in the domain's own words, with a stable reason |
//! | [`Clock`] | the only source of time and of new ids |

mod aggregate;
mod cause;
mod clock;
mod id;
mod money;
mod place;
mod rejection;

pub use aggregate::{Aggregate, Page, PageRequest, Recorded, Repository};
pub use cause::{Actor, Cause, Origin, Role};
pub use clock::{Clock, Timestamp};
pub use id::{AllocationId, CustomerId, DriverId, DrivingId, PaymentId, is_subject};
pub use money::Money;
pub use place::{Location, Place};
pub use rejection::{Failure, Kind, Rejection};
pub use uuid::Uuid;
