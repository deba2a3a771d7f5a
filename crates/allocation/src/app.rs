//! The use cases: what customers may do, and what the clock does.

use std::sync::Arc;
use std::time::Duration;

use kernel::{
    Actor, AllocationId, Cause, Clock, CustomerId, DriverId, DrivingId, Failure, Page, PageRequest,
    PaymentId, Recorded, Repository,
};
use platform::store::{Store, Watch};
use tokio::time::{Instant, timeout_at};

use crate::Config;
use crate::domain::{Allocation, Filter, State, Wish, open_allocation_exists};
use crate::dues::Dues;

/// The allocations of all customers.
pub struct Allocations {
    store: Store<Allocation>,
    dues: Dues,
    clock: Arc<dyn Clock>,
    config: Config,
}

/// What every use case answers with.
pub type Outcome = Result<Recorded<Allocation>, Failure>;

impl Allocations {
    /// The allocations in this store, and the dues beside them.
    pub fn new(
        store: Store<Allocation>,
        dues: Dues,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Allocations {
        Allocations { store, dues, clock, config }
    }

    /// A customer asks for a car. The store refuses who owes a fee, and its constraint on open slots
    /// decides races; another slot is tried only when one is taken.
    pub async fn request(&self, cause: &Cause, wish: Wish) -> Outcome {
        let max = self.config.max_open_per_customer;
        for slot in 0..max {
            let id = AllocationId(self.clock.new_id());
            let (now, terms) = (self.clock.now(), self.config.terms());
            let (allocation, events) = Allocation::request(id, wish.clone(), slot, now, terms);
            match self.store.create(cause, allocation, events).await {
                Err(Failure::Rejected(no)) if no == open_allocation_exists(1) => {}
                outcome => return outcome,
            }
        }
        Err(open_allocation_exists(max).into())
    }

    /// A customer wants to cancel. Waits `patience` for driving's decision; after that the answer
    /// is CANCELLING, and the decision comes later.
    pub async fn cancel(
        &self,
        cause: &Cause,
        id: AllocationId,
        reason: String,
        etag: Option<String>,
        patience: Duration,
    ) -> Outcome {
        let decision = move |allocation: &mut Recorded<Allocation>| {
            allocation.require_etag(etag.as_deref())?;
            allocation.cancel(reason.clone())
        };
        let allocation = self.store.change(cause, id.0, decision).await?;
        let allocation = self.decided(allocation, &cause.actor, patience).await?;
        allocation.cancel_outcome()?;
        Ok(allocation)
    }

    async fn decided(
        &self,
        mut allocation: Recorded<Allocation>,
        actor: &Actor,
        patience: Duration,
    ) -> Outcome {
        let deadline = Instant::now() + patience;
        let mut watch = self.store.watch(actor, allocation.id.0, allocation.revision);
        while allocation.state == State::Cancelling {
            match timeout_at(deadline, watch.next()).await {
                Ok(change) => allocation = change?,
                Err(_) => break,
            }
        }
        Ok(allocation)
    }

    /// One allocation that the actor may see.
    pub async fn get(&self, actor: &Actor, id: AllocationId) -> Outcome {
        self.store.get(actor, id.0).await
    }

    /// The allocations that the actor may see, newest first.
    pub async fn list(
        &self,
        actor: &Actor,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Recorded<Allocation>>, Failure> {
        self.store.list(actor, filter, page).await
    }

    /// Follows one allocation from after this revision on.
    pub fn watch(&self, actor: &Actor, id: AllocationId, after: i64) -> Watch<Allocation> {
        self.store.watch(actor, id.0, after)
    }

    /// Calls off what no driver has accepted in time; a hundred at a time.
    pub async fn expire_unanswered(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let timer = Actor::service(crate::NAME);
        let overdue = Filter { overdue_at: Some(now), ..Filter::default() };
        let page = PageRequest { size: 100, after: None };
        let overdue = self.store.list(&timer, &overdue, &page).await?.items;
        for allocation in &overdue {
            let cause = Cause::own(self.clock.new_id(), crate::NAME);
            self.store.change(&cause, allocation.id.0, move |a| Ok(a.expire(now))).await?;
        }
        Ok(())
    }

    /// A driving has been opened.
    pub async fn driving_opened(
        &self,
        by: &Cause,
        id: AllocationId,
        driving: DrivingId,
    ) -> Outcome {
        self.store.change(by, id.0, move |a| Ok(a.driving_opened(driving))).await
    }

    /// A driver has accepted.
    pub async fn driving_approved(
        &self,
        by: &Cause,
        id: AllocationId,
        driver: DriverId,
    ) -> Outcome {
        self.store.change(by, id.0, move |a| Ok(a.driving_approved(driver.clone()))).await
    }

    /// The driving has started.
    pub async fn driving_started(&self, by: &Cause, id: AllocationId) -> Outcome {
        self.store.change(by, id.0, |a| Ok(a.driving_started())).await
    }

    /// The driving has reached its end.
    pub async fn driving_finished(&self, by: &Cause, id: AllocationId) -> Outcome {
        self.store.change(by, id.0, |a| Ok(a.driving_finished())).await
    }

    /// The driving has been called off.
    pub async fn driving_cancelled(&self, by: &Cause, id: AllocationId) -> Outcome {
        self.store.change(by, id.0, |a| Ok(a.driving_cancelled())).await
    }

    /// The driving goes on.
    pub async fn driving_cancel_rejected(
        &self,
        by: &Cause,
        id: AllocationId,
        driving: State,
    ) -> Outcome {
        self.store.change(by, id.0, move |a| Ok(a.driving_cancel_rejected(driving))).await
    }

    /// The provider refused to take a fee: its customer owes it.
    pub async fn payment_declined(
        &self,
        by: &Cause,
        payment: PaymentId,
        customer: &CustomerId,
    ) -> Result<(), Failure> {
        self.dues.open(by, payment, customer, self.clock.now()).await
    }

    /// A fee is taken, given back, or going to be taken without its customer: nobody owes it.
    pub async fn payment_not_due(&self, by: &Cause, payment: PaymentId) -> Result<(), Failure> {
        self.dues.close(by, payment, self.clock.now()).await
    }
}
