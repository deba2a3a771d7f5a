//! A driving has a fee.

use kernel::{Cause, Failure, Kind, PaymentId, Rejection, Repository};
use tokio::time::Instant;

use super::{Outcome, Payments};
use crate::domain::{Claim, Fee, Payment, payment_exists};

impl Payments {
    /// Takes the fee of a driving, once for ever, and answers with its payment as it is by then. The
    /// provider is waited for until `until`, and never longer than configured. With too many others
    /// asking, the fee is taken later.
    pub async fn pay(&self, cause: &Cause, fee: Fee, until: Option<Instant>) -> Outcome {
        let _place = self.admission.enter()?;
        let Some(_asking) = self.admission.ask() else { return self.defer(cause, fee).await };
        let claim = self.new_claim();
        let id = PaymentId(self.clock.new_id());
        let (payment, events) = Payment::pay(id, fee.clone(), claim);
        let payment = match self.store.create(cause, payment, events).await {
            Err(Failure::Rejected(no)) if no == payment_exists() => {
                let known = self.of_driving(&cause.actor, fee.driving).await?;
                known.require_same(&fee)?;
                self.claim(cause, known.id, claim).await?
            }
            // Asked before: the cause is spent, whether or not that attempt came to an end.
            Ok(known) if known.id != id => {
                let again = Cause { id: claim.id, ..cause.clone() };
                self.claim(&again, known.id, claim).await?
            }
            created => created?,
        };
        if payment.claim != Some(claim) {
            return Ok(payment);
        }
        self.charge(cause, payment, claim, until).await
    }

    /// Puts on record that a fee is taken later, unless it has its payment.
    async fn defer(&self, cause: &Cause, fee: Fee) -> Outcome {
        let id = PaymentId(self.clock.new_id());
        let (now, retry) = (self.clock.now(), self.config.retry());
        let (payment, events) = Payment::defer(id, fee.clone(), now, retry);
        match self.store.create(cause, payment, events).await {
            Err(Failure::Rejected(no)) if no == payment_exists() => {
                let known = self.of_driving(&cause.actor, fee.driving).await?;
                known.require_same(&fee)?;
                Ok(known)
            }
            created => created,
        }
    }

    /// A driving has reached its end: its fee is due, should nobody ask for it meanwhile.
    pub async fn driving_finished(&self, by: &Cause, fee: Fee) -> Result<(), Failure> {
        let id = PaymentId(self.clock.new_id());
        let due = self.clock.now().plus(self.config.grace);
        let (payment, events) = Payment::request(id, fee, due);
        match self.store.create(by, payment, events).await {
            Err(Failure::Rejected(no)) if no == payment_exists() => Ok(()),
            created => created.map(drop),
        }
    }

    /// Claims a payment for one attempt; when there is nothing to claim, answers with it as it is.
    async fn claim(&self, cause: &Cause, id: PaymentId, claim: Claim) -> Outcome {
        match self.store.change(cause, id.0, move |payment| payment.claim(claim)).await {
            Err(Failure::Rejected(Rejection { kind: Kind::Precondition, .. })) => {
                self.store.get(&cause.actor, id.0).await
            }
            claimed => claimed,
        }
    }
}
