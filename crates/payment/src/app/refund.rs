//! Somebody gets money back.

use kernel::{Cause, Failure, Money, PaymentId, Recorded, Rejection, Repository, Uuid};
use tokio::time::Instant;

use super::{Outcome, Payments};
use crate::domain::{Payment, RefundWish};
use crate::ledger;
use crate::ports::RefundVerdict;

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundRequest {
    /// Of which payment.
    pub payment: PaymentId,
    /// As the operator saw it.
    pub etag: Option<String>,
    /// How much; all that is left, when nobody says.
    pub amount: Option<Money>,
    /// Why.
    pub reason: String,
}

impl Payments {
    /// Gives back, and answers with the payment as it is by then. What the provider has not answered
    /// is asked again until it has. The same request gives back once, however often it comes.
    pub async fn refund(
        &self,
        cause: &Cause,
        request: RefundRequest,
        until: Option<Instant>,
    ) -> Outcome {
        let _place = self.admission.enter()?;
        let _asking = self.admission.ask_or_refuse()?;
        let claim = self.new_claim();
        let RefundRequest { payment: id, etag, amount, reason } = request;
        let key = refund_key(id, cause);
        let decision = move |payment: &mut Recorded<Payment>| {
            payment.require_etag(etag.as_deref())?;
            payment.refund(RefundWish { key, amount, reason: reason.clone() }, claim)
        };
        let payment = self.store.change(cause, id.0, decision).await?;
        if payment.claim != Some(claim) {
            return self.refund_again(cause, id, key).await;
        }
        match self.give_back(cause, payment, claim, until).await? {
            (_, RefundVerdict::Refused { reason }) => Err(refused(&reason).into()),
            (payment, _) => Ok(payment),
        }
    }

    /// What has become of a refund that was asked for before.
    async fn refund_again(&self, cause: &Cause, id: PaymentId, key: Uuid) -> Outcome {
        let payment = self.store.get(&cause.actor, id.0).await?;
        let under_way = payment.refund.as_ref().is_some_and(|refund| refund.key == key);
        if under_way || ledger::has_refund(&self.db, key).await? {
            return Ok(payment);
        }
        Err(Failure::from(refused("as it was told before")))
    }
}

/// The key of the refund that this request asks for. Two operators never share one, whatever request
/// ids they choose.
fn refund_key(payment: PaymentId, cause: &Cause) -> Uuid {
    let (role, subject) = (cause.actor.role.as_str(), &cause.actor.subject);
    Uuid::new_v5(&payment.0, format!("refund {role}:{subject} {}", cause.id).as_bytes())
}

fn refused(reason: &str) -> Rejection {
    let message = format!("the provider refuses to give it back: {reason}");
    Rejection::precondition("REFUND_REFUSED", message)
}
