//! What payment counts, for whoever collects metrics: how the provider answers, and who was turned
//! away because there were too many.

use kernel::{Failure, Recorded};
use platform::metrics::{Counter, Histogram};
use tokio::time::Instant;

use crate::domain::{Payment, State};
use crate::ports::{RefundVerdict, Verdict};

static ANSWERS: Histogram = Histogram::new(
    "taxi.provider.request.duration",
    "How long the payment provider took, by what came of it",
);
static SHED: Counter =
    Counter::new("taxi.payments.shed", "{call}", "Calls that the provider was not asked for");

/// The context begins: its series start at zero.
pub(crate) fn start() {
    ["deferred", "refused"].into_iter().for_each(|outcome| SHED.add(0, [("outcome", outcome)]));
}

/// Somebody is answered: perhaps that there are too many others.
pub(crate) fn answered(outcome: &Result<Recorded<Payment>, Failure>) {
    let shed = match outcome {
        Ok(payment) if payment.state == State::Deferred && payment.attempt_count == 0 => "deferred",
        Err(Failure::Rejected(rejection)) if rejection.reason == "OVERLOADED" => "refused",
        _ => return,
    };
    SHED.add(1, [("outcome", shed)]);
}

/// A request to the provider.
pub(crate) struct Asked {
    what: &'static str,
    start: Instant,
}

impl Asked {
    /// It is asked now.
    pub(crate) fn now(what: &'static str) -> Asked {
        Asked { what, start: Instant::now() }
    }

    /// What came of a charge.
    pub(crate) fn charged(&self, verdict: &Verdict) {
        self.answered(match verdict {
            Verdict::Approved { .. } => "approved",
            Verdict::Declined { .. } => "declined",
            Verdict::NotCharged => "not_charged",
            Verdict::Unknown => "unknown",
        });
    }

    /// What came of a refund.
    pub(crate) fn refunded(&self, verdict: &RefundVerdict) {
        self.answered(match verdict {
            RefundVerdict::Refunded => "refunded",
            RefundVerdict::Refused { .. } => "refused",
            RefundVerdict::Unknown => "unknown",
        });
    }

    fn answered(&self, outcome: &'static str) {
        let labels = [("request", self.what), ("outcome", outcome)];
        ANSWERS.record(self.start.elapsed(), labels);
    }
}
