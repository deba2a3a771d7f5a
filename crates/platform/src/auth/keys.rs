//! The issuer's keys.
//!
//! A key that we do not know need not be a wrong one: the issuer may have rotated a moment ago. A
//! token that names it waits until a fetch has ended that began after the token came. All who wait
//! share one fetch, and there are only so many fetches, for strangers can sign with new keys as fast
//! as they like: see [`PACE`]. Nobody is called a stranger before
//! the issuer was asked; when it does not answer, that is what the caller is told.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use kernel::Rejection;
use serde::Deserialize;
use tokio::sync::{OwnedMutexGuard, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::invalid;
use super::oidc::{IssuerError, Oidc};
use crate::status::Chain;

/// How often the issuer is asked for its keys: once a second in the long run, and five times at once
/// after a pause.
const PACE: Quota =
    Quota::per_second(NonZeroU32::MIN).allow_burst(NonZeroU32::MIN.saturating_add(4));
/// How long a token waits for the issuer at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many tokens wait for a key beside those whose keys are known. Far fewer than a server has
/// room for, so that strangers do not use it up.
const WAITING: usize = 256;
/// How long a key stays unknown without another look.
const STRANGE: Duration = Duration::from_secs(1);
/// How many unknown keys are remembered.
const STRANGERS: usize = 1000;

/// A key to verify with, and the one algorithm it is for.
pub(super) type Key = (DecodingKey, Algorithm);

/// The keys of one issuer. Clones share them.
#[derive(Clone)]
pub(super) struct Keys(Arc<Inner>);

struct Inner {
    oidc: Oidc,
    /// How old a set may get.
    max_age: Duration,
    known: watch::Sender<Known>,
    /// Held by the one who asks the issuer.
    turn: Arc<tokio::sync::Mutex<()>>,
    pace: DefaultDirectRateLimiter,
    waiting: Semaphore,
    /// Keys that the issuer did not have when it was asked, until when they are not looked for again.
    strangers: Mutex<HashMap<String, Instant>>,
}

/// What is known.
#[derive(Clone, Default)]
struct Known {
    /// The last good set.
    set: Option<Arc<KeySet>>,
    /// When the last fetch began that has ended, and whether it went well.
    asked: Option<(Instant, bool)>,
}

struct KeySet {
    by_id: HashMap<String, Key>,
    fetched: Instant,
}

impl Keys {
    /// The keys of this issuer, which is asked when the first one is needed.
    pub(super) fn new(oidc: Oidc, max_age: Duration) -> Keys {
        Keys(Arc::new(Inner {
            oidc,
            max_age,
            known: watch::Sender::default(),
            turn: Arc::default(),
            pace: RateLimiter::direct(PACE),
            waiting: Semaphore::new(WAITING),
            strangers: Mutex::default(),
        }))
    }

    /// The key of this id, for which the issuer is asked if need be.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Key, Rejection> {
        let Some(set) = self.0.known.borrow().set.clone() else { return self.learn(id).await };
        if let Some(key) = set.find(id) {
            self.renew(&set);
            return Ok(key);
        }
        let id = id.ok_or_else(|| invalid("it does not say which of the issuer's keys it is"))?;
        if self.is_strange(id) {
            return Err(stranger());
        }
        let _waits = self.0.waiting.try_acquire().map_err(|_| away())?;
        self.learn(Some(id)).await
    }

    /// The key of this id, once it is known, or once the issuer was asked.
    async fn learn(&self, id: Option<&str>) -> Result<Key, Rejection> {
        let known = timeout(PATIENCE, self.asked_for(id)).await.map_err(|_| away())?;
        if let Some(key) = known.find(id) {
            return Ok(key);
        }
        match known.asked {
            Some((_, true)) => {
                self.remember(id);
                Err(stranger())
            }
            _ => Err(away()),
        }
    }

    /// What is known once there is such a key, or once a fetch has ended that began from now on.
    async fn asked_for(&self, id: Option<&str>) -> Known {
        let since = Instant::now();
        let mut known = self.0.known.subscribe();
        let enough = |known: &Known| {
            known.find(id).is_some() || known.asked.is_some_and(|(asked, _)| asked >= since)
        };
        loop {
            tokio::select! {
                biased;
                // It fails when the sender is gone, and that is ourselves.
                Ok(known) = known.wait_for(enough) => return known.clone(),
                turn = self.0.turn.clone().lock_owned() => self.start(turn),
            }
        }
    }

    /// Looks for a new set when this one is old. Whoever notices does not wait for it.
    fn renew(&self, set: &KeySet) {
        if set.fetched.elapsed() > self.0.max_age
            && let Ok(turn) = self.0.turn.clone().try_lock_owned()
        {
            self.start(turn);
        }
    }

    /// A fetch as a task of its own: it goes on when the request that needs it gives up, else a
    /// slow issuer and impatient callers would never come to an end.
    fn start(&self, turn: OwnedMutexGuard<()>) {
        let keys = self.clone();
        tokio::spawn(async move {
            keys.ask().await;
            drop(turn);
        });
    }

    /// Asks the issuer when its turn has come, and makes known what it said.
    async fn ask(&self) {
        while let Err(early) = self.0.pace.check() {
            sleep(early.wait_time_from(DefaultClock::default().now())).await;
        }
        let began = Instant::now();
        let fetched = fetch(&self.0.oidc).await;
        if let Err(error) = &fetched {
            let (issuer, error) = (self.0.oidc.issuer(), Chain(error));
            tracing::warn!(issuer, %error, "cannot refresh the issuer's keys");
        }
        self.0.known.send_modify(|known| {
            known.asked = Some((began, fetched.is_ok()));
            known.set = fetched.ok().map(Arc::new).or(known.set.take());
        });
    }

    fn is_strange(&self, id: &str) -> bool {
        let strangers = self.0.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.get(id).is_some_and(|until| Instant::now() < *until)
    }

    fn remember(&self, stranger: Option<&str>) {
        let Some(id) = stranger else { return };
        let now = Instant::now();
        let mut strangers = self.0.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if strangers.len() >= STRANGERS {
            strangers.retain(|_, until| *until > now);
        }
        // Those of the last second are many: they are looked for again, at the usual pace.
        if strangers.len() >= STRANGERS {
            strangers.clear();
        }
        strangers.insert(id.to_owned(), now + STRANGE);
    }
}

impl Known {
    fn find(&self, id: Option<&str>) -> Option<Key> {
        self.set.as_ref()?.find(id)
    }
}

impl KeySet {
    fn find(&self, id: Option<&str>) -> Option<Key> {
        match id {
            Some(id) => self.by_id.get(id).cloned(),
            // A token need not name its key when there is only one.
            None if self.by_id.len() == 1 => self.by_id.values().next().cloned(),
            None => None,
        }
    }
}

fn stranger() -> Rejection {
    invalid("signed with a key that is not the issuer's")
}

fn away() -> Rejection {
    let message = "the identity provider cannot be asked for its keys";
    Rejection::unavailable("ISSUER_UNAVAILABLE", message)
}

async fn fetch(oidc: &Oidc) -> Result<KeySet, IssuerError> {
    /// Key by key, so that one of a kind we do not know spoils nothing.
    #[derive(Deserialize)]
    struct Published {
        keys: Vec<serde_json::Value>,
    }
    let discovery = oidc.discover().await?;
    let published: Published = oidc.get(&discovery.jwks_uri).await?;
    let by_id: HashMap<_, _> = published.keys.into_iter().filter_map(usable).collect();
    match by_id.is_empty() {
        true => Err(IssuerError::NoKeys),
        false => Ok(KeySet { by_id, fetched: Instant::now() }),
    }
}

/// A published key that we can verify with, and its id. It says which algorithm it is for.
fn usable(key: serde_json::Value) -> Option<(String, Key)> {
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
