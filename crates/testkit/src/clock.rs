//! Time by hand.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use kernel::{Clock, Timestamp, Uuid};

/// A clock that stands still until a test moves it; its ids sort by the order in which they were
/// asked for.
#[derive(Debug, Default)]
pub struct TestClock {
    micros: AtomicI64,
    ids: AtomicU64,
}

impl TestClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { micros: AtomicI64::new(now.micros()), ids: AtomicU64::new(0) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.micros.store(self.now().plus(by).micros(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros.load(Ordering::SeqCst))
    }

    fn new_id(&self) -> Uuid {
        let count = self.ids.fetch_add(1, Ordering::SeqCst);
        Uuid::from_u128(1 << 64 | u128::from(count))
    }
}
