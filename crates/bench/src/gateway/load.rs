//! Both kinds of load.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Options;
use super::way::{Caller, Fleet, Way};
use crate::Result;
use crate::offer::offer;
use crate::process::cpu;
use crate::stats::{Latency, micros_each, per_second};

/// What one way was like in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    /// CPU time of the gateway for each request, if there is a gateway.
    pub(crate) cpu_us: Option<f64>,
    /// At the moderate rate.
    pub(crate) latency: Latency,
    pub(crate) failed: usize,
}

/// As many requests as there can be for this long, and then some at a moderate rate for as long.
pub(crate) async fn round(
    fleet: &Fleet,
    way: Way,
    options: &Options,
    length: Duration,
) -> Result<Round> {
    let before = fleet.gateway(way).map(cpu).transpose()?;
    let flood = flood(fleet, way, options.callers, length).await?;
    let after = fleet.gateway(way).map(cpu).transpose()?;
    let used = before.zip(after).map(|(before, after)| after.saturating_sub(before));
    let done = flood.done;
    if done == 0 {
        return Err(format!("no request gets through: {}", way.name()).into());
    }
    let (latency, failed) = calm(fleet, way, options.rate, length).await?;
    Ok(Round {
        per_second: per_second(done, flood.took),
        cpu_us: used.map(|used| micros_each(used, done)),
        latency,
        failed: flood.failed + failed,
    })
}

#[derive(Clone, Copy, Debug, Default)]
struct Flood {
    done: usize,
    failed: usize,
    took: Duration,
}

/// All callers ask one question after the other.
async fn flood(fleet: &Fleet, way: Way, callers: u32, length: Duration) -> Result<Flood> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..callers as usize {
        tasks.spawn(ask(fleet.caller(way, n)?, start + length));
    }
    let mut all = Flood::default();
    while let Some(one) = tasks.join_next().await {
        let one = one?;
        all.done += one.done;
        all.failed += one.failed;
    }
    all.took = start.elapsed();
    Ok(all)
}

async fn ask(mut caller: Caller, until: Instant) -> Flood {
    let mut flood = Flood::default();
    while Instant::now() < until {
        match caller.ask().await {
            Ok(()) => flood.done += 1,
            Err(error) => {
                if flood.failed == 0 {
                    eprintln!("  a request failed: {error}");
                }
                flood.failed += 1;
            }
        }
    }
    flood
}

/// So many requests a second, whatever becomes of those before. Each is timed from when it begins:
/// when it was due is known to a millisecond only, which is more than a gateway may add.
async fn calm(fleet: &Fleet, way: Way, rate: u32, length: Duration) -> Result<(Latency, usize)> {
    let count = (length.as_secs() as u32).max(1) * rate;
    let callers: Vec<Caller> =
        (0..count as usize).map(|n| fleet.caller(way, n)).collect::<Result<_>>()?;
    let mut callers = callers.into_iter();
    let all = offer(rate, count, || {
        let caller = callers.next();
        async move {
            match caller {
                Some(mut caller) => {
                    let start = Instant::now();
                    caller.ask().await.ok().map(|()| start.elapsed())
                }
                None => None,
            }
        }
    });
    let all = all.await;
    let latency = Latency::of(all.iter().filter_map(|done| done.outcome));
    Ok((latency, all.iter().filter(|done| done.outcome.is_none()).count()))
}
