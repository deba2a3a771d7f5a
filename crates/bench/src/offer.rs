//! An open loop: whatever becomes of one call, the next one begins when it is due.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::stats::due;

/// Something that was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done<T> {
    pub(crate) due: Instant,
    pub(crate) end: Instant,
    pub(crate) outcome: T,
}

impl<T> Done<T> {
    /// How long whoever wanted it waited.
    pub(crate) fn wait(&self) -> Duration {
        self.end - self.due
    }
}

/// Does something so often, at so many a second, and waits until all is done; in the order in which
/// it was due.
pub(crate) async fn offer<F>(
    rate: u32,
    count: u32,
    mut act: impl FnMut() -> F,
) -> Vec<Done<F::Output>>
where
    F: Future<Output: Send> + Send + 'static,
{
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let due = start + due(n.into(), rate);
        sleep_until(due).await;
        let work = act();
        tasks.spawn(async move {
            let outcome = work.await;
            Done { due, end: Instant::now(), outcome }
        });
    }
    let mut all = tasks.join_all().await;
    all.sort_by_key(|done| done.due);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_those_before() {
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        let all = offer(4, 8, || sleep(second)).await;
        assert_eq!(begin.elapsed(), second * 11 / 4);
        assert!(all.iter().all(|done| done.wait() == second));
        let (first, last) = (all[0].due, all[7].due);
        assert_eq!((first, last), (begin, begin + second * 7 / 4));
    }
}
