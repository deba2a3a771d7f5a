//! How a method is called.

use std::time::Duration;

use serde::Deserialize;

use crate::breaker::BreakerConfig;
use crate::config::{ConfigError, duration};

/// How a method is called: `[call.<method>]` in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallPolicy {
    /// The longest a call may take, all in all. It is not in the table: whoever wants the answer
    /// says so.
    #[serde(skip)]
    pub deadline: Duration,
    /// The longest one attempt may take.
    #[serde(with = "duration")]
    pub attempt_timeout: Duration,
    /// How many attempts are made at most, the first one included.
    pub attempts: u32,
    /// The pause before a further attempt.
    pub backoff: Backoff,
    /// How many further attempts all calls together may make.
    pub retry_budget: RetryBudget,
    /// When no attempt is made at all.
    pub breaker: BreakerConfig,
}

/// A random pause, from nothing up to a limit that doubles.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// The limit of the first pause.
    #[serde(with = "duration")]
    pub first: Duration,
    /// The limit of all pauses.
    #[serde(with = "duration")]
    pub max: Duration,
}

/// So many further attempts are made within ten seconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryBudget {
    /// For each call that was answered,
    pub ratio: f32,
    /// and each second, whatever happened.
    pub per_second: u32,
}

impl CallPolicy {
    /// For what must not be repeated: one attempt, which may take the whole time.
    pub fn once(deadline: Duration) -> CallPolicy {
        CallPolicy {
            deadline,
            attempt_timeout: deadline,
            attempts: 1,
            backoff: Backoff { first: Duration::from_millis(25), max: Duration::from_millis(500) },
            retry_budget: RetryBudget { ratio: 0.25, per_second: 5 },
            breaker: BreakerConfig::default(),
        }
    }

    /// Refuses what makes no sense; `key` is how the person who set it knows it.
    pub fn check(&self, key: &str) -> Result<(), ConfigError> {
        let CallPolicy { deadline, attempt_timeout, attempts, backoff, retry_budget, breaker } =
            self;
        let refuse = |what: String| Err(ConfigError::new(format!("{key}.{what}")));
        if attempt_timeout.is_zero() || attempt_timeout > deadline {
            return refuse(format!(
                "attempt_timeout is {attempt_timeout:?}: it must be above 0 and at most what the \
                 whole call may take, {deadline:?}"
            ));
        }
        if *attempts == 0 {
            return refuse("attempts is 0: the first attempt counts too".to_owned());
        }
        if backoff.first > backoff.max {
            let Backoff { first, max } = backoff;
            return refuse(format!("backoff.first is {first:?}, more than backoff.max, {max:?}"));
        }
        if !(0.0..=1.0).contains(&retry_budget.ratio) {
            let ratio = retry_budget.ratio;
            return refuse(format!("retry_budget.ratio is {ratio}: it must be from 0 to 1"));
        }
        if retry_budget.per_second > RetryBudget::MOST_PER_SECOND {
            return refuse(format!(
                "retry_budget.per_second is {}: at most {} make sense",
                retry_budget.per_second,
                RetryBudget::MOST_PER_SECOND
            ));
        }
        breaker.check(&format!("{key}.breaker"))
    }
}

impl RetryBudget {
    const MOST_PER_SECOND: u32 = 1_000_000;
}

impl Backoff {
    /// The pause before further attempt number `retry`, from 1. `random` is from 0 to 1.
    pub(super) fn pause(&self, retry: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(retry.saturating_sub(1)));
        doubled.min(self.max).mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_policy_is_checked_with_a_sentence() {
        let good = CallPolicy::once(MS(800));
        assert_eq!(good.check("call.cook"), Ok(()));
        let breaker = good.breaker;
        for (bad, sentence) in [
            (CallPolicy { attempts: 0, ..good }, "attempts is 0: the first attempt counts too"),
            (
                CallPolicy { attempt_timeout: MS(801), ..good },
                "attempt_timeout is 801ms: it must be above 0 and at most what the whole call may \
                 take, 800ms",
            ),
            (
                CallPolicy { backoff: Backoff { first: MS(2), max: MS(1) }, ..good },
                "backoff.first is 2ms, more than backoff.max, 1ms",
            ),
            (
                CallPolicy { retry_budget: RetryBudget { ratio: 1.5, per_second: 1 }, ..good },
                "retry_budget.ratio is 1.5: it must be from 0 to 1",
            ),
            (
                CallPolicy { retry_budget: RetryBudget { ratio: f32::NAN, per_second: 1 }, ..good },
                "retry_budget.ratio is NaN: it must be from 0 to 1",
            ),
            (
                CallPolicy { breaker: BreakerConfig { failure_ratio: 2.0, ..breaker }, ..good },
                "breaker.failure_ratio is 2: it must be above 0 and at most 1",
            ),
            (
                CallPolicy { breaker: BreakerConfig { probes: 0, ..breaker }, ..good },
                "breaker.probes is 0: at least 1 is needed",
            ),
            (
                CallPolicy { breaker: BreakerConfig { open_first: MS(5000), ..breaker }, ..good },
                "breaker.open_first is 5s: it must be above 0 and at most open_max, 4s",
            ),
        ] {
            let refused = bad.check("call.cook").expect_err(sentence).to_string();
            assert_eq!(refused, format!("call.cook.{sentence}"));
        }
    }

    #[test]
    fn the_limit_of_the_pause_doubles() {
        let backoff = Backoff { first: MS(25), max: MS(80) };
        for (retry, limit) in [(1, 25), (2, 50), (3, 80), (99, 80)] {
            assert_eq!(backoff.pause(retry, 1.0), MS(limit), "{retry}");
            assert_eq!(backoff.pause(retry, 0.0), Duration::ZERO);
        }
    }
}
