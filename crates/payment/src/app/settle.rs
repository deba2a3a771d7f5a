//! Somebody does not want to wait.

use kernel::{Cause, PaymentId, Recorded, Repository};
use tokio::time::Instant;

use super::{Outcome, Payments};
use crate::domain::Payment;

impl Payments {
    /// Tries now to take what is outstanding, what the provider has refused, too, and answers with
    /// the payment as it is by then. The same request makes one attempt, however often it comes.
    pub async fn settle(
        &self,
        cause: &Cause,
        id: PaymentId,
        etag: Option<String>,
        until: Option<Instant>,
    ) -> Outcome {
        let _place = self.admission.enter()?;
        let _asking = self.admission.ask_or_refuse()?;
        let claim = self.new_claim();
        let decision = move |payment: &mut Recorded<Payment>| {
            payment.require_etag(etag.as_deref())?;
            payment.settle(claim)
        };
        let payment = self.store.change(cause, id.0, decision).await?;
        if payment.claim != Some(claim) {
            return self.store.get(&cause.actor, id.0).await;
        }
        self.charge(cause, payment, claim, until).await
    }
}
