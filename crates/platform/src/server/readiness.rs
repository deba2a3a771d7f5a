//! Whether this process may be sent requests: what `/readyz` and the health service say.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::metrics::Gauge;

static READY: Gauge = Gauge::new("taxi.ready", "", "Whether a check of readiness holds");

/// The checks that must all hold before requests make sense: the database answers, the broker
/// answers. Clones share them.
///
/// It starts not ready, and stays so until there is a check and every check holds; when the process
/// drains it is not ready again, for good.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
pub(super) struct State {
    checks: BTreeMap<&'static str, bool>,
    draining: bool,
    servers: usize,
}

impl State {
    pub(super) fn is_ready(&self) -> bool {
        !self.draining && !self.checks.is_empty() && self.checks.values().all(|ready| *ready)
    }
}

impl Readiness {
    /// Nothing is known yet, so it is not ready.
    pub fn new() -> Readiness {
        Readiness::default()
    }

    /// Says how a check stands. The first word on a check registers it.
    pub fn set(&self, name: &'static str, ready: bool) {
        READY.set(u64::from(ready), [("check", name)]);
        self.0.send_if_modified(|state| state.checks.insert(name, ready) != Some(ready));
    }

    /// Whether requests make sense.
    pub fn is_ready(&self) -> bool {
        self.0.borrow().is_ready()
    }

    /// Waits until requests make sense.
    pub async fn ready(&self) {
        // It ends with an error only when the sender is gone, and that is ourselves.
        let _ = self.subscribe().wait_for(State::is_ready).await;
    }

    /// What is not ready.
    pub fn not_ready(&self) -> Vec<&'static str> {
        let state = self.0.borrow();
        let draining = state.draining.then_some("draining");
        let failing = state.checks.iter().filter(|(_, ready)| !**ready).map(|(name, _)| *name);
        draining.into_iter().chain(failing).collect()
    }

    /// Says that the process is about to stop.
    pub fn drain(&self) {
        self.0.send_if_modified(|state| !std::mem::replace(&mut state.draining, true));
    }

    /// The present state and each new one.
    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    /// Counts a server for as long as it serves.
    pub fn serving(&self) -> Serving {
        self.0.send_modify(|state| state.servers += 1);
        Serving(self.clone())
    }

    /// Waits until no server serves any more.
    pub(super) async fn drained(&self) {
        let _ = self.subscribe().wait_for(|state| state.servers == 0).await;
    }
}

/// One server, serving.
#[must_use = "it serves until this is dropped"]
pub struct Serving(Readiness);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.servers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_check_holds() {
        let readiness = Readiness::new();
        assert!(!readiness.is_ready(), "nothing is known");
        readiness.set("database", true);
        assert!(readiness.is_ready());
        readiness.set("broker", false);
        assert_eq!((readiness.is_ready(), readiness.not_ready()), (false, vec!["broker"]));
        readiness.set("broker", true);
        assert_eq!((readiness.is_ready(), readiness.not_ready()), (true, vec![]));
        readiness.drain();
        readiness.set("broker", true);
        assert_eq!((readiness.is_ready(), readiness.not_ready()), (false, vec!["draining"]));
    }
}
