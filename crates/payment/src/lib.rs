//! 요금결제: is the fee taken, exactly once?
//!
//! | command | rule | event |
//! |---|---|---|
//! | [`pay`](app::Payments::pay) | one payment per driving for ever | PaymentApproved, PaymentDeferred or PaymentDeclined |
//! | [`settle`](app::Payments::settle) | what is outstanding, tried now; what is refused, under a new key | the same |
//! | [`refund`](app::Payments::refund) | never more than was taken, one part at a time | PaymentRefunded |
//! | [`attempt_due`](app::Payments::attempt_due) | when `next_attempt_time` has come, or an attempt died | all of these |
//!
//! | policy | when driving says | then |
//! |---|---|---|
//! | `when_driving_finished` | DrivingFinished | REQUESTED, and taken after `grace_ms` should `PayFee` never come |
//!
//! **The rule that keeps money safe** is [`domain::Payment::claim`]: IN_FLIGHT is on record before
//! the provider hears of the charge, and what came of it after. Whatever dies in between, the next
//! attempt asks under the same idempotency key, made of the driving's id, and the provider answers
//! with the same charge. An attempt without an answer is UNKNOWN: it never claims that nothing was
//! taken, and the next one looks the charge up before it asks again. A refund goes the same way.
//!
//! What the provider has said goes on record together with its event and its entry in the
//! [`ledger`]. `docs/payment.md` tells the whole story.
//!
//! When a neighbour is down: without the provider a payment is DEFERRED or UNKNOWN, the customer is
//! told once that it will be taken a bit later, and the reconciler goes on trying, less and less
//! often and at a bounded rate. Without driving's call its event does; without the broker events wait
//! in the outbox. With more callers than the provider may be asked for, fees are DEFERRED at once.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use platform::config::duration;
use platform::context::Context;
use platform::metrics::Figure;
use platform::server::Routes;
use platform::webhooks::{self, Secret};
use serde::{Deserialize, Serialize};

pub mod app;
pub mod clients;
pub mod domain;
mod entity;
mod events;
mod figures;
mod grpc;
pub mod ledger;
mod measure;
pub mod migration;
mod policies;
pub mod ports;
#[cfg(test)]
mod tests;
mod webhook;

/// The context's name: in subjects, configuration and commands.
pub const NAME: &str = "payment";

/// What can be tuned.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Base address of the payment provider, such as `https://api.provider.example`.
    pub provider_url: String,
    /// What the provider signs its webhooks with; without it they are not listened to.
    #[serde(deserialize_with = "webhooks::optional_secret", skip_serializing)]
    pub webhook_secret: Option<Secret>,
    /// How long driving's call for a fee takes at most, all in all.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// How long one answer of the provider is waited for.
    #[serde(with = "duration")]
    pub provider_timeout: Duration,
    /// The pause after the first attempt that came to nothing; it doubles each time. Up to a half of
    /// each is left out at random.
    #[serde(with = "duration")]
    pub retry_first: Duration,
    /// The longest pause between two attempts.
    #[serde(with = "duration")]
    pub retry_max: Duration,
    /// How long a finished driving's own call is waited for.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// For how many callers the provider is asked at the same time; the fees of more are deferred.
    pub concurrency: NonZeroUsize,
    /// How many callers are served at the same time, those who wait for the database included; more
    /// are refused.
    pub queue: NonZeroUsize,
    /// How many payments a second the reconciler tries again, in each replica.
    pub reconcile_rate: NonZeroU32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            provider_url: String::new(),
            webhook_secret: None,
            deadline: Duration::from_millis(800),
            provider_timeout: Duration::from_millis(500),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            grace: Duration::from_secs(2),
            concurrency: const { NonZeroUsize::new(64).unwrap() },
            queue: const { NonZeroUsize::new(256).unwrap() },
            reconcile_rate: const { NonZeroU32::new(50).unwrap() },
        }
    }
}

impl Config {
    /// Refuses what makes no sense, in a sentence for whoever has set it.
    pub fn check(&self) -> Result<(), String> {
        let (timeout, first, most) = (self.provider_timeout, self.retry_first, self.retry_max);
        // An attempt waits for two answers at most.
        let longest = domain::CLAIM_TERM / 4;
        for (wrong, sentence) in [
            (
                timeout.is_zero() || timeout > longest,
                format!("payment.provider_timeout must be more than 0 and at most {longest:?}"),
            ),
            (
                first.is_zero() || first > most,
                "payment.retry_first must be more than 0 and at most payment.retry_max".to_owned(),
            ),
            (
                self.queue < self.concurrency,
                "payment.queue must not be less than payment.concurrency".to_owned(),
            ),
        ] {
            if wrong {
                return Err(sentence);
            }
        }
        Ok(())
    }

    fn retry(&self) -> domain::Retry {
        domain::Retry { first: self.retry_first, max: self.retry_max }
    }
}

/// How often payments that are due are looked for.
const RECONCILER_PERIOD: Duration = Duration::from_millis(500);

/// What stands in its tables, for whoever collects metrics.
pub fn figures() -> Vec<Figure> {
    figures::figures()
}

/// Starts the context's relay, policies and reconciler; answers what it serves.
pub fn start(cx: &Context, config: Config) -> Routes {
    measure::start();
    let provider = Box::new(clients::HttpProvider::new(&config.provider_url));
    let webhook_secret = config.webhook_secret.clone();
    let (store, clock) = (cx.store(), cx.clock.clone());
    let payments = Arc::new(app::Payments::new(store, cx.db.clone(), provider, clock, config));
    cx.consume(&["driving"], policies::Policies::new(payments.clone()));
    cx.tasks.spawn("news", payments.clone().act_on_news(cx.tasks.clone()));
    let (due, tasks) = (payments.clone(), cx.tasks.clone());
    cx.every(RECONCILER_PERIOD, "reconciler", move || {
        let (payments, tasks) = (due.clone(), tasks.clone());
        async move { payments.attempt_due(&tasks).await.map(drop) }
    });
    let webhook = webhook::route(payments.clone(), webhook_secret, cx.clock.clone());
    grpc::routes(payments, cx.clock.clone()).http(webhook::PATH, webhook)
}
