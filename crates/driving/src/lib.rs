//! 운행: who accepts, when a driving starts and ends, and what it costs.
//!
//! | command | rule | event |
//! |---|---|---|
//! | [`accept`](app::Drivings::accept) | the first driver wins; one active driving per driver | DrivingApproved |
//! | [`decline`](app::Drivings::decline) | only while it is open; hides it from this driver | none |
//! | [`start`](app::Drivings::start) | only its driver, and never after a cancel | DrivingStarted |
//! | [`finish`](app::Drivings::finish) | only its driver; fixes the fare, then takes the payment | DrivingFinished, DrivingPaymentSettled |
//!
//! | policy | when somebody says | then |
//! |---|---|---|
//! | `when_allocation_requested` | AllocationRequested | opens a driving, DrivingOpened |
//! | `when_allocation_cancel_requested` | AllocationCancelRequested | DrivingCancelled or DrivingCancelRejected |
//! | `when_payment_approved`, `_deferred`, `_declined`, `_refunded` | Payment.. | the driving knows, DrivingPaymentSettled |
//!
//! **One row decides.** Accept, start and cancel meet in the driving's row, and each is a
//! compare-and-set on it, so exactly one of them wins. That a driver has at most one active driving
//! is a unique column of the same table. **The fare** is [`fare::Tariff::fare`]: fixed at the
//! finish, with the tariff of that moment, and explained.
//!
//! **Finish** is visibly change, charge, change ([`app::Drivings::finish`]): no lock is held while
//! payment is asked. Whatever happens in between, the first change is kept; who repeats the request
//! goes on behind it, and payment hears of DrivingFinished anyway.
//!
//! When a neighbour is down: without payment a finish answers DEFERRED within `payment.deadline`,
//! and the outcome comes as an event. Without allocation no new drivings are opened; those that are
//! here go on. Without the broker events wait in the outbox.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use kernel::Money;
use platform::context::Context;
use platform::metrics::Figure;
use platform::server::Routes;
use serde::{Deserialize, Serialize};

use crate::fare::Tariff;

pub mod app;
pub mod clients;
pub mod declines;
pub mod domain;
mod entity;
mod events;
pub mod fare;
mod figures;
mod grpc;
pub mod migration;
pub mod near;
pub mod nearest;
pub mod open;
mod policies;
pub mod ports;

/// The context's name: in subjects, configuration and commands.
pub const NAME: &str = "driving";

/// What can be tuned.
#[derive(Clone, Debug)]
pub struct Config {
    /// What a ride costs.
    pub fare: FareConfig,
    /// How long a finish waits for payment at most.
    pub payment_deadline: Duration,
}

/// What a ride costs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FareConfig {
    /// The price of one minute, in won.
    pub won_per_minute: NonZeroU32,
    /// The name of this fare policy, kept with every fare that it made.
    pub policy_version: String,
}

impl FareConfig {
    fn tariff(&self) -> Tariff {
        Tariff::flat(Money::won(self.won_per_minute.get().into()), &self.policy_version)
    }
}

/// What stands in its tables, for whoever collects metrics.
pub fn figures() -> Vec<Figure> {
    figures::figures()
}

/// Starts the context's relay and policies; answers what it serves.
pub fn start(cx: &Context, config: Config, payments: impl ports::Payments) -> Routes {
    let drivings = Arc::new(app::Drivings::new(cx, config, payments));
    cx.consume(&["allocation", "payment"], policies::Policies::new(drivings.clone()));
    grpc::routes(drivings, cx.clock.clone())
}

#[cfg(test)]
mod tests;
