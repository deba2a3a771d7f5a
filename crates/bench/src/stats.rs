//! The arithmetic of a measurement: medians, percentiles, and when things are due.

use std::time::Duration;

use serde::Serialize;

/// One figure of several rounds, and their median, which counts.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Rounds {
    pub(crate) median: f64,
    pub(crate) rounds: Vec<f64>,
}

impl Rounds {
    /// Sums them up: of an even number, the mean of the two in the middle.
    pub(crate) fn of(rounds: impl IntoIterator<Item = f64>) -> Rounds {
        let rounds: Vec<f64> = rounds.into_iter().collect();
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => 0.0,
            odd if odd % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Rounds { median, rounds }
    }
}

/// How long something took, of all the times it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latency {
    /// Summed up exactly: every single one is sorted, none is put into a bucket.
    pub(crate) fn of(all: impl IntoIterator<Item = Duration>) -> Latency {
        let mut all: Vec<Duration> = all.into_iter().collect();
        all.sort_unstable();
        let at = |percent| millis(percentile(&all, percent));
        Latency { p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

/// By nearest rank: the smallest of the sorted values that so many percent do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// In milliseconds.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// How many a second.
pub(crate) fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Microseconds for each of so many.
pub(crate) fn micros_each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// When the n-th is due after the start, at so many a second.
pub(crate) fn due(n: u64, rate: u32) -> Duration {
    let rate = u64::from(rate);
    Duration::from_secs(n / rate) + Duration::from_nanos(n % rate * 1_000_000_000 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let median = |rounds: &[f64]| Rounds::of(rounds.iter().copied()).median;
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred = Latency::of((1..=100).rev().map(Duration::from_millis));
        assert_eq!(hundred, Latency { p50_ms: 50.0, p99_ms: 99.0, max_ms: 100.0 });
        let few = Latency::of([1, 2, 300].map(Duration::from_millis));
        assert_eq!(few, Latency { p50_ms: 2.0, p99_ms: 300.0, max_ms: 300.0 });
        assert_eq!(Latency::of([]), Latency::default());
    }

    #[test]
    fn a_schedule_does_not_drift() {
        assert_eq!(due(0, 100), Duration::ZERO);
        assert_eq!(due(1, 100), Duration::from_millis(10));
        assert_eq!(due(1_000_000_007 * 3, 3), Duration::from_secs(1_000_000_007));
    }
}
