//! The one message of each driving that its fee comes later.
//!
//! Two contexts may say so: driving, when it could not reach payment, and payment, when it could not
//! reach the provider. There is no order between them, nor between driving and payment's verdict. So
//! each ride has one entry, which is made once and never changes: under the driving's id either the
//! message that tells of the delay, whoever was first, or, when the verdict was first, a SKIPPED one.
//! Whoever tells a verdict brings the message of the delay to its end before; so it never comes after.

use kernel::{DrivingId, Failure};
use platform::broker::Broker;
use prost::Message as _;
use proto::message::v1::Message;
use proto::message::v1::message::State;

use crate::Config;
use crate::bucket::Bucket;

/// The deferrals of all drivings.
pub(crate) struct Deferrals {
    bucket: Bucket,
}

impl Deferrals {
    /// The deferrals beside the messages of this configuration.
    pub(crate) fn new(broker: &Broker, config: &Config) -> Deferrals {
        let name = format!("{}_DEFERRALS", config.bucket);
        Deferrals { bucket: Bucket::new(broker.clone(), name) }
    }

    /// The fee comes later: which message tells so, this one or an earlier one; none when the
    /// verdict is known.
    pub(crate) async fn deferred(
        &self,
        driving: DrivingId,
        message: &Message,
    ) -> Result<Option<Message>, Failure> {
        let first =
            self.bucket.first(driving.0.to_string(), message.encode_to_vec().into()).await?;
        let first = Message::decode(first).map_err(|error| Failure::Internal(error.into()))?;
        Ok(Some(first).filter(|message| message.state() != State::Skipped))
    }

    /// The verdict is known: which message of a delay has to be told before, if any.
    pub(crate) async fn settled(&self, driving: DrivingId) -> Result<Option<Message>, Failure> {
        let none = Message { state: State::Skipped.into(), ..Default::default() };
        self.deferred(driving, &none).await
    }
}
