//! What driving does when it hears from allocation and payment.

use std::sync::Arc;

use kernel::{Cause, Failure, Rejection};
use platform::broker::Delivery;
use platform::consumer;
use prost::Name;
use proto::allocation::v1::allocation_cancel_requested::CancelCause as WireCause;
use proto::allocation::v1::{AllocationCancelRequested, AllocationRequested};
use proto::payment::v1::{PaymentApproved, PaymentDeclined, PaymentDeferred, PaymentRefunded};
use proto::words;

use crate::app::Drivings;
use crate::domain::{CancelCause, PaymentState, Ride};
use crate::ports::Payments;

/// The policies of the context.
pub(crate) struct Policies<P> {
    drivings: Arc<Drivings<P>>,
}

impl<P: Payments> consumer::Policies for Policies<P> {
    async fn apply(&self, event: &Delivery) -> Result<(), Failure> {
        let cause = event.cause(crate::NAME);
        match event.event() {
            AllocationRequested::NAME => {
                self.when_allocation_requested(&cause, event.decode()?).await
            }
            AllocationCancelRequested::NAME => {
                self.when_allocation_cancel_requested(&cause, event.decode()?).await
            }
            PaymentApproved::NAME => self.when_payment_approved(&cause, event.decode()?).await,
            PaymentDeferred::NAME => self.when_payment_deferred(&cause, event.decode()?).await,
            PaymentDeclined::NAME => self.when_payment_declined(&cause, event.decode()?).await,
            PaymentRefunded::NAME => self.when_payment_refunded(&cause, event.decode()?).await,
            // That an allocation is over follows from what driving itself has said.
            _ => Ok(()),
        }
    }
}

impl<P: Payments> Policies<P> {
    pub(crate) fn new(drivings: Arc<Drivings<P>>) -> Policies<P> {
        Policies { drivings }
    }

    async fn when_allocation_requested(
        &self,
        by: &Cause,
        event: AllocationRequested,
    ) -> Result<(), Failure> {
        let pickup = event.pickup.as_ref().map(|at| words::parse_place("pickup", at));
        let destination = event.destination.unwrap_or_default();
        let ride = Ride {
            allocation: event.allocation.parse()?,
            customer: event.customer.parse()?,
            pickup: pickup.transpose()?,
            destination: words::parse_place("destination", &destination)?,
        };
        self.drivings.open(by, ride).await.map(drop)
    }

    /// Driving decides between this cancel and a start; allocation hears who has won.
    async fn when_allocation_cancel_requested(
        &self,
        by: &Cause,
        event: AllocationCancelRequested,
    ) -> Result<(), Failure> {
        let cause = match event.cause() {
            WireCause::Customer => CancelCause::Customer,
            WireCause::Unanswered => CancelCause::Unanswered,
            WireCause::Unspecified => {
                let message = "must be one of the causes of a cancel";
                return Err(Rejection::invalid("cause", "INVALID_EVENT", message).into());
            }
        };
        let allocation = event.allocation.parse()?;
        self.drivings.cancel(by, allocation, cause, event.reason).await.map(drop)
    }

    async fn when_payment_approved(
        &self,
        by: &Cause,
        event: PaymentApproved,
    ) -> Result<(), Failure> {
        self.payment_settled(by, &event.driving, &event.payment, PaymentState::Approved).await
    }

    async fn when_payment_deferred(
        &self,
        by: &Cause,
        event: PaymentDeferred,
    ) -> Result<(), Failure> {
        self.payment_settled(by, &event.driving, &event.payment, PaymentState::Deferred).await
    }

    async fn when_payment_declined(
        &self,
        by: &Cause,
        event: PaymentDeclined,
    ) -> Result<(), Failure> {
        self.payment_settled(by, &event.driving, &event.payment, PaymentState::Declined).await
    }

    async fn when_payment_refunded(
        &self,
        by: &Cause,
        event: PaymentRefunded,
    ) -> Result<(), Failure> {
        self.payment_settled(by, &event.driving, &event.payment, PaymentState::Refunded).await
    }

    async fn payment_settled(
        &self,
        by: &Cause,
        driving: &str,
        payment: &str,
        state: PaymentState,
    ) -> Result<(), Failure> {
        let (driving, payment) = (driving.parse()?, payment.parse()?);
        self.drivings.payment_settled(by, driving, payment, state).await.map(drop)
    }
}
