//! Waiting for something that another process does.

use std::fmt::Debug;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

const INTERVAL: Duration = Duration::from_millis(20);

/// Asks until the answer is `Ok`, and returns it. `Err` is what was seen instead.
///
/// ```
/// # async fn count() -> Result<u32, String> { Ok(1) }
/// # async fn example() {
/// use std::time::Duration;
/// let one = testkit::eventually(Duration::from_secs(5), || async {
///     match count().await? {
///         1 => Ok(1),
///         other => Err(format!("{other} rides")),
///     }
/// })
/// .await;
/// # }
/// ```
///
/// # Panics
/// When the deadline passes, at the caller's line, with what was seen last.
#[track_caller]
pub fn eventually<T, E, F, A>(
    deadline: Duration,
    mut condition: F,
) -> impl Future<Output = T> + use<T, E, F, A>
where
    E: Debug,
    F: FnMut() -> A,
    A: Future<Output = Result<T, E>>,
{
    let caller = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut seen: Option<E> = None;
        loop {
            match timeout_at(end, condition()).await {
                Ok(Ok(value)) => return value,
                Ok(Err(other)) => seen = Some(other),
                Err(_elapsed) => {}
            }
            if Instant::now() + INTERVAL >= end {
                match seen {
                    Some(seen) => {
                        panic!("{caller}: not so after {deadline:?}, last seen: {seen:?}")
                    }
                    None => panic!("{caller}: no answer within {deadline:?}"),
                }
            }
            sleep(INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_asks_again_until_the_answer_is_ok() {
        let mut asked = 0;
        let answer = eventually(Duration::from_secs(5), || {
            asked += 1;
            let answer = if asked < 3 { Err(asked) } else { Ok("three") };
            async move { answer }
        });
        assert_eq!(answer.await, "three");
    }

    #[tokio::test]
    #[should_panic(expected = "last seen: \"two rides\"")]
    async fn it_tells_what_it_saw_last() {
        let seen = || async { Err::<(), _>("two rides") };
        eventually(Duration::from_millis(50), seen).await;
    }

    #[tokio::test]
    #[should_panic(expected = "no answer within")]
    async fn a_condition_that_hangs_does_not_hang_the_test() {
        eventually(Duration::from_millis(50), std::future::pending::<Result<(), ()>>).await;
    }
}
