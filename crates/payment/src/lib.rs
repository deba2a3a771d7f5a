//! 요금결제: is the fee taken, exactly once?
//!
//! | command | rule | event |
//! |---|---|---|
//! | [`pay`](app::Payments::pay) | one payment per driving for ever | PaymentApproved, PaymentDeferred or PaymentDeclined |
//! | [`attempt_due`](app::Payments::attempt_due) | when `next_attempt_time` has come, or an attempt died | the same |
//!
//! | policy | when driving says | then |
//! |---|---|---|
//! | `when_driving_finished` | DrivingFinished | REQUESTED, and taken after `grace_ms` should `PayFee` never come |
//!
//! **The rule that keeps money safe** is [`domain::Payment::claim`]: IN_FLIGHT is on record before
//! the provider hears of the charge, and what came of it after. Whatever dies in between, the next
//! attempt asks under the same idempotency key, made of the driving's id, and the provider answers
//! with the same charge. An attempt without an answer is UNKNOWN: it never claims that nothing was
//! taken.
//!
//! When a neighbour is down: without the provider a payment is DEFERRED or UNKNOWN, the customer is
//! told once that it will be taken a bit later, and the reconciler goes on trying, less and less
//! often. Without driving's call its event does; without the broker events wait in the outbox.

use std::sync::Arc;
use std::time::Duration;

use platform::config::duration;
use platform::context::Context;
use platform::server::Routes;
use serde::{Deserialize, Serialize};

pub mod app;
mod clients;
pub mod domain;
mod entity;
mod events;
mod grpc;
pub mod migration;
mod policies;
pub mod ports;
#[cfg(test)]
mod tests;

/// The context's name: in subjects, configuration and commands.
pub const NAME: &str = "payment";

/// What can be tuned.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Base address of the payment provider, such as `https://api.provider.example`.
    pub provider_url: String,
    /// How long driving's call for a fee takes at most, all in all.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// How long one answer of the provider is waited for.
    #[serde(with = "duration")]
    pub provider_timeout: Duration,
    /// The pause after the first attempt that came to nothing; it doubles each time.
    #[serde(with = "duration")]
    pub retry_first: Duration,
    /// The longest pause between two attempts.
    #[serde(with = "duration")]
    pub retry_max: Duration,
    /// How long a finished driving's own call is waited for.
    #[serde(with = "duration")]
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            provider_url: String::new(),
            deadline: Duration::from_millis(800),
            provider_timeout: Duration::from_millis(500),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            grace: Duration::from_secs(2),
        }
    }
}

impl Config {
    fn retry(&self) -> domain::Retry {
        domain::Retry { first: self.retry_first, max: self.retry_max }
    }
}

/// How often payments that are due are looked for.
const RECONCILER_PERIOD: Duration = Duration::from_millis(500);

/// Starts the context's relay, policies and reconciler; answers what it serves.
pub fn start(cx: &Context, config: Config) -> Routes {
    let provider = Box::new(clients::HttpProvider::new(&config.provider_url));
    let (store, clock) = (cx.store(), cx.clock.clone());
    let payments = Arc::new(app::Payments::new(store, cx.db.clone(), provider, clock, config));
    cx.consume(&["driving"], policies::Policies::new(payments.clone()));
    let (due, tasks) = (payments.clone(), cx.tasks.clone());
    cx.every(RECONCILER_PERIOD, "reconciler", move || {
        let (payments, tasks) = (due.clone(), tasks.clone());
        async move { payments.attempt_due(&tasks).await.map(drop) }
    });
    grpc::routes(payments, cx.clock.clone())
}
