//! Who calls, and may they: bearer tokens of an OpenID Connect issuer, checked by every service.
//!
//! * [`Verifier`]: from a token to a [`Principal`]. The issuer need not be up when we start: its
//!   keys are fetched on first need, refreshed every ten minutes, and for a key nobody knows yet,
//!   whose token waits; when the issuer is away the last good set is kept.
//! * [`Access`]: which roles may call which method; the table stands in the service's own code.
//! * [`AuthLayer`]: refuses what the table does not allow and tells the handler who the
//!   [`Actor`] is. Which *objects* an actor may see is decided where they are read.
//! * [`ServiceTokens`]: our own token, for calls to a neighbour.

mod access;
mod keys;
mod oidc;
mod tokens;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use kernel::{Rejection, Role};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

pub(crate) use self::access::is_open;
pub use self::access::{Access, AuthLayer, Authenticated};
use self::keys::Keys;
use self::oidc::Oidc;
pub use self::tokens::ServiceTokens;
use crate::config::duration;

/// How far our clock and the issuer's may be apart.
const LEEWAY: Duration = Duration::from_secs(5);
/// How long a verified token is believed without looking at it again.
const BELIEVED: Duration = Duration::from_secs(60);
/// How many verified tokens are remembered.
const REMEMBERED: usize = 10_000;

/// Whose tokens count.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// The issuer's address, exactly as in the `iss` of its tokens.
    pub issuer: String,
    /// Who the tokens must be for: one of their `aud`.
    pub audience: String,
    /// How old the issuer's keys may get.
    #[serde(default = "AuthConfig::default_jwks_refresh", with = "duration")]
    pub jwks_refresh: Duration,
}

impl AuthConfig {
    /// A configuration with the usual refresh.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> AuthConfig {
        let jwks_refresh = AuthConfig::default_jwks_refresh();
        AuthConfig { issuer: issuer.into(), audience: audience.into(), jwks_refresh }
    }

    fn default_jwks_refresh() -> Duration {
        Duration::from_secs(600)
    }
}

/// Somebody whose token is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token's subject.
    pub subject: String,
    /// What the token says they are to us.
    pub roles: Vec<Role>,
}

/// Verifies tokens. Clones share keys and memory.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    validation: Validation,
    keys: Keys,
    /// Verified tokens by their digest, until when they are believed.
    seen: Mutex<HashMap<[u8; 32], (Principal, Instant)>>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    scope: String,
}

impl Verifier {
    /// A verifier of this issuer's tokens; the issuer is asked when the first token comes.
    pub fn discover(config: AuthConfig) -> Verifier {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "nbf", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY.as_secs();
        Verifier(Arc::new(Inner {
            validation,
            keys: Keys::new(Oidc::new(config.issuer), config.jwks_refresh),
            seen: Mutex::new(HashMap::new()),
        }))
    }

    /// Who the token's bearer is.
    pub async fn verify(&self, token: &str) -> Result<Principal, Rejection> {
        if token.is_empty() {
            let message = "send `authorization: Bearer <token>`";
            return Err(Rejection::unauthenticated("TOKEN_MISSING", message));
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(principal) = self.recall(&digest) {
            return Ok(principal);
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|error| invalid(format!("no JSON web token: {error}")))?;
        let (key, algorithm) = self.0.keys.find(header.kid.as_deref()).await?;
        // The key says which algorithm it is for, never the token.
        let validation = Validation { algorithms: vec![algorithm], ..self.0.validation.clone() };
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => Rejection::unauthenticated(
                    "TOKEN_EXPIRED",
                    "the token has expired: get a new one",
                ),
                _ => invalid(error.to_string()),
            })?
            .claims;
        if !kernel::is_subject(&claims.sub) {
            return Err(invalid("the subject must have 1..255 bytes, none of control"));
        }
        let has = |role: &Role| {
            claims.roles.iter().any(|name| name == role.as_str())
                || claims.scope.split(' ').any(|name| name == role.as_str())
        };
        let roles = Role::ALL.into_iter().filter(has).collect();
        let principal = Principal { subject: claims.sub, roles };
        self.remember(digest, &principal, claims.exp);
        Ok(principal)
    }

    fn recall(&self, digest: &[u8; 32]) -> Option<Principal> {
        let seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (principal, until) = seen.get(digest)?;
        (Instant::now() < *until).then(|| principal.clone())
    }

    fn remember(&self, digest: [u8; 32], principal: &Principal, expires: f64) {
        let left = expires - jsonwebtoken::get_current_timestamp() as f64;
        // Within the leeway after its end, a token is looked at each time.
        let Ok(left) = Duration::try_from_secs_f64(left) else { return };
        let now = Instant::now();
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.retain(|_, (_, until)| *until > now);
        }
        // Ten thousand callers within a minute: looking at some tokens again is cheap.
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(digest, (principal.clone(), now + left.min(BELIEVED)));
    }
}

fn invalid(message: impl fmt::Display) -> Rejection {
    Rejection::unauthenticated("TOKEN_INVALID", format!("the token is not valid: {message}"))
}

#[cfg(test)]
mod tests;
