//! Our own tokens, for calls to a neighbour.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Rejection, Role};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::Instant;

use super::oidc::{IssuerError, Oidc};
use crate::status::Chain;

/// How often at most we ask an issuer that is away.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Our own token, from the issuer, by client credentials: got when first needed, kept until shortly
/// before it expires. Clones share it.
#[derive(Clone)]
pub struct ServiceTokens(Arc<Credentials>);

struct Credentials {
    oidc: Oidc,
    client_id: String,
    secret: String,
    /// Held by the one who asks the issuer.
    held: tokio::sync::Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: String,
    /// From when on a new one is wanted, and until when this one is good.
    validity: Option<(Instant, Instant)>,
    /// When the issuer last failed us.
    failed: Option<Instant>,
}

impl ServiceTokens {
    /// A source of tokens for this client of the issuer.
    pub fn new(
        issuer_url: impl Into<String>,
        client_id: impl Into<String>,
        secret: impl Into<String>,
    ) -> ServiceTokens {
        ServiceTokens(Arc::new(Credentials {
            oidc: Oidc::new(issuer_url),
            client_id: client_id.into(),
            secret: secret.into(),
            held: tokio::sync::Mutex::default(),
        }))
    }

    /// A token that is good for a while.
    pub async fn token(&self) -> Result<String, Rejection> {
        if let Ok(held) = self.0.held.try_lock()
            && held.validity.is_some_and(|(renew, _)| Instant::now() < renew)
        {
            return Ok(held.token.clone());
        }
        // A task of its own, for the reason given at `Keys::start`.
        let source = self.clone();
        let renewed = tokio::spawn(async move { source.renew().await }).await;
        renewed.unwrap_or_else(|_| Err(no_token()))
    }

    /// One at a time; the others wait for the outcome.
    async fn renew(&self) -> Result<String, Rejection> {
        let mut held = self.0.held.lock().await;
        let now = Instant::now();
        let good = match held.validity {
            Some((renew, _)) if now < renew => return Ok(held.token.clone()),
            Some((_, end)) => now < end,
            None => false,
        };
        // Those who waited for the same failure do not ask again one by one.
        if held.failed.is_none_or(|at| at.elapsed() >= RETRY_INTERVAL) {
            match self.0.fetch().await {
                Ok((token, lifetime)) => {
                    let validity = Some((now + lifetime.mul_f32(0.8), now + lifetime));
                    *held = Held { token, validity, failed: None };
                    return Ok(held.token.clone());
                }
                Err(error) => {
                    held.failed = Some(Instant::now());
                    tracing::warn!(
                        issuer = self.0.oidc.issuer(),
                        error = %Chain(&error),
                        "cannot get a token for calls to neighbours"
                    );
                }
            }
        }
        if good { Ok(held.token.clone()) } else { Err(no_token()) }
    }
}

fn no_token() -> Rejection {
    let message = "the identity provider cannot be asked for a token";
    Rejection::unavailable("ISSUER_UNAVAILABLE", message)
}

impl Credentials {
    async fn fetch(&self) -> Result<(String, Duration), IssuerError> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            #[serde(default)]
            expires_in: u64,
        }
        let discovery = self.oidc.discover().await?;
        let grant = [("grant_type", "client_credentials"), ("scope", Role::Service.as_str())];
        let post = self.oidc.http.post(&discovery.token_endpoint);
        let methods = discovery.token_endpoint_auth_methods_supported;
        let post = match methods.iter().any(|method| method == "client_secret_post") {
            true => {
                let ours = [("client_id", &*self.client_id), ("client_secret", &*self.secret)];
                post.form(&[grant, ours].concat())
            }
            // Both are encoded as in a form first: RFC 6749, 2.3.1.
            false => {
                post.form(&grant).basic_auth(encoded(&self.client_id), Some(encoded(&self.secret)))
            }
        };
        let granted: Granted = post.send().await?.error_for_status()?.json().await?;
        Ok((granted.access_token, Duration::from_secs(granted.expires_in)))
    }
}

fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
