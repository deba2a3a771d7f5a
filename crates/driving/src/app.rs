//! The use cases: what drivers do, and what allocation and payment have to say.

use std::sync::Arc;
use std::time::Duration;

use kernel::{
    Actor, AllocationId, Cause, Clock, DriverId, DrivingId, Failure, Page, PageRequest, PaymentId,
    Recorded, Rejection, Repository, Uuid,
};
use platform::context::Context;
use platform::db::Db;
use platform::store::Store;

use crate::Config;
use crate::declines::Declines;
use crate::domain::{CancelCause, Driving, Filter, PaymentState, Ride, already_opened, not_found};
use crate::near::Near;
use crate::nearest::{Nearest, NearestRequest, nearest};
use crate::open::OpenDrivings;
use crate::ports::Payments;

/// The drivings of all drivers.
pub struct Drivings<P> {
    store: Store<Driving>,
    declines: Declines,
    db: Db,
    clock: Arc<dyn Clock>,
    config: Config,
    payments: P,
}

/// What every use case answers with.
pub type Outcome = Result<Recorded<Driving>, Failure>;

impl<P: Payments> Drivings<P> {
    /// The drivings in this context's database.
    pub fn new(cx: &Context, config: Config, payments: P) -> Drivings<P> {
        Drivings {
            store: cx.store(),
            declines: Declines::new(cx.db.clone()),
            db: cx.db.clone(),
            clock: cx.clock.clone(),
            config,
            payments,
        }
    }

    /// A driver wants to drive it. What they declined is hidden from them, and stays so.
    pub async fn accept(&self, cause: &Cause, id: DrivingId, etag: Option<String>) -> Outcome {
        let driver = driver(cause);
        if self.declines.contains(&driver, id).await? {
            return Err(not_found(id).into());
        }
        let decision = move |driving: &mut Recorded<Driving>| {
            driving.require_etag(etag.as_deref())?;
            driving.accept(driver.clone())
        };
        self.store.change(cause, id.0, decision).await
    }

    /// A driver does not want to see it again. The driving stays as it is; that the driver said so
    /// is a note beside it.
    pub async fn decline(
        &self,
        cause: &Cause,
        id: DrivingId,
        reason: String,
        etag: Option<String>,
    ) -> Outcome {
        let said = reason.clone();
        let decision = move |driving: &mut Recorded<Driving>| {
            driving.require_etag(etag.as_deref())?;
            driving.decline(&said).map(|()| vec![])
        };
        let driving = self.store.change(cause, id.0, decision).await?;
        self.declines.note(&driver(cause), id, reason, self.clock.now()).await?;
        Ok(driving)
    }

    /// The customer is on board.
    pub async fn start(&self, cause: &Cause, id: DrivingId, etag: Option<String>) -> Outcome {
        let (driver, now) = (driver(cause), self.clock.now());
        let decision = move |driving: &mut Recorded<Driving>| {
            driving.require_driver(&driver)?;
            driving.require_etag(etag.as_deref())?;
            driving.start(&driver, now)
        };
        self.store.change(cause, id.0, decision).await
    }

    /// Arrived: change, charge, change. The fare is kept whatever becomes of the payment, which may
    /// take `patience` at most. Who repeats the request after a crash in between goes on behind it.
    pub async fn finish(
        &self,
        cause: &Cause,
        id: DrivingId,
        etag: Option<String>,
        patience: Duration,
    ) -> Outcome {
        let (driver, now, tariff) = (driver(cause), self.clock.now(), self.config.fare.tariff());
        let decision = move |driving: &mut Recorded<Driving>| {
            driving.require_driver(&driver)?;
            driving.require_etag(etag.as_deref())?;
            driving.finish(&driver, now, &tariff)
        };
        let driving = self.store.change(cause, id.0, decision).await?;
        // A repetition is answered as the first time, and takes the fee only if nobody has.
        let present = self.store.get(&Actor::service(crate::NAME), driving.id.0).await?;
        let charge = match present.fee_due() {
            Some(fee) => {
                let patience = patience.min(self.config.payment_deadline);
                Some(self.payments.charge(&fee, patience).await)
            }
            None => None,
        };
        let decision = move |driving: &mut Recorded<Driving>| match charge {
            Some(charge) => Ok(driving.payment_settled_by_call(charge)),
            None => Ok(vec![]),
        };
        let settled = Cause { id: Uuid::new_v5(&cause.id, b"payment settled"), ..cause.clone() };
        self.store.change(&settled, id.0, decision).await
    }

    /// One driving that the actor may see.
    pub async fn get(&self, actor: &Actor, id: DrivingId) -> Outcome {
        self.store.get(actor, id.0).await
    }

    /// The drivings that the actor may see, newest first.
    pub async fn list(
        &self,
        actor: &Actor,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Recorded<Driving>>, Failure> {
        self.store.list(actor, filter, page).await
    }

    /// The drivings that the actor may see, nearest first.
    pub async fn list_nearest(
        &self,
        actor: &Actor,
        filter: &Filter,
        request: &NearestRequest,
    ) -> Result<Nearest, Failure> {
        nearest(&self.db, actor, filter, request).await
    }

    /// Follows the open drivings that the actor may see.
    pub fn watch_open(&self, actor: &Actor, near: Option<Near>) -> OpenDrivings {
        OpenDrivings::new(self.store.clone(), self.db.clone(), actor, near)
    }

    /// A customer asks for a car.
    pub async fn open(&self, by: &Cause, ride: Ride) -> Outcome {
        let allocation = ride.allocation;
        let (driving, events) = Driving::open(DrivingId(self.clock.new_id()), ride);
        match self.store.create(by, driving, events).await {
            // One driving for each allocation: this one is it.
            Err(Failure::Rejected(no)) if no == already_opened() => self.serving(allocation).await,
            outcome => outcome,
        }
    }

    /// The driving is to be cancelled.
    pub async fn cancel(
        &self,
        by: &Cause,
        allocation: AllocationId,
        cause: CancelCause,
        reason: String,
    ) -> Outcome {
        let id = self.serving(allocation).await?.id;
        self.store.change(by, id.0, move |d| Ok(d.cancel(cause, reason.clone()))).await
    }

    /// Payment has announced what became of the fee.
    pub async fn payment_settled(
        &self,
        by: &Cause,
        id: DrivingId,
        payment: PaymentId,
        state: PaymentState,
    ) -> Outcome {
        self.store.change(by, id.0, move |d| d.payment_settled(payment, state)).await
    }

    async fn serving(&self, allocation: AllocationId) -> Outcome {
        let filter = Filter { allocation: Some(allocation), ..Filter::default() };
        let one = PageRequest { size: 1, after: None };
        let found = self.store.list(&Actor::service(crate::NAME), &filter, &one).await?.items.pop();
        found.ok_or_else(|| {
            Rejection::not_found("DRIVING_NOT_FOUND", format!("driving of {allocation}")).into()
        })
    }
}

/// The driver whose command it is.
fn driver(cause: &Cause) -> DriverId {
    DriverId::from_subject(&cause.actor.subject)
}
