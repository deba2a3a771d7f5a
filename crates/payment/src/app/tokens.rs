//! How fast the reconciler may ask the provider.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use kernel::{Clock, Timestamp};

/// A bucket of tokens, one for each attempt; it holds what comes in a second.
pub(super) struct Tokens(RateLimiter<NotKeyed, InMemoryState, Elapsed, NoOpMiddleware<Duration>>);

impl Tokens {
    /// So many a second.
    pub(super) fn new(rate: NonZeroU32, clock: Arc<dyn Clock>) -> Tokens {
        Tokens(RateLimiter::direct_with_clock(Quota::per_second(rate), Elapsed::new(clock)))
    }

    /// Takes one, if there is any.
    pub(super) fn take(&self) -> bool {
        self.0.check().is_ok()
    }
}

/// The time that has passed by the house's clock. When that goes back, nothing has passed: a bucket
/// would wait for it to catch up.
struct Elapsed {
    clock: Arc<dyn Clock>,
    /// When somebody last looked, and what had passed until then.
    last: Mutex<(Timestamp, Duration)>,
}

impl Elapsed {
    fn new(clock: Arc<dyn Clock>) -> Elapsed {
        Elapsed { last: Mutex::new((clock.now(), Duration::ZERO)), clock }
    }
}

impl governor::clock::Clock for Elapsed {
    type Instant = Duration;

    fn now(&self) -> Duration {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        *last = (now, last.1 + now.since(last.0));
        last.1
    }
}
