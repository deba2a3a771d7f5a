//! How the commands at the terminal call a mesh: whose certificates count, and what is said when
//! nobody answers.

use std::error::Error;
use std::fmt;
use std::path::Path;

use platform::client::{Balanced, InvalidEndpoint, balanced_over, endpoint_over};
use platform::tls::ClientTls;
use reqwest::Certificate;
use tonic::transport::Endpoint;

use crate::exit::Exit;

/// Whose servers are called by `https://`: those whose certificates are of these authorities, or
/// without any those that web browsers trust.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    grpc: ClientTls,
    http: Vec<Certificate>,
}

impl Trust {
    /// Only the authorities in this file.
    pub(crate) fn only(ca: &Path) -> Result<Trust, Exit> {
        // It has read the same file a moment ago, and said what is wrong with it.
        let wrong = |error: &dyn fmt::Display| Exit::config(format!("--ca, or TAXI_CA: {error}"));
        let grpc = ClientTls::trusting(ca).map_err(|error| wrong(&error))?;
        let pem = std::fs::read(ca).map_err(|error| wrong(&error))?;
        let http = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(&error))?;
        Ok(Trust { grpc, http })
    }

    /// A client for HTTP.
    pub(crate) fn http(&self) -> Result<reqwest::Client, Exit> {
        // Nobody's proxy knows our loopback.
        let client = reqwest::Client::builder().no_proxy();
        let client = client.tls_built_in_root_certs(self.http.is_empty());
        let client = self.http.iter().cloned().fold(client, |it, ca| it.add_root_certificate(ca));
        client.build().map_err(|error| Exit::failed(error.to_string()))
    }

    /// A server of gRPC at one address.
    pub(crate) fn endpoint(&self, address: &str) -> Result<Endpoint, InvalidEndpoint> {
        endpoint_over(&self.grpc, address)
    }

    /// A channel to all servers of gRPC behind a name.
    pub(crate) fn balanced(&self, address: &str) -> Result<Balanced, InvalidEndpoint> {
        balanced_over(&self.grpc, address)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("authorities", &self.http.len()).finish()
    }
}

/// What it comes down to: the cause that has none itself.
pub(crate) fn cause(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => cause(source),
        None => error.to_string(),
    }
}
