//! What allocation does when it hears from driving and payment.

use std::sync::Arc;

use kernel::{Cause, Failure, PaymentId, Rejection};
use platform::broker::Delivery;
use platform::consumer;
use prost::Name;
use proto::driving::v1::driving::State as Driving;
use proto::driving::v1::{
    DrivingApproved, DrivingCancelRejected, DrivingCancelled, DrivingFinished, DrivingOpened,
    DrivingStarted,
};
use proto::payment::v1::{PaymentApproved, PaymentDeclined, PaymentDeferred, PaymentRefunded};

use crate::app::Allocations;
use crate::domain::State;

/// The policies of the context.
pub(crate) struct Policies {
    allocations: Arc<Allocations>,
}

impl consumer::Policies for Policies {
    async fn apply(&self, event: &Delivery) -> Result<(), Failure> {
        let cause = event.cause(crate::NAME);
        match event.event() {
            DrivingOpened::NAME => self.when_driving_opened(&cause, event.decode()?).await,
            DrivingApproved::NAME => self.when_driving_approved(&cause, event.decode()?).await,
            DrivingStarted::NAME => self.when_driving_started(&cause, event.decode()?).await,
            DrivingFinished::NAME => self.when_driving_finished(&cause, event.decode()?).await,
            DrivingCancelled::NAME => self.when_driving_cancelled(&cause, event.decode()?).await,
            DrivingCancelRejected::NAME => {
                self.when_driving_cancel_rejected(&cause, event.decode()?).await
            }
            PaymentDeclined::NAME => self.when_payment_declined(&cause, event.decode()?).await,
            PaymentApproved::NAME | PaymentDeferred::NAME | PaymentRefunded::NAME => {
                self.when_payment_not_due(&cause, PaymentId(event.aggregate)).await
            }
            // What driving knows of a payment, payment says itself.
            _ => Ok(()),
        }
    }
}

impl Policies {
    pub(crate) fn new(allocations: Arc<Allocations>) -> Policies {
        Policies { allocations }
    }

    async fn when_driving_opened(&self, by: &Cause, event: DrivingOpened) -> Result<(), Failure> {
        let (id, driving) = (event.allocation.parse()?, event.driving.parse()?);
        self.allocations.driving_opened(by, id, driving).await.map(drop)
    }

    async fn when_driving_approved(
        &self,
        by: &Cause,
        event: DrivingApproved,
    ) -> Result<(), Failure> {
        let (id, driver) = (event.allocation.parse()?, event.driver.parse()?);
        self.allocations.driving_approved(by, id, driver).await.map(drop)
    }

    async fn when_driving_started(&self, by: &Cause, event: DrivingStarted) -> Result<(), Failure> {
        self.allocations.driving_started(by, event.allocation.parse()?).await.map(drop)
    }

    async fn when_driving_finished(
        &self,
        by: &Cause,
        event: DrivingFinished,
    ) -> Result<(), Failure> {
        self.allocations.driving_finished(by, event.allocation.parse()?).await.map(drop)
    }

    async fn when_driving_cancelled(
        &self,
        by: &Cause,
        event: DrivingCancelled,
    ) -> Result<(), Failure> {
        self.allocations.driving_cancelled(by, event.allocation.parse()?).await.map(drop)
    }

    async fn when_driving_cancel_rejected(
        &self,
        by: &Cause,
        event: DrivingCancelRejected,
    ) -> Result<(), Failure> {
        let driving = match event.state() {
            Driving::Approved => State::Approved,
            Driving::Started => State::DrivingStarted,
            Driving::Finished => State::DrivingFinished,
            Driving::Unspecified | Driving::Requested | Driving::Cancelled => {
                let message = "only a driving that goes on can reject a cancel";
                return Err(Rejection::invalid("state", "INVALID_EVENT", message).into());
            }
        };
        let id = event.allocation.parse()?;
        self.allocations.driving_cancel_rejected(by, id, driving).await.map(drop)
    }

    async fn when_payment_declined(
        &self,
        by: &Cause,
        event: PaymentDeclined,
    ) -> Result<(), Failure> {
        let (payment, customer) = (event.payment.parse()?, event.customer.parse()?);
        self.allocations.payment_declined(by, payment, &customer).await
    }

    /// It is taken, or will be without the customer, or has been given back.
    async fn when_payment_not_due(&self, by: &Cause, payment: PaymentId) -> Result<(), Failure> {
        self.allocations.payment_not_due(by, payment).await
    }
}
