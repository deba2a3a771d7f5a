//! What __name__ does when it hears from driving.

use std::sync::Arc;

use kernel::{Cause, Failure};
use platform::broker::Delivery;
use platform::consumer;
use prost::Name;
use proto::driving::v1::DrivingFinished;

use crate::app::__Names__;
use crate::domain::Draft;

/// The policies of the context.
pub(crate) struct Policies {
    __names__: Arc<__Names__>,
}

impl consumer::Policies for Policies {
    async fn apply(&self, event: &Delivery) -> Result<(), Failure> {
        let cause = event.cause(crate::NAME);
        match event.event() {
            DrivingFinished::NAME => self.when_driving_finished(&cause, event.decode()?).await,
            // What comes before the end is none of our business.
            _ => Ok(()),
        }
    }
}

impl Policies {
    pub(crate) fn new(__names__: Arc<__Names__>) -> Policies {
        Policies { __names__ }
    }

    async fn when_driving_finished(
        &self,
        by: &Cause,
        event: DrivingFinished,
    ) -> Result<(), Failure> {
        let draft = Draft {
            customer: event.customer.parse()?,
            allocation: Some(event.allocation.parse()?),
            note: String::new(),
        };
        self.__names__.create(by, draft).await.map(drop)
    }
}
