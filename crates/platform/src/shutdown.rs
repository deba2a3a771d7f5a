//! Stop clean: one token that says "stop", one list of everything that has to.
//!
//! Every task of a process is spawned here, under a name, so that the end can wait for all of them
//! and name those that did not make it in time.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The process's end: asked for once, awaited by everybody.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
    running: Arc<Mutex<Running>>,
    panicked: Arc<OnceLock<&'static str>>,
}

impl Shutdown {
    /// An end that only [`trigger`](Shutdown::trigger) brings about.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// An end that SIGTERM or SIGINT brings about.
    pub fn on_signals() -> io::Result<Shutdown> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = Shutdown::new();
        let trigger = shutdown.clone();
        // Not one of the tracked tasks: it may well wait for ever.
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping");
            trigger.trigger();
        });
        Ok(shutdown)
    }

    /// Runs a task until it ends by itself; it is expected to do so soon after
    /// [`cancelled`](Shutdown::cancelled). A panic asks everything to stop: half a process is worse
    /// than none, and whoever looks after it starts it anew.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = Entry::new(self.running.clone(), name);
        let (token, panicked) = (self.token.clone(), self.panicked.clone());
        self.tasks.spawn(async move {
            let outcome = AssertUnwindSafe(task).catch_unwind().await;
            drop(running);
            match outcome {
                Ok(()) if token.is_cancelled() => tracing::debug!(task = name, "task ended"),
                Ok(()) => tracing::warn!(task = name, "task ended before it was asked to"),
                Err(_) => {
                    tracing::error!(task = name, "task ended by a panic");
                    panicked.set(name).ok();
                    token.cancel();
                }
            }
        });
    }

    /// Which task has panicked first, if one has.
    pub fn panicked(&self) -> Option<&'static str> {
        self.panicked.get().copied()
    }

    /// Asks everything to stop.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Whether everything has been asked to stop.
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until everything is asked to stop.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// The token itself, for code that takes one.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Waits for all tasks, at most this long; names those that are still running.
    pub async fn wait(&self, grace: Duration) -> Vec<&'static str> {
        self.tasks.close();
        match tokio::time::timeout(grace, self.tasks.wait()).await {
            Ok(()) => Vec::new(),
            Err(_) => lock(&self.running).names.values().copied().collect(),
        }
    }
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    names: BTreeMap<u64, &'static str>,
}

/// A task's place in the list of running ones, for as long as it runs.
struct Entry {
    running: Arc<Mutex<Running>>,
    at: u64,
}

impl Entry {
    fn new(running: Arc<Mutex<Running>>, name: &'static str) -> Entry {
        let at = {
            let mut running = lock(&running);
            running.next += 1;
            let at = running.next;
            running.names.insert(at, name);
            at
        };
        Entry { running, at }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.running).names.remove(&self.at);
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    // No code panics while it holds this lock, and the list is right after each of its statements.
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_end_when_asked() {
        let shutdown = Shutdown::new();
        let asked = shutdown.clone();
        shutdown.spawn("obedient", async move { asked.cancelled().await });
        shutdown.trigger();
        assert!(shutdown.wait(Duration::from_secs(60)).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_stubborn_are_named() {
        let shutdown = Shutdown::new();
        shutdown.spawn("stubborn", std::future::pending());
        shutdown.spawn("broken", async { panic!("on purpose") });
        shutdown.trigger();
        assert_eq!(shutdown.wait(Duration::from_secs(20)).await, ["stubborn"]);
    }

    #[tokio::test]
    async fn a_panic_asks_everything_to_stop() {
        let shutdown = Shutdown::new();
        shutdown.spawn("broken", async { panic!("on purpose") });
        shutdown.cancelled().await;
        assert_eq!(shutdown.panicked(), Some("broken"));
    }
}
