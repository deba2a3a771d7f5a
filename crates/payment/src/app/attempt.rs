//! One attempt: the provider is asked, and what came of it is put on record.

use std::time::Duration;

use kernel::{Cause, Failure, Kind, Recorded, Rejection, Repository};
use tokio::time::Instant;

use super::{Outcome, Payments};
use crate::domain::{Claim, Event, Payment};
use crate::ports::{Charge, RefundVerdict, Verdict};

/// With less time than this the provider is not asked at all.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);

impl Payments {
    /// Asks the provider for the charge that this claim is for.
    pub(super) async fn charge(
        &self,
        cause: &Cause,
        payment: Recorded<Payment>,
        claim: Claim,
        until: Option<Instant>,
    ) -> Outcome {
        let verdict = self.ask(&payment, until).await;
        let (now, retry) = (self.clock.now(), self.config.retry());
        let decision = move |payment: &mut Recorded<Payment>| match verdict.clone() {
            Verdict::Approved { reference } => payment.approved(claim, reference, now),
            Verdict::Declined { reason } => payment.declined(claim, reason),
            Verdict::NotCharged => payment.deferred(claim, now, retry),
            Verdict::Unknown => payment.unknown(claim, now, retry),
        };
        self.record(cause, &payment, decision).await
    }

    /// The provider's word on a charge. In doubt it is looked up first; only what the provider does
    /// not know is asked for again, and under the same key: a request may still be on its way.
    async fn ask(&self, payment: &Payment, until: Option<Instant>) -> Verdict {
        let charge = charge_of(payment);
        if payment.in_doubt {
            let Some(patience) = self.patience(until) else { return Verdict::NotCharged };
            match self.provider.look_up(&charge, patience).await {
                Verdict::NotCharged => {}
                known => return known,
            }
        }
        match self.patience(until) {
            Some(patience) => self.provider.charge(&charge, patience).await,
            None => Verdict::NotCharged,
        }
    }

    /// Asks the provider for the refund that this claim is for; answers what it said, too.
    pub(super) async fn give_back(
        &self,
        cause: &Cause,
        payment: Recorded<Payment>,
        claim: Claim,
        until: Option<Instant>,
    ) -> Result<(Recorded<Payment>, RefundVerdict), Failure> {
        let verdict = match (&payment.refund, self.patience(until)) {
            (Some(refund), Some(patience)) => {
                let refund = crate::ports::Refund {
                    key: refund.key,
                    charge: payment.charge_key(),
                    amount: refund.amount,
                };
                self.provider.refund(&refund, patience).await
            }
            _ => RefundVerdict::Unknown,
        };
        let (now, retry, said) = (self.clock.now(), self.config.retry(), verdict.clone());
        let decision = move |payment: &mut Recorded<Payment>| match said {
            RefundVerdict::Refunded => payment.refunded(claim),
            RefundVerdict::Refused { .. } => payment.refund_refused(claim),
            RefundVerdict::Unknown => payment.refund_unknown(claim, now, retry),
        };
        Ok((self.record(cause, &payment, decision).await?, verdict))
    }

    /// How long the provider is waited for, if there is time to ask it.
    fn patience(&self, until: Option<Instant>) -> Option<Duration> {
        let most = self.config.provider_timeout;
        let left = until.map_or(most, |until| until.saturating_duration_since(Instant::now()));
        (left >= LEAST_PATIENCE).then(|| left.min(most))
    }

    /// Puts on record how an attempt ended, in our own name and under the trace of whoever asked for
    /// it. One that ended so late that another has the say changes nothing.
    async fn record(
        &self,
        cause: &Cause,
        payment: &Recorded<Payment>,
        decision: impl Fn(&mut Recorded<Payment>) -> Result<Vec<Event>, Rejection>
        + Send
        + Sync
        + 'static,
    ) -> Outcome {
        let trace = cause.trace.clone();
        let own = Cause { trace, ..Cause::own(payment.outcome_cause(), crate::NAME) };
        match self.store.change(&own, payment.id.0, decision).await {
            Err(Failure::Rejected(Rejection { kind: Kind::Aborted, .. })) => {
                self.store.get(&cause.actor, payment.id.0).await
            }
            outcome => outcome,
        }
    }
}

/// What the provider is asked for.
fn charge_of(payment: &Payment) -> Charge {
    Charge {
        key: payment.charge_key(),
        amount: payment.fee.amount,
        customer: payment.fee.customer.clone(),
        driving: payment.fee.driving,
    }
}
