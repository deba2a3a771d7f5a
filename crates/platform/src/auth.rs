//! Who calls, and may they: bearer tokens of an OpenID Connect issuer, checked by every service.
//!
//! * [`Verifier`]: from a token to a [`Principal`]. The issuer need not be up when we start: its
//!   keys are fetched on first need, refreshed every ten minutes, and at once for a key nobody
//!   knows yet; when the issuer is away the last good set is kept.
//! * [`Access`]: which roles may call which method; the table stands in the service's own code.
//! * [`AuthLayer`]: refuses what the table does not allow and tells the handler who the
//!   [`Actor`] is. Which *objects* an actor may see is decided where they are read.
//! * [`ServiceTokens`]: our own token, for calls to a neighbour.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response, header};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use kernel::{Actor, Rejection, Role};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Code;

use crate::config::duration;
use crate::status::{self, Chain, status};

/// How far our clock and the issuer's may be apart.
const LEEWAY: Duration = Duration::from_secs(5);
/// How long a verified token is believed without looking at it again.
const BELIEVED: Duration = Duration::from_secs(60);
/// How many verified tokens are remembered.
const REMEMBERED: usize = 10_000;
/// How long we wait for the issuer.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often at most a token with an unknown key makes us ask the issuer for new keys.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// How often at most we ask an issuer that is away.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

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
    config: AuthConfig,
    validation: Validation,
    http: reqwest::Client,
    /// The last good key set.
    keys: watch::Sender<Option<Arc<KeySet>>>,
    /// Held by the one who asks the issuer; when that was, and whether it went well.
    refresh: tokio::sync::Mutex<Option<(Instant, bool)>>,
    /// Verified tokens by their digest, until when they are believed.
    seen: Mutex<HashMap<[u8; 32], (Principal, Instant)>>,
}

struct KeySet {
    by_id: HashMap<String, (DecodingKey, Algorithm)>,
    fetched: Instant,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint: String,
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

/// Why the issuer did not help.
#[derive(Debug, thiserror::Error)]
enum IssuerError {
    #[error("cannot ask the issuer")]
    Http(#[from] reqwest::Error),
    #[error("the issuer at {asked} says that it is {claimed}")]
    OtherIssuer { asked: String, claimed: String },
    #[error("the issuer has no key that we can use")]
    NoKeys,
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
            http: http_client(&config.issuer),
            config,
            validation,
            keys: watch::Sender::new(None),
            refresh: tokio::sync::Mutex::new(None),
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
        let (key, algorithm) = self.key(header.kid.as_deref()).await?;
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

    /// The issuer's key of this id, and the algorithm it is for.
    async fn key(&self, id: Option<&str>) -> Result<(DecodingKey, Algorithm), Rejection> {
        let known = self.0.keys.borrow().clone();
        if let Some(keys) = &known
            && let Some(key) = keys.find(id)
        {
            let stale = keys.fetched.elapsed() > self.0.config.jwks_refresh;
            if stale && self.0.refresh.try_lock().is_ok() {
                // Good enough for this token; the next ones get the new set.
                drop(self.start_refresh(Some(keys.fetched)));
            }
            return Ok(key);
        }
        // It fails by a panic only, and then there are no new keys.
        let _ = self.start_refresh(known.map(|keys| keys.fetched)).await;
        let Some(keys) = self.0.keys.borrow().clone() else {
            let message = "the identity provider cannot be asked for its keys";
            return Err(Rejection::unavailable("ISSUER_UNAVAILABLE", message));
        };
        keys.find(id).ok_or_else(|| invalid("signed with a key that is not the issuer's"))
    }

    /// A refresh as a task of its own: it goes on when the request that needs it gives up, else a
    /// slow issuer and impatient callers would never come to an end.
    fn start_refresh(&self, seen: Option<Instant>) -> JoinHandle<()> {
        let verifier = self.clone();
        tokio::spawn(async move { verifier.refresh(seen).await })
    }

    /// Asks the issuer for its keys, unless somebody has done so since the caller looked (`seen`),
    /// or a moment ago. One at a time; the others wait for the outcome.
    async fn refresh(&self, seen: Option<Instant>) {
        let mut last = self.0.refresh.lock().await;
        if self.0.keys.borrow().as_ref().map(|keys| keys.fetched) != seen {
            return;
        }
        if let Some((at, well)) = *last {
            let interval = if well { REFRESH_INTERVAL } else { RETRY_INTERVAL };
            if at.elapsed() < interval {
                return;
            }
        }
        let fetched = self.fetch().await;
        *last = Some((Instant::now(), fetched.is_ok()));
        match fetched {
            Ok(keys) => {
                self.0.keys.send_replace(Some(Arc::new(keys)));
            }
            Err(error) => tracing::warn!(
                issuer = self.0.config.issuer,
                error = %Chain(&error),
                "cannot refresh the issuer's keys"
            ),
        }
    }

    async fn fetch(&self) -> Result<KeySet, IssuerError> {
        /// Key by key, so that one of a kind we do not know spoils nothing.
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<serde_json::Value>,
        }
        let discovery = discover(&self.0.http, &self.0.config.issuer).await?;
        let published: Published = get(&self.0.http, &discovery.jwks_uri).await?;
        let by_id: HashMap<_, _> = published.keys.into_iter().filter_map(usable).collect();
        if by_id.is_empty() {
            return Err(IssuerError::NoKeys);
        }
        Ok(KeySet { by_id, fetched: Instant::now() })
    }
}

impl KeySet {
    fn find(&self, id: Option<&str>) -> Option<(DecodingKey, Algorithm)> {
        match id {
            Some(id) => self.by_id.get(id).cloned(),
            // A token need not name its key when there is only one.
            None if self.by_id.len() == 1 => self.by_id.values().next().cloned(),
            None => None,
        }
    }
}

/// A published key that we can verify with: its id, itself, and the one algorithm it is for.
fn usable(key: serde_json::Value) -> Option<(String, (DecodingKey, Algorithm))> {
    let key: Jwk = serde_json::from_value(key).ok()?;
    let algorithm = match &key.algorithm {
        AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        _ => return None,
    };
    let declared = key.common.key_algorithm.is_none_or(|it| it == KeyAlgorithm::from(algorithm));
    let signs = key.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    let decoding = DecodingKey::from_jwk(&key).ok().filter(|_| declared && signs)?;
    Some((key.common.key_id.unwrap_or_default(), (decoding, algorithm)))
}

fn invalid(message: impl fmt::Display) -> Rejection {
    Rejection::unauthenticated("TOKEN_INVALID", format!("the token is not valid: {message}"))
}

fn http_client(issuer: &str) -> reqwest::Client {
    let builder = reqwest::Client::builder().timeout(ISSUER_TIMEOUT);
    // Nobody's proxy knows our loopback.
    let loopback = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    let builder = match loopback.iter().any(|start| issuer.starts_with(start)) {
        true => builder.no_proxy(),
        false => builder,
    };
    builder.build().unwrap_or_default()
}

async fn discover(http: &reqwest::Client, issuer: &str) -> Result<Discovery, IssuerError> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let discovery: Discovery = get(http, &url).await?;
    if discovery.issuer != issuer {
        let (asked, claimed) = (issuer.to_owned(), discovery.issuer);
        return Err(IssuerError::OtherIssuer { asked, claimed });
    }
    Ok(discovery)
}

async fn get<T: DeserializeOwned>(http: &reqwest::Client, url: &str) -> Result<T, IssuerError> {
    Ok(http.get(url).send().await?.error_for_status()?.json().await?)
}

/// Which roles may call which method of one service. A role that stands first goes first: a token
/// with several of them acts in that one.
#[derive(Clone, Copy, Debug)]
pub struct Access(pub &'static [(&'static str, &'static [Role])]);

/// Lets in those who may, and tells the handler who they are.
///
/// Closed by default: what is not in a table is not there, whatever the service behind offers.
#[derive(Clone)]
pub struct AuthLayer {
    verifier: Verifier,
    /// By path: `/package.Service/Method`.
    methods: Arc<HashMap<String, &'static [Role]>>,
}

impl AuthLayer {
    /// A layer for these services, by their full names.
    pub fn new(
        verifier: Verifier,
        services: impl IntoIterator<Item = (&'static str, Access)>,
    ) -> AuthLayer {
        let path = |service: &str, method: &str| format!("/{service}/{method}");
        let methods = services.into_iter().flat_map(|(service, Access(methods))| {
            methods.iter().map(move |(method, roles)| (path(service, method), *roles))
        });
        AuthLayer { verifier, methods: Arc::new(methods.collect()) }
    }

    async fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Actor, tonic::Status> {
        let principal = self.verifier.verify(bearer(headers)).await.map_err(status)?;
        let Some(roles) = self.methods.get(path) else {
            let message = format!("there is no method {path}");
            return Err(status::other(Code::Unimplemented, "UNKNOWN_METHOD", &message));
        };
        match roles.iter().find(|role| principal.roles.contains(role)) {
            Some(role) => Ok(Actor { role: *role, subject: principal.subject }),
            None => {
                let allowed: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
                let message = format!("only for {}", allowed.join(", "));
                Err(status(Rejection::denied("ROLE_NOT_ALLOWED", message)))
            }
        }
    }
}

/// Whether anybody may call this path without a token: health and reflection.
pub(crate) fn is_open(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/") || path.starts_with("/grpc.reflection.")
}

fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.unwrap_or_default()
}

impl<S> tower::Layer<S> for AuthLayer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated { auth: self.clone(), inner }
    }
}

/// A service behind an [`AuthLayer`].
#[derive(Clone)]
pub struct Authenticated<S> {
    auth: AuthLayer,
    inner: S,
}

impl<S, B, R> tower::Service<Request<B>> for Authenticated<S>
where
    S: tower::Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The clone stays for the next request; this one takes the service that is ready.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let auth = self.auth.clone();
        Box::pin(async move {
            if !is_open(request.uri().path()) {
                match auth.admit(request.uri().path(), request.headers()).await {
                    Ok(actor) => request.extensions_mut().insert(actor),
                    Err(status) => return Ok(status.into_http()),
                };
            }
            inner.call(request).await
        })
    }
}

/// Our own token, from the issuer, by client credentials: got when first needed, kept until shortly
/// before it expires. Clones share it.
#[derive(Clone)]
pub struct ServiceTokens(Arc<Credentials>);

struct Credentials {
    issuer: String,
    client_id: String,
    secret: String,
    http: reqwest::Client,
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
        let issuer = issuer_url.into();
        ServiceTokens(Arc::new(Credentials {
            http: http_client(&issuer),
            issuer,
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
        // A task of its own, for the reason given at `Verifier::start_refresh`.
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
                        issuer = self.0.issuer,
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
        let discovery = discover(&self.http, &self.issuer).await?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", &self.secret),
            ("scope", Role::Service.as_str()),
        ];
        let response = self.http.post(&discovery.token_endpoint).form(&form).send().await?;
        let granted: Granted = response.error_for_status()?.json().await?;
        Ok((granted.access_token, Duration::from_secs(granted.expires_in)))
    }
}

#[cfg(test)]
mod tests;
