//! The simulated payment provider of a mesh: its log, and what goes wrong with it.

use reqwest::{Client, Method, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A running `taxi provider-sim`, over HTTP.
#[derive(Clone, Debug)]
pub struct Provider {
    http: Client,
    url: String,
}

/// One charge in its log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ProviderCharge {
    /// The provider's own name of it.
    pub id: String,
    /// Under which it was asked for.
    pub idempotency_key: String,
    /// Whole won.
    pub amount: i64,
    /// From whom, by name.
    pub customer: String,
    /// For what, by name.
    pub driving: String,
    /// `approved` or `declined`.
    pub status: String,
}

/// One refund in its log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ProviderRefund {
    /// The provider's own name of it.
    pub id: String,
    /// Under which it was asked for.
    pub idempotency_key: String,
    /// The key of the charge.
    pub charge: String,
    /// Whole won.
    pub amount: i64,
    /// For what, by name.
    pub driving: String,
}

/// One request in its log, whatever came of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ProviderRequest {
    /// `charge`, `look_up` or `refund`.
    pub operation: String,
    /// Under which key.
    pub idempotency_key: String,
}

type Result<T> = std::result::Result<T, reqwest::Error>;

impl Provider {
    /// The provider at this base address.
    #[must_use]
    pub fn at(url: &str) -> Self {
        // Nobody's proxy knows our loopback.
        let http = Client::builder().no_proxy().build().unwrap_or_default();
        Self { http, url: url.to_owned() }
    }

    /// Its base address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets something go wrong, such as `provider.latency` = `2s`.
    ///
    /// # Errors
    /// When it does not answer, or knows no such fault or value.
    pub async fn set_fault(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/v1/faults/{name}");
        done(self.request(Method::PUT, &path).body(value.to_owned())).await
    }

    /// All is well again, as far as it knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn clear_faults(&self) -> Result<()> {
        done(self.request(Method::DELETE, "/v1/faults")).await
    }

    /// All charges, oldest first.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn charges(&self) -> Result<Vec<ProviderCharge>> {
        #[derive(Deserialize)]
        struct Log {
            charges: Vec<ProviderCharge>,
        }
        Ok(self.read::<Log>("/v1/charges").await?.charges)
    }

    /// All refunds, oldest first.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn refunds(&self) -> Result<Vec<ProviderRefund>> {
        #[derive(Deserialize)]
        struct Log {
            refunds: Vec<ProviderRefund>,
        }
        Ok(self.read::<Log>("/v1/refunds").await?.refunds)
    }

    /// All requests, oldest first: more than charges, when answers were lost.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn requests(&self) -> Result<Vec<ProviderRequest>> {
        #[derive(Deserialize)]
        struct Log {
            requests: Vec<ProviderRequest>,
        }
        Ok(self.read::<Log>("/v1/requests").await?.requests)
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.request(Method::GET, path).send().await?.error_for_status()?.json().await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }
}

async fn done(request: RequestBuilder) -> Result<()> {
    request.send().await?.error_for_status().map(drop)
}
