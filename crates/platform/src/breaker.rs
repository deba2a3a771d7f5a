//! A circuit breaker: who keeps failing is left alone for a moment.
//!
//! | state | admits | until |
//! |---|---|---|
//! | closed | every call | too many of the latest failed, or too many in a row |
//! | open | none | its time is up: each opening lasts twice as long as the one before |
//! | half-open | one probe, and when it succeeded a few | all of them succeeded: closed; or one failed: open |
//!
//! Only answers count that belong to the present state: a call that was admitted before the breaker
//! opened says nothing about what came after. A permit that is dropped, because its caller hung up,
//! is no evidence, and gives its probe back.
//!
//! ```
//! # use platform::breaker::{Breaker, BreakerConfig};
//! let breaker = Breaker::new("kitchen", BreakerConfig::default());
//! match breaker.admit() {
//!     Ok(permit) => permit.succeeded(), // or failed(), when the answer says so
//!     Err(open) => println!("try again in {:?}", open.retry_after),
//! }
//! ```

mod machine;
mod window;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

pub(crate) use self::machine::State;
use self::machine::{Evidence, Generation, Machine};
use crate::config::{ConfigError, duration};
use crate::metrics;

/// When a breaker opens, for how long, and how it closes.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerConfig {
    /// Over which time calls are counted; it slides in ten steps.
    #[serde(with = "duration")]
    pub window: Duration,
    /// With fewer calls in the window their ratio says nothing.
    pub min_calls: u32,
    /// It opens when this part of the calls in the window failed,
    pub failure_ratio: f64,
    /// or so many in a row.
    pub consecutive_failures: u32,
    /// How long it stays open at first; the time doubles with each opening,
    #[serde(with = "duration")]
    pub open_first: Duration,
    /// up to this, until it closes.
    #[serde(with = "duration")]
    pub open_max: Duration,
    /// So many calls have to succeed, and are let through, before it closes.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> BreakerConfig {
        BreakerConfig {
            window: Duration::from_secs(10),
            min_calls: 20,
            failure_ratio: 0.5,
            consecutive_failures: 10,
            open_first: Duration::from_millis(500),
            open_max: Duration::from_secs(4),
            probes: 3,
        }
    }
}

impl BreakerConfig {
    /// Refuses what makes no sense; `key` is how the person who set it knows it.
    pub fn check(&self, key: &str) -> Result<(), ConfigError> {
        let refuse = |what: String| Err(ConfigError::new(format!("{key}.{what}")));
        if self.window < Duration::from_millis(10) {
            return refuse(format!("window is {:?}: at least 10ms are needed", self.window));
        }
        if !(self.failure_ratio > 0.0 && self.failure_ratio <= 1.0) {
            return refuse(format!(
                "failure_ratio is {}: it must be above 0 and at most 1",
                self.failure_ratio
            ));
        }
        for (name, count) in [
            ("min_calls", self.min_calls),
            ("consecutive_failures", self.consecutive_failures),
            ("probes", self.probes),
        ] {
            if count == 0 {
                return refuse(format!("{name} is 0: at least 1 is needed"));
            }
        }
        if self.open_first.is_zero() || self.open_first > self.open_max {
            return refuse(format!(
                "open_first is {:?}: it must be above 0 and at most open_max, {:?}",
                self.open_first, self.open_max
            ));
        }
        Ok(())
    }
}

/// The breaker is open: the call is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not asked, for it keeps failing; again in {retry_after:?}")]
pub struct Open {
    /// When a call may be let through again.
    pub retry_after: Duration,
}

/// A circuit breaker. Clones are the same breaker.
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

struct Shared {
    name: &'static str,
    machine: Mutex<Machine>,
}

impl Breaker {
    /// A breaker that is closed. Logs and metrics know it by this name.
    pub fn new(name: &'static str, config: BreakerConfig) -> Breaker {
        metrics::breaker_starts(name);
        let machine = Mutex::new(Machine::new(config, Instant::now()));
        Breaker(Arc::new(Shared { name, machine }))
    }

    /// Lets a call through, or not. Say what became of it.
    pub fn admit(&self) -> Result<Permit, Open> {
        match self.0.step(|machine, now| machine.admit(now)) {
            Ok(generation) => Ok(Permit { breaker: self.0.clone(), generation, spent: false }),
            Err(retry_after) => Err(Open { retry_after }),
        }
    }
}

impl Shared {
    /// Lets the machine do something now; says so when its state changes.
    fn step<T>(&self, act: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        // No code panics while it holds this lock. The time is asked for within, so that it never
        // goes back.
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let before = machine.state();
        let outcome = act(&mut machine, Instant::now());
        let after = machine.state();
        if before != after {
            metrics::breaker_changed(self.name, after);
            drop(machine);
            tracing::warn!(breaker = self.name, state = after.as_str(), "a breaker changed");
        }
        outcome
    }

    fn record(&self, generation: Generation, evidence: Evidence) {
        self.step(|machine, now| machine.record(generation, evidence, now, jitter()));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "so that replicas do not come back all at once; nothing is decided on it"
)]
fn jitter() -> f64 {
    rand::random()
}

/// One call that was let through.
#[must_use = "a permit that is dropped is no evidence"]
pub struct Permit {
    breaker: Arc<Shared>,
    generation: Generation,
    spent: bool,
}

impl Permit {
    /// There was an answer, if only a refusal.
    pub fn succeeded(mut self) {
        self.spend(Evidence::Success);
    }

    /// There was none, or one that tells of a fault.
    pub fn failed(mut self) {
        self.spend(Evidence::Failure);
    }

    fn spend(&mut self, evidence: Evidence) {
        self.spent = true;
        self.breaker.record(self.generation, evidence);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.spent {
            self.spend(Evidence::None);
        }
    }
}

#[cfg(test)]
mod tests;
