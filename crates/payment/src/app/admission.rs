//! How many callers are served at the same time: beyond a first bound nobody asks the provider for
//! them, beyond a second one they are sent away before anything is stored.

use kernel::Rejection;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The two bounds.
pub(super) struct Admission {
    callers: Semaphore,
    asking: Semaphore,
}

impl Admission {
    /// So many callers, the provider asked for so many of them.
    pub(super) fn new(callers: usize, asking: usize) -> Admission {
        Admission { callers: Semaphore::new(callers), asking: Semaphore::new(asking) }
    }

    /// A place for a caller, kept until it is answered.
    pub(super) fn enter(&self) -> Result<SemaphorePermit<'_>, Rejection> {
        self.callers.try_acquire().map_err(|_| overloaded())
    }

    /// Leave to ask the provider for this caller, if there is any.
    pub(super) fn ask(&self) -> Option<SemaphorePermit<'_>> {
        self.asking.try_acquire().ok()
    }

    /// The same for a caller who has nothing to fall back on.
    pub(super) fn ask_or_refuse(&self) -> Result<SemaphorePermit<'_>, Rejection> {
        self.ask().ok_or_else(overloaded)
    }
}

fn overloaded() -> Rejection {
    Rejection::exhausted("OVERLOADED", "payment is at its limit: nothing has been done")
}
