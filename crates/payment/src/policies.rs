//! What payment does when it hears from driving.

use std::sync::Arc;

use kernel::{Cause, Failure};
use platform::broker::Delivery;
use platform::consumer;
use prost::Name;
use proto::driving::v1::DrivingFinished;
use proto::words;

use crate::app::Payments;
use crate::domain::Fee;

/// The policies of the context.
pub(crate) struct Policies {
    payments: Arc<Payments>,
}

impl consumer::Policies for Policies {
    async fn apply(&self, event: &Delivery) -> Result<(), Failure> {
        let cause = event.cause(crate::NAME);
        match event.event() {
            DrivingFinished::NAME => self.when_driving_finished(&cause, event.decode()?).await,
            // Only a finished driving has a fee.
            _ => Ok(()),
        }
    }
}

impl Policies {
    pub(crate) fn new(payments: Arc<Payments>) -> Policies {
        Policies { payments }
    }

    async fn when_driving_finished(
        &self,
        by: &Cause,
        event: DrivingFinished,
    ) -> Result<(), Failure> {
        let fee = Fee::new(
            event.driving.parse()?,
            event.allocation.parse()?,
            event.customer.parse()?,
            words::parse_money("fare", event.fare.as_ref())?,
        )?;
        self.payments.driving_finished(by, fee).await
    }
}
