//! What we ask an OpenID Connect issuer, over HTTP.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long we wait for the issuer.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(5);

/// An issuer. Clones share connections.
#[derive(Clone)]
pub(super) struct Oidc {
    issuer: String,
    pub(super) http: reqwest::Client,
}

/// What it says of itself.
#[derive(Deserialize)]
pub(super) struct Discovery {
    issuer: String,
    pub(super) jwks_uri: String,
    #[serde(default)]
    pub(super) token_endpoint: String,
    /// How clients may say who they are; by Basic, if this says nothing.
    #[serde(default)]
    pub(super) token_endpoint_auth_methods_supported: Vec<String>,
}

/// Why the issuer did not help.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssuerError {
    #[error("cannot ask the issuer")]
    Http(#[from] reqwest::Error),
    #[error("the issuer at {asked} says that it is {claimed}")]
    OtherIssuer { asked: String, claimed: String },
    #[error("the issuer has no key that we can use")]
    NoKeys,
}

impl Oidc {
    pub(super) fn new(issuer: impl Into<String>) -> Oidc {
        let issuer = issuer.into();
        let builder = reqwest::Client::builder().timeout(ISSUER_TIMEOUT);
        // Nobody's proxy knows our loopback.
        let loopback = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let builder = match loopback.iter().any(|start| issuer.starts_with(start)) {
            true => builder.no_proxy(),
            false => builder,
        };
        Oidc { issuer, http: builder.build().unwrap_or_default() }
    }

    /// Its address.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What it says of itself now.
    pub(super) async fn discover(&self) -> Result<Discovery, IssuerError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let discovery: Discovery = self.get(&url).await?;
        if discovery.issuer != self.issuer {
            let (asked, claimed) = (self.issuer.clone(), discovery.issuer);
            return Err(IssuerError::OtherIssuer { asked, claimed });
        }
        Ok(discovery)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, IssuerError> {
        Ok(self.http.get(url).send().await?.error_for_status()?.json().await?)
    }
}
