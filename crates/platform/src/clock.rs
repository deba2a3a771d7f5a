//! The real clock: the only place that asks the operating system for the time.

use std::time::{SystemTime, UNIX_EPOCH};

use kernel::{Clock, Timestamp};
use uuid::Uuid;

/// The operating system's time, and UUIDv7 ids made from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one clock behind the port")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "the one source of ids behind the port")]
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}
