//! What a driving costs: the fare policy, and nothing else.

use kernel::{Money, Timestamp};

/// What a minute costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    /// The price of one minute.
    pub per_minute: Money,
    /// The name of the policy that says so.
    pub policy_version: String,
}

/// What a driving costs, and how that came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fare {
    /// What is to be paid: `minutes` times `rate`.
    pub amount: Money,
    /// The minutes charged.
    pub minutes: i64,
    /// The price of one minute, as it was at the finish.
    pub rate: Money,
    /// The policy in force at the finish.
    pub policy_version: String,
}

impl Tariff {
    /// Every minute of every ride costs the same.
    pub fn flat(per_minute: Money, policy_version: impl Into<String>) -> Tariff {
        Tariff { per_minute, policy_version: policy_version.into() }
    }

    /// **The fare rule**: whole minutes, rounded down, and at least one.
    pub fn fare(&self, start: Timestamp, finish: Timestamp) -> Fare {
        let seconds = finish.since(start).as_secs();
        let minutes = i64::try_from(seconds / 60).unwrap_or(i64::MAX).max(1);
        Fare {
            amount: self.per_minute.times(minutes),
            minutes,
            rate: self.per_minute,
            policy_version: self.policy_version.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    /// What a ride of this length costs.
    fn fare(won_per_minute: i64, ride: Duration) -> Fare {
        let start = Timestamp::default();
        Tariff::flat(Money::won(won_per_minute), "2021-07").fare(start, start.plus(ride))
    }

    #[test]
    fn minutes_are_whole_and_at_least_one() {
        for (milliseconds, won) in [
            (0, 1_000),
            (59_999, 1_000),
            (60_000, 1_000),
            (119_999, 1_000),
            (120_000, 2_000),
            (3_600_000, 60_000),
        ] {
            let fare = fare(1_000, Duration::from_millis(milliseconds));
            assert_eq!(fare.amount, Money::won(won), "{milliseconds} ms");
        }
    }

    proptest! {
        #[test]
        fn a_fare_explains_itself(seconds in 0..10_000_000_u64, rate in 1..1_000_000_i64) {
            let fare = fare(rate, Duration::from_secs(seconds));
            prop_assert_eq!(fare.amount, fare.rate.times(fare.minutes));
            prop_assert_eq!((fare.rate, fare.policy_version), (Money::won(rate), "2021-07".to_owned()));
            let charged = u64::try_from(fare.minutes).expect("positive") * 60;
            prop_assert!(charged <= seconds.max(60) && seconds < charged + 60);
        }

        #[test]
        fn a_longer_ride_is_never_cheaper(one: u64, more: u64) {
            let of = |seconds| fare(1_000, Duration::from_secs(seconds)).amount;
            prop_assert!(of(one) <= of(one.saturating_add(more)));
        }
    }
}
