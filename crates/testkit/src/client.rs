//! Typed clients, each with somebody's token.

use std::str::FromStr;

use proto::allocation::v1::allocation_service_client::AllocationServiceClient;
use proto::dashboard::v1::dashboard_service_client::DashboardServiceClient;
use proto::driving::v1::driving_service_client::DrivingServiceClient;
use proto::message::v1::message_service_client::MessageServiceClient;
use proto::payment::v1::payment_service_client::PaymentServiceClient;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// A channel that says who is calling.
pub type Known = InterceptedService<Channel, Bearer>;

/// A client of the allocation context.
pub type AllocationClient = AllocationServiceClient<Known>;
/// A client of the driving context.
pub type DrivingClient = DrivingServiceClient<Known>;
/// A client of the payment context.
pub type PaymentClient = PaymentServiceClient<Known>;
/// A client of the dashboard context.
pub type DashboardClient = DashboardServiceClient<Known>;
/// A client of the message context.
pub type MessageClient = MessageServiceClient<Known>;

/// A token that is sent with each call.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// The value of the `authorization` header.
    ///
    /// # Panics
    /// When the token cannot be in a header.
    #[must_use]
    pub fn new(token: &str) -> Self {
        match MetadataValue::from_str(&format!("Bearer {token}")) {
            Ok(value) => Self(value),
            Err(error) => panic!("a token that cannot be in a header: {error}"),
        }
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}
