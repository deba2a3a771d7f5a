//! Counts of the latest calls.

use std::time::Duration;

use tokio::time::Instant;

/// In how many steps the window slides.
const STEPS: u64 = 10;

/// How many calls ended within the latest ten steps, the present one included, and how many of them
/// failed. The counts are exact.
pub(super) struct Window {
    start: Instant,
    step: Duration,
    buckets: [Bucket; STEPS as usize],
}

/// What happened in one step.
#[derive(Clone, Copy, Default)]
struct Bucket {
    step: u64,
    counts: Counts,
}

/// Calls that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u32,
    pub(super) failures: u32,
}

impl Window {
    /// An empty window of this length, from now on.
    pub(super) fn new(length: Duration, now: Instant) -> Window {
        let step = length / STEPS as u32;
        Window { start: now, step, buckets: [Bucket::default(); STEPS as usize] }
    }

    /// A call has ended. Time does not go back.
    pub(super) fn record(&mut self, failed: bool, now: Instant) {
        let step = self.step_at(now);
        let bucket = &mut self.buckets[(step % STEPS) as usize];
        if bucket.step != step {
            *bucket = Bucket { step, counts: Counts::default() };
        }
        bucket.counts.calls += 1;
        bucket.counts.failures += u32::from(failed);
    }

    /// What is in the window now.
    pub(super) fn counts(&self, now: Instant) -> Counts {
        let present = self.step_at(now);
        let within = self.buckets.iter().filter(|bucket| bucket.step + STEPS > present);
        within.fold(Counts::default(), |sum, bucket| Counts {
            calls: sum.calls + bucket.counts.calls,
            failures: sum.failures + bucket.counts.failures,
        })
    }

    fn step_at(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.start);
        (passed.as_nanos() / self.step.as_nanos()) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTH: Duration = Duration::from_millis(1_000);

    /// The same, slowly: every call is kept, and looked at each time.
    #[derive(Default)]
    struct Model {
        calls: Vec<(u64, bool)>,
    }

    impl Model {
        fn counts(&self, now_ms: u64) -> Counts {
            let (last, step) = (now_ms / 100, |at: &u64| at / 100);
            let within = self.calls.iter().filter(|(at, _)| step(at) + 10 > last);
            let (calls, failures) = within.fold((0, 0), |(calls, failures), (_, failed)| {
                (calls + 1, failures + u32::from(*failed))
            });
            Counts { calls, failures }
        }
    }

    proptest! {
        #[test]
        fn the_counts_are_exact(
            calls in prop::collection::vec((0_u64..400, any::<bool>()), 0..200),
            pause in 0_u64..3_000,
        ) {
            let start = Instant::now();
            let at = |ms| start + Duration::from_millis(ms);
            let (mut window, mut model, mut now) = (Window::new(LENGTH, start), Model::default(), 0);
            for (later, failed) in calls {
                now += later;
                window.record(failed, at(now));
                model.calls.push((now, failed));
                prop_assert_eq!(window.counts(at(now)), model.counts(now));
            }
            now += pause;
            prop_assert_eq!(window.counts(at(now)), model.counts(now));
        }
    }
}
