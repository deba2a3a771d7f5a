//! The use cases: a fee is to be taken, now or when its time has come.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kernel::{
    Actor, Cause, Clock, DrivingId, Failure, Kind, Page, PageRequest, PaymentId, Recorded,
    Rejection, Repository,
};
use platform::db::Db;
use platform::shutdown::Shutdown;
use platform::store::Store;
use tokio::time::Instant;

use crate::domain::{Claim, Fee, Filter, Payment, payment_exists};
use crate::ports::{Charge, Provider, Verdict};
use crate::{Config, entity};

/// How many due payments the reconciler takes at a time,
const BATCH: u64 = 100;
/// and for how many of them it asks the provider at once.
const CONCURRENCY: usize = 8;
/// With less time than this the provider is not asked at all.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);

/// The payments of all drivings.
pub struct Payments {
    store: Store<Payment>,
    db: Db,
    provider: Box<dyn Provider>,
    clock: Arc<dyn Clock>,
    config: Config,
}

/// What every use case answers with.
pub type Outcome = Result<Recorded<Payment>, Failure>;

impl Payments {
    /// The payments in this store, which is in this database.
    pub fn new(
        store: Store<Payment>,
        db: Db,
        provider: Box<dyn Provider>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Payments {
        Payments { store, db, provider, clock, config }
    }

    /// Takes the fee of a driving, once for ever, and answers with its payment as it is by then. The
    /// provider is waited for until `until`, and never longer than configured.
    pub async fn pay(&self, cause: &Cause, fee: Fee, until: Option<Instant>) -> Outcome {
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
        self.attempt(cause, payment, claim, until).await
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

    /// Tries again what is due, the oldest first; answers how many there were.
    pub async fn attempt_due(&self, tasks: &Shutdown) -> Result<usize, Failure> {
        let due = entity::due(&self.db, self.clock.now(), BATCH).await?;
        let count = due.len();
        futures::stream::iter(due)
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

    async fn attempt_again(&self, id: PaymentId) -> Outcome {
        let claim = self.new_claim();
        let cause = Cause::own(claim.id, crate::NAME);
        let payment = self.claim(&cause, id, claim).await?;
        self.attempt(&cause, payment, claim, None).await
    }

    fn new_claim(&self) -> Claim {
        Claim { id: self.clock.new_id(), time: self.clock.now() }
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

    /// Asks the provider and puts on record what came of it, if the payment is ours to ask for.
    async fn attempt(
        &self,
        cause: &Cause,
        payment: Recorded<Payment>,
        claim: Claim,
        until: Option<Instant>,
    ) -> Outcome {
        if payment.claim != Some(claim) {
            return Ok(payment);
        }
        let verdict = self.ask(&payment, until).await;
        let trace = cause.trace.clone();
        let cause = Cause { trace, ..Cause::own(payment.outcome_cause(), crate::NAME) };
        let (now, retry) = (self.clock.now(), self.config.retry());
        let decision = move |payment: &mut Recorded<Payment>| match verdict.clone() {
            Verdict::Approved { reference } => payment.approved(claim, reference, now),
            Verdict::Declined { reason } => payment.declined(claim, reason),
            Verdict::NotCharged => payment.deferred(claim, now, retry),
            Verdict::Unknown => payment.unknown(claim, now, retry),
        };
        match self.store.change(&cause, payment.id.0, decision).await {
            // So late that another attempt has the say.
            Err(Failure::Rejected(Rejection { kind: Kind::Aborted, .. })) => {
                self.store.get(&cause.actor, payment.id.0).await
            }
            outcome => outcome,
        }
    }

    async fn ask(&self, payment: &Payment, until: Option<Instant>) -> Verdict {
        let most = self.config.provider_timeout;
        let left = until.map_or(most, |until| until.saturating_duration_since(Instant::now()));
        if left < LEAST_PATIENCE {
            return Verdict::NotCharged;
        }
        self.provider.charge(&Charge::from(payment), left.min(most)).await
    }

    async fn of_driving(&self, actor: &Actor, driving: DrivingId) -> Outcome {
        let filter = Filter { driving: Some(driving), ..Filter::default() };
        let page = PageRequest { size: 1, after: None };
        let found = self.store.list(actor, &filter, &page).await?.items.pop();
        let name = format!("payment of {driving}");
        found.ok_or_else(|| Rejection::not_found("PAYMENT_NOT_FOUND", name).into())
    }

    /// One payment that the actor may see.
    pub async fn get(&self, actor: &Actor, id: PaymentId) -> Outcome {
        self.store.get(actor, id.0).await
    }

    /// The payments that the actor may see, newest first.
    pub async fn list(
        &self,
        actor: &Actor,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Recorded<Payment>>, Failure> {
        self.store.list(actor, filter, page).await
    }
}
