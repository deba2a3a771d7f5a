//! The development identity provider: a small OpenID Connect issuer over real HTTP.
//!
//! It says who somebody is to anybody who knows the password `dev`, so it is for development and
//! tests only; in production, [`auth`](crate::auth) points at a real one and cannot tell the
//! difference: discovery, a key set, Ed25519 signatures, key rotation.
//!
//! ```text
//! curl -u C1:dev -d grant_type=client_credentials -d scope=operator \
//!      http://127.0.0.1:8088/oauth2/token
//! ```

mod token;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kernel::{Clock, Role, Timestamp};
use serde::Serialize;
use serde_json::json;

use crate::clock::SystemClock;

/// The secret of every client.
pub const SECRET: &str = "dev";
/// How long a token is valid.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// The identity provider. Clones share their keys.
#[derive(Clone)]
pub struct Issuer(Arc<Inner>);

struct Inner {
    url: String,
    audience: String,
    path: Option<PathBuf>,
    /// The last one signs; all are published, so that tokens outlive a rotation.
    keys: Mutex<Vec<Key>>,
}

type Seed = [u8; 32];

struct Key {
    signing: EncodingKey,
    public: Jwk,
}

/// What a token says.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
    roles: Vec<&'static str>,
    scope: String,
}

impl Issuer {
    /// An issuer with a new key. `url` is its own address, the `iss` of its tokens.
    pub fn new(url: impl Into<String>, audience: impl Into<String>) -> Issuer {
        Issuer::with(url.into(), audience.into(), None, vec![Key::new(new_seed())])
    }

    /// An issuer whose keys are kept in a file, so that tokens survive a restart: one seed a line.
    pub fn load_or_create(
        url: impl Into<String>,
        audience: impl Into<String>,
        path: impl Into<PathBuf>,
    ) -> io::Result<Issuer> {
        let path = path.into();
        let keys = match fs::read_to_string(&path) {
            Ok(text) => text.lines().map(parse_seed).collect::<io::Result<Vec<Seed>>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut keys: Vec<Key> = keys.into_iter().map(Key::new).collect();
        if keys.is_empty() {
            let seed = new_seed();
            append(&path, &seed)?;
            keys.push(Key::new(seed));
        }
        Ok(Issuer::with(url.into(), audience.into(), Some(path), keys))
    }

    fn with(url: String, audience: String, path: Option<PathBuf>, keys: Vec<Key>) -> Issuer {
        Issuer(Arc::new(Inner { url, audience, path, keys: Mutex::new(keys) }))
    }

    /// Its own address.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// A token that says that the subject has this role.
    pub fn sign(&self, subject: &str, role: Role) -> String {
        self.sign_at(SystemClock.now(), subject, &[role])
    }

    /// A token as of another time; tests need old ones.
    pub(crate) fn sign_at(&self, now: Timestamp, subject: &str, roles: &[Role]) -> String {
        let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let seconds = |time: Timestamp| time.micros().div_euclid(1_000_000);
        let claims = Claims {
            iss: &self.0.url,
            sub: subject,
            aud: &self.0.audience,
            iat: seconds(now),
            nbf: seconds(now),
            exp: seconds(now.plus(LIFETIME)),
            jti: SystemClock.new_id().to_string(),
            scope: roles.join(" "),
            roles,
        };
        let keys = self.keys();
        let key = keys.last().expect("an issuer is made with a key and never loses one");
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid.clone_from(&key.public.common.key_id);
        jsonwebtoken::encode(&header, &claims, &key.signing).expect("Ed25519 signs any bytes")
    }

    /// Signs with a new key from now on; the old ones stay published.
    pub fn rotate(&self) -> io::Result<()> {
        let seed = new_seed();
        if let Some(path) = &self.0.path {
            append(path, &seed)?;
        }
        self.keys().push(Key::new(seed));
        Ok(())
    }

    /// Its HTTP interface: discovery, key set and token endpoint.
    pub fn router(self) -> Router {
        Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks.json", get(key_set))
            .route("/oauth2/token", post(token::grant))
            .with_state(self)
    }

    fn keys(&self) -> MutexGuard<'_, Vec<Key>> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    fn new(seed: Seed) -> Key {
        // PKCS #8 of an Ed25519 private key (RFC 8410): always the same 16 bytes, then the seed.
        let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
        der.extend_from_slice(&seed);
        let signing = EncodingKey::from_ed_der(&der);
        let mut public = Jwk::from_encoding_key(&signing, Algorithm::EdDSA)
            .expect("any 32 bytes are an Ed25519 seed");
        public.common.key_id = public.thumbprint(ThumbprintHash::SHA256).ok();
        Key { signing, public }
    }
}

#[expect(clippy::disallowed_methods, reason = "a key is what nobody can guess, a test included")]
fn new_seed() -> Seed {
    rand::random()
}

fn parse_seed(line: &str) -> io::Result<Seed> {
    let seed = BASE64_URL_SAFE_NO_PAD.decode(line).ok().and_then(|seed| seed.try_into().ok());
    seed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a line is not a key's seed"))
}

fn append(path: &Path, seed: &Seed) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    writeln!(file, "{}", BASE64_URL_SAFE_NO_PAD.encode(seed))
}

async fn discovery(State(issuer): State<Issuer>) -> Json<serde_json::Value> {
    let url = issuer.url();
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/jwks.json"),
        "token_endpoint": format!("{url}/oauth2/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": ["token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "scopes_supported": Role::ALL.map(Role::as_str),
    }))
}

async fn key_set(State(issuer): State<Issuer>) -> Json<JwkSet> {
    Json(JwkSet { keys: issuer.keys().iter().map(|key| key.public.clone()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_a_restart_and_a_rotation() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("issuer.keys");
        let published = |issuer: &Issuer| -> Vec<Jwk> {
            issuer.keys().iter().map(|key| key.public.clone()).collect()
        };
        let open = || Issuer::load_or_create("http://issuer.test", "house", &path).expect("keys");
        let first = open();
        first.rotate().expect("written");
        assert_eq!(published(&first).len(), 2);
        assert_eq!(published(&open()), published(&first));

        fs::write(&path, "nonsense\n").expect("written");
        assert!(Issuer::load_or_create("http://issuer.test", "house", &path).is_err());
    }
}
