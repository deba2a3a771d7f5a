//! What the harness sees with its own eyes while the run lasts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One promise: how often it was looked at, and each time it was broken. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    looks: Arc<AtomicUsize>,
    broken: Arc<Mutex<Vec<String>>>,
}

impl Findings {
    /// It was looked at.
    pub(crate) fn look(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// How often.
    pub(crate) fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    /// It was broken.
    pub(crate) fn report(&self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("BROKEN: {what}");
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Each time it was broken.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
