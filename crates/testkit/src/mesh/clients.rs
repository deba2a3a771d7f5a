//! Who calls a mesh.

use kernel::Role;
use serde::Deserialize;
use tonic::transport::{Channel, Endpoint};

use super::{Mesh, orderly};
use crate::client::{
    AllocationClient, Bearer, DashboardClient, DrivingClient, Known, MessageClient, PaymentClient,
};
use crate::postgres::chain;

impl Mesh {
    /// A token for somebody.
    ///
    /// # Panics
    /// When the issuer gives none.
    pub async fn token(&self, role: Role, subject: &str) -> String {
        let granted = access_token(&self.http, &self.ready.gateway, role, subject).await;
        orderly(granted.map_err(|error| format!("no token: {}", chain(&error))))
    }

    /// A client of the allocation context, with a token from [`Mesh::token`].
    #[must_use]
    pub fn allocation(&self, token: &str) -> AllocationClient {
        AllocationClient::new(self.known("allocation", token))
    }

    /// A client of the driving context, with a token from [`Mesh::token`].
    #[must_use]
    pub fn driving(&self, token: &str) -> DrivingClient {
        DrivingClient::new(self.known("driving", token))
    }

    /// A client of the payment context, with a token from [`Mesh::token`].
    #[must_use]
    pub fn payment(&self, token: &str) -> PaymentClient {
        PaymentClient::new(self.known("payment", token))
    }

    /// A client of the dashboard context, with a token from [`Mesh::token`].
    #[must_use]
    pub fn dashboard(&self, token: &str) -> DashboardClient {
        DashboardClient::new(self.known("dashboard", token))
    }

    /// A client of the message context, with a token from [`Mesh::token`].
    #[must_use]
    pub fn message(&self, token: &str) -> MessageClient {
        MessageClient::new(self.known("message", token))
    }

    /// A connection to a context that is made when it is first used.
    ///
    /// # Panics
    /// When there is no such context.
    #[must_use]
    pub fn channel(&self, context: &str) -> Channel {
        lazy(&format!("http://{}", self.address(context)))
    }

    fn known(&self, context: &str, token: &str) -> Known {
        Known::new(self.channel(context), Bearer::new(token))
    }
}

/// A token for somebody from the development issuer at this address.
///
/// # Errors
/// When the issuer gives none.
pub async fn access_token(
    http: &reqwest::Client,
    issuer: &str,
    role: Role,
    subject: &str,
) -> Result<String, reqwest::Error> {
    #[derive(Deserialize)]
    struct Granted {
        access_token: String,
    }
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", subject),
        ("client_secret", "dev"),
        ("scope", role.as_str()),
    ];
    let response = http.post(format!("{issuer}/oauth2/token")).form(&form).send().await?;
    Ok(response.error_for_status()?.json::<Granted>().await?.access_token)
}

fn lazy(url: &str) -> Channel {
    orderly(Endpoint::from_shared(url.to_owned())).connect_lazy()
}
