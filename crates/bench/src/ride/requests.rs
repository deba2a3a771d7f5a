//! RequestAllocation in turns with pgbench, A B B A A B ..: what one gains from a quiet moment of
//! the machine, the other gains in the next.

use std::time::Duration;

use serde::Serialize;
use testkit::AllocationClient;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::Options;
use crate::Result;
use crate::city::{City, Cpu, Customers};
use crate::pgbench::{Pgbench, Transactions};
use crate::stats::{Latency, Rounds, micros_each, per_second};

const WARM_UP: Duration = Duration::from_secs(2);
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// With so many connections this machine's Postgres shares its commits well.
const CLIENTS: u32 = 16;

/// What those do who work on the events of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Others {
    /// Nothing: as nobody works on what pgbench writes. Compares like with like.
    Frozen,
    /// What they always do, on the same cores.
    AtWork,
}

/// Those who work on the events of the requests.
const OTHERS: [&str; 4] = ["driving", "payment", "dashboard", "message"];

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Requests {
    pub(crate) streams: u32,
    pub(crate) others: Others,
    pub(crate) calls_per_second: Rounds,
    pub(crate) pgbench_per_second: Rounds,
    /// Of the medians.
    pub(crate) ratio: f64,
    /// Of all calls of all rounds.
    pub(crate) latency: Latency,
    pub(crate) pgbench_mean_ms: Rounds,
    pub(crate) failed: usize,
    pub(crate) cpu_us: CpuEach,
}

/// CPU time of one call in microseconds, with everything that follows from it in other contexts;
/// and of one transaction of pgbench in Postgres.
#[derive(Debug, Serialize)]
pub(crate) struct CpuEach {
    pub(crate) allocation: Rounds,
    pub(crate) contexts: Rounds,
    pub(crate) postgres: Rounds,
    pub(crate) pgbench_postgres: Rounds,
}

/// What one round of calls was.
#[derive(Default)]
struct Calls {
    latencies: Vec<Duration>,
    in_time: usize,
    failures: Vec<Status>,
    cpu: Cpu,
}

/// Measures in turns.
pub(crate) async fn measure(
    city: &mut City,
    pgbench: &Pgbench,
    options: &Options,
    others: Others,
) -> Result<Requests> {
    eprintln!("requests: warming up");
    calls(city, options, others, WARM_UP).await?;
    rival(city, pgbench, WARM_UP).await?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 1..=options.rounds {
        if n % 2 == 0 {
            theirs.push(rival(city, pgbench, options.round()).await?);
        }
        ours.push(calls(city, options, others, options.round()).await?);
        if n % 2 == 1 {
            theirs.push(rival(city, pgbench, options.round()).await?);
        }
        eprintln!("requests: round {n} of {}", options.rounds);
    }
    Ok(summary(options, others, &ours, &theirs))
}

fn summary(
    options: &Options,
    others: Others,
    ours: &[Calls],
    theirs: &[(Transactions, Duration)],
) -> Requests {
    let each = |of: fn(&Cpu) -> Duration| {
        Rounds::of(ours.iter().map(|calls| micros_each(of(&calls.cpu), calls.latencies.len())))
    };
    let calls_per_second =
        Rounds::of(ours.iter().map(|calls| per_second(calls.in_time, options.round())));
    let pgbench_per_second = Rounds::of(theirs.iter().map(|(all, _)| all.per_second));
    Requests {
        streams: options.streams,
        others,
        ratio: calls_per_second.median / pgbench_per_second.median,
        calls_per_second,
        pgbench_per_second,
        latency: Latency::of(ours.iter().flat_map(|calls| calls.latencies.iter().copied())),
        pgbench_mean_ms: Rounds::of(theirs.iter().map(|(all, _)| all.mean_ms)),
        failed: ours.iter().map(|calls| calls.failures.len()).sum(),
        cpu_us: CpuEach {
            allocation: each(|cpu| cpu.allocation),
            contexts: each(|cpu| cpu.contexts),
            postgres: each(|cpu| cpu.postgres),
            pgbench_postgres: Rounds::of(
                theirs.iter().map(|(all, cpu)| micros_each(*cpu, all.count)),
            ),
        },
    }
}

/// What pgbench achieves for a while, and what that costs Postgres.
async fn rival(city: &City, pgbench: &Pgbench, time: Duration) -> Result<(Transactions, Duration)> {
    let before = city.cpu()?;
    let transactions = pgbench.run(time, CLIENTS).await?;
    Ok((transactions, (city.cpu()? - before).postgres))
}

/// All streams call for a while; returns when what they asked for has had its consequences.
async fn calls(
    city: &mut City,
    options: &Options,
    others: Others,
    time: Duration,
) -> Result<Calls> {
    if others == Others::Frozen {
        OTHERS.into_iter().for_each(|context| city.mesh.freeze(context));
    }
    let before = city.cpu()?;
    let until = Instant::now() + time;
    let mut streams = JoinSet::new();
    for n in 0..options.streams {
        streams.spawn(stream(city.allocation(n as usize), city.customers(), until));
    }
    let mut all = Calls::default();
    while let Some(stream) = streams.join_next().await {
        let stream = stream?;
        all.latencies.extend(stream.latencies);
        all.in_time += stream.in_time;
        all.failures.extend(stream.failures);
    }
    city.settle().await?;
    all.cpu = city.cpu()? - before;
    if others == Others::Frozen {
        OTHERS.into_iter().for_each(|context| city.mesh.thaw(context));
        city.settle().await?;
    }
    if let Some(first) = all.failures.first() {
        if all.latencies.is_empty() {
            return Err(format!("no request works: {first}").into());
        }
        eprintln!("  {} requests failed, the first: {first}", all.failures.len());
    }
    Ok(all)
}

/// One call after the other.
async fn stream(mut client: AllocationClient, customers: Customers, until: Instant) -> Calls {
    let mut calls = Calls::default();
    loop {
        let start = Instant::now();
        if start >= until {
            return calls;
        }
        match client.request_allocation(customers.next()).await {
            Ok(_) => {
                calls.latencies.push(start.elapsed());
                calls.in_time += usize::from(Instant::now() <= until);
            }
            Err(status) => {
                calls.failures.push(status);
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}
