//! What nobody has an answer to is asked again, until somebody has.
//!
//! Each replica may look, and whoever claims first asks: the others find the payment claimed, and
//! pass it over. The provider is asked at a bounded rate, so that one that comes back is not run
//! over by all that has waited for it.

use std::sync::Arc;

use futures::StreamExt;
use kernel::{Actor, Cause, DrivingId, Failure, Kind, PaymentId, Recorded, Rejection, Repository};
use platform::shutdown::Shutdown;

use super::Payments;
use crate::domain::Payment;
use crate::entity;

/// For how many payments the reconciler asks the provider at once.
const CONCURRENCY: usize = 16;

impl Payments {
    /// Tries again what is due, the oldest first and as much as the rate allows; answers how many
    /// there were.
    pub async fn attempt_due(&self, tasks: &Shutdown) -> Result<usize, Failure> {
        let most = self.config.reconcile_rate.get().into();
        let due = entity::due(&self.db, self.clock.now(), most).await?;
        let count = due.iter().take_while(|_| self.tokens.take()).count();
        futures::stream::iter(due.into_iter().take(count))
            // What has begun comes to its end.
            .take_until(tasks.cancelled())
            .for_each_concurrent(CONCURRENCY, |id| async move {
                if let Err(failure) = self.attempt_again(id).await {
                    tracing::warn!(payment = %id, %failure, "the next attempt waits");
                }
            })
            .await;
        Ok(count)
    }

    async fn attempt_again(&self, id: PaymentId) -> Result<(), Failure> {
        let claim = self.new_claim();
        let cause = Cause::own(claim.id, crate::NAME);
        let take_up = move |payment: &mut Recorded<Payment>| payment.take_up(claim);
        let payment = match self.store.change(&cause, id.0, take_up).await {
            // Somebody was faster.
            Err(Failure::Rejected(Rejection { kind: Kind::Precondition, .. })) => return Ok(()),
            claimed => claimed?,
        };
        match payment.refund {
            None => self.charge(&cause, payment, claim, None).await.map(drop),
            Some(_) => self.give_back(&cause, payment, claim, None).await.map(drop),
        }
    }

    /// The provider says that it has news of this charge. That is a hint and no more: what is not
    /// settled is due at once, and the provider is asked.
    pub async fn heard_of(&self, driving: DrivingId) -> Result<(), Failure> {
        let payment = match self.of_driving(&Actor::service(crate::NAME), driving).await {
            Err(Failure::Rejected(Rejection { kind: Kind::NotFound, .. })) => return Ok(()),
            known => known?,
        };
        if payment.next_attempt_time.is_none() {
            return Ok(());
        }
        let (id, now) = (payment.id, self.clock.now());
        let cause = Cause::own(self.clock.new_id(), crate::NAME);
        self.store.change(&cause, id.0, move |payment| Ok(payment.hint(now))).await?;
        self.news.notify_one();
        Ok(())
    }

    /// Tries again at once whatever there is news of, until the end.
    pub async fn act_on_news(self: Arc<Self>, tasks: Shutdown) {
        loop {
            tokio::select! {
                () = tasks.cancelled() => return,
                () = self.news.notified() => {}
            }
            if let Err(failure) = self.attempt_due(&tasks).await {
                tracing::warn!(%failure, "the reconciler will look after it");
            }
        }
    }
}
