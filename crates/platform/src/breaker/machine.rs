//! The breaker's rules as a state machine: time and randomness are arguments.

use std::time::Duration;

use tokio::time::Instant;

use super::BreakerConfig;
use super::window::Window;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Everybody.
    Closed,
    /// A few, to see whether it works again.
    HalfOpen,
    /// Nobody.
    Open,
}

impl State {
    pub(crate) const ALL: [State; 3] = [State::Closed, State::HalfOpen, State::Open];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::HalfOpen => "half_open",
            State::Open => "open",
        }
    }
}

/// What the end of a call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Success,
    Failure,
    /// Nothing: its caller hung up.
    None,
}

/// Counts the changes of state, so that an answer is known to belong to the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(u64);

pub(super) struct Machine {
    config: BreakerConfig,
    phase: Phase,
    generation: Generation,
    /// How often it has opened since it was last closed.
    openings: u32,
}

enum Phase {
    Closed { window: Window, failed_in_a_row: u32 },
    HalfOpen { probing: u32, succeeded: u32 },
    Open { until: Instant },
}

impl Machine {
    /// Closed.
    pub(super) fn new(config: BreakerConfig, now: Instant) -> Machine {
        let generation = Generation(0);
        Machine { phase: Machine::closed(&config, now), config, generation, openings: 0 }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::Open { .. } => State::Open,
        }
    }

    /// Lets a call through, or says when to come back.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Generation, Duration> {
        match &mut self.phase {
            Phase::Closed { .. } => {}
            Phase::Open { until } if now < *until => return Err(*until - now),
            Phase::Open { .. } => self.enter(Phase::HalfOpen { probing: 1, succeeded: 0 }),
            Phase::HalfOpen { probing, succeeded } => {
                // The first goes alone: whoever is let through to one that still hangs has to wait.
                let most = if *succeeded == 0 { 1 } else { self.config.probes };
                if *probing + *succeeded >= most {
                    // The probes decide, and nobody knows when.
                    return Err(self.config.open_first);
                }
                *probing += 1;
            }
        }
        Ok(self.generation)
    }

    /// A call that was let through has ended. `jitter`, from 0 to 1, shortens an opening.
    pub(super) fn record(
        &mut self,
        admitted: Generation,
        evidence: Evidence,
        now: Instant,
        jitter: f64,
    ) {
        if admitted != self.generation {
            return;
        }
        let failed = evidence == Evidence::Failure;
        match &mut self.phase {
            Phase::Closed { window, failed_in_a_row } => {
                if evidence == Evidence::None {
                    return;
                }
                window.record(failed, now);
                *failed_in_a_row = if failed { *failed_in_a_row + 1 } else { 0 };
                if *failed_in_a_row >= self.config.consecutive_failures
                    || too_many(&self.config, window, now)
                {
                    self.open(now, jitter);
                }
            }
            Phase::HalfOpen { probing, succeeded } => {
                *probing -= 1;
                *succeeded += u32::from(evidence == Evidence::Success);
                if failed {
                    self.open(now, jitter);
                } else if *succeeded >= self.config.probes {
                    self.openings = 0;
                    self.enter(Machine::closed(&self.config, now));
                }
            }
            // Nobody is admitted while it is open, so there is nobody to hear of.
            Phase::Open { .. } => {}
        }
    }

    fn open(&mut self, now: Instant, jitter: f64) {
        let BreakerConfig { open_first, open_max, .. } = self.config;
        let doubled = open_first.saturating_mul(2_u32.saturating_pow(self.openings));
        self.openings += 1;
        let until = now + doubled.min(open_max).mul_f64(1.0 - jitter / 4.0);
        self.enter(Phase::Open { until });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation.0 += 1;
    }

    fn closed(config: &BreakerConfig, now: Instant) -> Phase {
        Phase::Closed { window: Window::new(config.window, now), failed_in_a_row: 0 }
    }
}

fn too_many(config: &BreakerConfig, window: &Window, now: Instant) -> bool {
    let counts = window.counts(now);
    counts.calls >= config.min_calls
        && f64::from(counts.failures) >= config.failure_ratio * f64::from(counts.calls)
}

#[cfg(test)]
mod tests;
