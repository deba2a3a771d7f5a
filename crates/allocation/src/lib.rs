//! 차량배정 요청: may this customer ask for a car, and may they cancel it?
//!
//! | command | rule | event |
//! |---|---|---|
//! | [`request`](app::Allocations::request) | no declined fee outstanding, at most `max_open_per_customer` open ones | AllocationRequested |
//! | [`cancel`](app::Allocations::cancel) | before the driving starts; *driving decides* | AllocationCancelRequested |
//! | [`expire_unanswered`](app::Allocations::expire_unanswered) | no driver within `expire_after` | AllocationCancelRequested |
//!
//! | policy | when driving says | then |
//! |---|---|---|
//! | `when_driving_opened` | DrivingOpened | the allocation knows its driving |
//! | `when_driving_approved` | DrivingApproved | APPROVED |
//! | `when_driving_started` | DrivingStarted | DRIVING_STARTED |
//! | `when_driving_finished` | DrivingFinished | DRIVING_FINISHED |
//! | `when_driving_cancelled` | DrivingCancelled | CANCELLED or EXPIRED, AllocationCancelled or AllocationExpired |
//! | `when_driving_cancel_rejected` | DrivingCancelRejected | back to what the driving is |
//!
//! | policy | when payment says | then |
//! |---|---|---|
//! | `when_payment_declined` | PaymentDeclined | the customer owes the fee |
//! | `when_payment_not_due` | PaymentApproved, PaymentDeferred, PaymentRefunded | nobody owes it |
//!
//! **The due rule**: whoever owes a fee settles it before the next ride, unless `refuse_outstanding`
//! is off. Only a declined fee is owed; one that will be taken a bit later is nobody's fault. The
//! request finds it in the store's own transaction ([`dues`]): payment is not asked.
//!
//! **The cancel rule** is [`domain::Allocation::cancel`]. Accept, start and cancel meet in one place,
//! the driving's row, because only there can one of them win. So a cancel is first a wish
//! (CANCELLING), and what driving answers is the outcome.
//!
//! When a neighbour is down: asking needs nothing but this context's own database. Without driving a
//! cancel answers CANCELLING and is decided when driving is back; without payment dues stay as they
//! are; without the broker events wait in the outbox.

use std::sync::Arc;
use std::time::Duration;

use platform::config::duration;
use platform::context::Context;
use platform::metrics::Figure;
use platform::server::Routes;
use serde::{Deserialize, Serialize};

use crate::domain::{Debtors, Terms};
use crate::dues::Dues;

pub mod app;
pub mod domain;
pub mod dues;
mod entity;
mod events;
mod figures;
mod grpc;
pub mod migration;
mod policies;

/// The context's name: in subjects, configuration and commands.
pub const NAME: &str = "allocation";

/// How often unanswered requests are looked for.
const EXPIRY_PERIOD: Duration = Duration::from_secs(1);

/// What can be tuned.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many open allocations a customer may have.
    pub max_open_per_customer: u32,
    /// How long an allocation waits for a driver.
    #[serde(with = "duration")]
    pub expire_after: Duration,
    /// Whether a customer who owes a declined fee is refused until it is settled.
    pub refuse_outstanding: bool,
}

impl Config {
    fn terms(&self) -> Terms {
        let debtors = if self.refuse_outstanding { Debtors::Refused } else { Debtors::Served };
        Terms { expire_after: self.expire_after, debtors }
    }
}

/// What stands in its tables, for whoever collects metrics.
pub fn figures() -> Vec<Figure> {
    figures::figures()
}

/// Starts the context's relay, policies and timer; answers what it serves.
pub fn start(cx: &Context, config: Config) -> Routes {
    let dues = Dues::new(cx.db.clone());
    let allocations = Arc::new(app::Allocations::new(cx.store(), dues, cx.clock.clone(), config));
    cx.consume(&["driving", "payment"], policies::Policies::new(allocations.clone()));
    let timer = allocations.clone();
    cx.every(EXPIRY_PERIOD, "expiry", move || {
        let allocations = timer.clone();
        async move { allocations.expire_unanswered().await }
    });
    grpc::routes(allocations, cx.clock.clone())
}

#[cfg(test)]
mod tests;
