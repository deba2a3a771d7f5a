//! When a call is tried again.
//!
//! | what an attempt ended with | tried again |
//! |---|---|
//! | `UNAVAILABLE`, no status at all, `DEADLINE_EXCEEDED` | yes |
//! | `RESOURCE_EXHAUSTED` | when the neighbour says when |
//! | our own breaker's refusal | no: it would refuse again |
//! | anything else, `INTERNAL`, `UNKNOWN`, `ABORTED`, `CANCELLED` among it | no |
//!
//! And only if attempts are left, if a whole one still fits into the deadline after its pause, and
//! if the budget that all calls share allows it. A neighbour that hangs therefore costs one attempt
//! where only one fits, and one that is down is not asked many times as often for it.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use tokio::time::{Sleep, sleep};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::retry::Policy;
use tower::retry::budget::{Budget as _, TpsBudget};

use super::deadline::until;
use super::evidence::is_failure;
use super::policy::CallPolicy;
use crate::breaker::Open;
use crate::metrics::{self, Retry};
use crate::status::retry_after;

/// How long an answer adds to the budget.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);

/// The number of attempts before this one, as gRPC has it.
pub(super) const PREVIOUS_ATTEMPTS: HeaderName =
    HeaderName::from_static("grpc-previous-rpc-attempts");

/// The retry policy of a method. tower makes a clone of it for each call; they share the budget.
#[derive(Clone)]
pub(super) struct Retries {
    name: &'static str,
    policy: CallPolicy,
    budget: Arc<TpsBudget>,
    /// Of this call.
    attempts: u32,
}

impl Retries {
    pub(super) fn new(name: &'static str, policy: CallPolicy) -> Retries {
        metrics::retries_start(name);
        let budget = policy.retry_budget;
        let budget = TpsBudget::new(BUDGET_WINDOW, budget.per_second, budget.ratio);
        Retries { name, policy, budget: Arc::new(budget), attempts: 0 }
    }

    /// How long to wait before trying again what ended like this; `None` when it is not worth it.
    fn pause(&self, request: &Request<Bytes>, status: &Status) -> Option<Duration> {
        let pushback = pushback(status);
        let worth_it = match status.code() {
            Code::Unavailable | Code::DeadlineExceeded => !is_our_breaker(status),
            Code::ResourceExhausted => pushback.is_some(),
            _ => false,
        };
        // On top of what the neighbour says, or all whom it told the same would come at once.
        let pause =
            pushback.unwrap_or_default() + self.policy.backoff.pause(self.attempts, random());
        let fits = until(request)
            .is_none_or(|total| total.remaining() >= pause + self.policy.attempt_timeout);
        (worth_it && fits && self.attempts < self.policy.attempts).then_some(pause)
    }
}

impl Policy<Request<Bytes>, Response<Body>, Status> for Retries {
    type Future = Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Bytes>,
        outcome: &mut Result<Response<Body>, Status>,
    ) -> Option<Sleep> {
        self.attempts += 1;
        let failure = outcome.as_ref().err().filter(|status| is_failure(status.code()));
        let Some(status) = failure else {
            self.budget.deposit();
            return None;
        };
        let pause = self.pause(request, status)?;
        if !self.budget.withdraw() {
            metrics::retried(self.name, Retry::Denied);
            return None;
        }
        metrics::retried(self.name, Retry::Made);
        request.headers_mut().insert(PREVIOUS_ATTEMPTS, self.attempts.into());
        Some(sleep(pause))
    }

    fn clone_request(&mut self, request: &Request<Bytes>) -> Option<Request<Bytes>> {
        Some(request.clone())
    }
}

/// When the neighbour wants to be asked again. A status of our own makes no such wish.
fn pushback(status: &Status) -> Option<Duration> {
    status.source().is_none().then(|| retry_after(status)).flatten()
}

fn is_our_breaker(status: &Status) -> bool {
    status.source().is_some_and(|source| source.is::<Open>())
}

#[expect(
    clippy::disallowed_methods,
    reason = "so that those who failed together do not come back together; nothing is decided on it"
)]
fn random() -> f64 {
    rand::random()
}
