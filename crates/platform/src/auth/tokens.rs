//! Our own tokens, for calls to a neighbour.
//!
//! A token that is good is used at once, however the issuer is: towards its end a new one is got
//! beside the calls. Only who has no good token waits for the issuer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::{Rejection, Role};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::oidc::{IssuerError, Oidc};
use crate::status::Chain;

/// How often at most we ask an issuer that is away.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a call without a good token waits for the issuer at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Our own token, from the issuer, by client credentials: got when first needed, and anew from
/// shortly before it expires. Clones share it.
#[derive(Clone)]
pub struct ServiceTokens(Arc<Credentials>);

struct Credentials {
    oidc: Oidc,
    client_id: String,
    secret: String,
    held: Mutex<Held>,
    /// Held by the one who asks the issuer.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Held {
    token: String,
    /// From when on a new one is wanted, and until when this one is good.
    validity: Option<(Instant, Instant)>,
    /// When the issuer last failed us.
    failed: Option<Instant>,
}

impl Held {
    fn new(token: String, since: Instant, lifetime: Duration) -> Held {
        let validity = Some((since + lifetime.mul_f32(0.8), since + lifetime));
        Held { token, validity, failed: None }
    }

    fn good(&self) -> Option<String> {
        let good = self.validity.is_some_and(|(_, end)| Instant::now() < end);
        good.then(|| self.token.clone())
    }

    /// Whether a new one is wanted, from an issuer that has not failed us just now.
    fn is_due(&self) -> bool {
        self.validity.is_none_or(|(renew, _)| Instant::now() >= renew)
            && self.failed.is_none_or(|at| at.elapsed() >= RETRY_INTERVAL)
    }
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
            held: Mutex::default(),
            turn: Arc::default(),
        }))
    }

    /// A token that is good for a while.
    pub async fn token(&self) -> Result<String, Rejection> {
        let (good, due) = {
            let held = self.held();
            (held.good(), held.is_due())
        };
        let Some(token) = good else { return self.wait().await };
        if due && let Ok(turn) = self.0.turn.clone().try_lock_owned() {
            self.start(turn);
        }
        Ok(token)
    }

    /// One asks at a time; the others wait for the outcome.
    async fn wait(&self) -> Result<String, Rejection> {
        let renewed = async { self.start(self.0.turn.clone().lock_owned().await).await };
        let renewed = timeout(PATIENCE, renewed).await;
        renewed.ok().and_then(Result::ok).flatten().ok_or_else(no_token)
    }

    /// A task of its own, for the reason given at `Keys::start`.
    fn start(&self, turn: OwnedMutexGuard<()>) -> JoinHandle<Option<String>> {
        let source = self.clone();
        tokio::spawn(async move {
            let token = source.renew().await;
            drop(turn);
            token
        })
    }

    /// A good token, for which the issuer is asked if need be.
    async fn renew(&self) -> Option<String> {
        // Those who waited for the same answer do not ask again one by one.
        if !self.held().is_due() {
            return self.held().good();
        }
        let began = Instant::now();
        match self.0.fetch().await {
            Ok((token, lifetime)) => {
                *self.held() = Held::new(token.clone(), began, lifetime);
                Some(token)
            }
            Err(error) => {
                let (issuer, error) = (self.0.oidc.issuer(), Chain(&error));
                tracing::warn!(issuer, %error, "cannot get a token for calls to neighbours");
                let mut held = self.held();
                held.failed = Some(Instant::now());
                held.good()
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
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
