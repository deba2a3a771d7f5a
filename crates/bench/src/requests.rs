//! RequestAllocation in turns with pgbench, A B B A A B ..: what one gains from a quiet moment of
//! the machine, the other gains in the next.

use std::time::Duration;

use serde::Serialize;
use testkit::AllocationClient;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Status;

use crate::city::{City, Cpu, Customers};
use crate::pgbench::{Pgbench, Transactions};
use crate::stats::{Latency, median, micros_each, per_second};
use crate::{Options, Result};

const WARM_UP: Duration = Duration::from_secs(2);
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// Those whose events are worked on by others when they are not frozen.
const OTHERS: [&str; 4] = ["driving", "payment", "dashboard", "message"];

/// What was measured: medians of the rounds, latencies of all calls.
#[derive(Debug, Serialize)]
pub(crate) struct Requests {
    pub(crate) streams: u32,
    /// Whether the other contexts were frozen.
    pub(crate) alone: bool,
    pub(crate) calls_per_second: f64,
    pub(crate) transactions_per_second: f64,
    pub(crate) ratio: f64,
    pub(crate) latency: Latency,
    pub(crate) transaction_mean_ms: f64,
    pub(crate) failed: usize,
    pub(crate) cpu: CpuEach,
    pub(crate) rounds: Vec<Round>,
}

/// CPU time of one call in microseconds, with everything that follows from it in other contexts;
/// and of one transaction of pgbench in Postgres.
#[derive(Debug, Serialize)]
pub(crate) struct CpuEach {
    pub(crate) allocation_us: f64,
    pub(crate) contexts_us: f64,
    pub(crate) postgres_us: f64,
    pub(crate) pgbench_postgres_us: f64,
}

/// One turn each.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) calls_per_second: f64,
    pub(crate) transactions_per_second: f64,
}

/// What one round of calls was.
#[derive(Debug, Default)]
struct Calls {
    latencies: Vec<Duration>,
    in_time: usize,
    failures: Vec<Status>,
    cpu: Cpu,
}

/// What one round of transactions was.
struct Rival {
    transactions: Transactions,
    cpu: Cpu,
}

/// Measures in turns.
pub(crate) async fn measure(city: &mut City, options: &Options) -> Result<Requests> {
    let pgbench = Pgbench::prepare(&mut city.mesh).await?;
    eprintln!("requests: warming up");
    calls(city, options, WARM_UP).await?;
    rival(city, &pgbench, WARM_UP).await?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..options.rounds {
        if n % 2 == 1 {
            theirs.push(rival(city, &pgbench, options.round()).await?);
        }
        ours.push(calls(city, options, options.round()).await?);
        if n % 2 == 0 {
            theirs.push(rival(city, &pgbench, options.round()).await?);
        }
        eprintln!("requests: round {} of {}", n + 1, options.rounds);
    }
    Ok(summary(options, &ours, &theirs))
}

fn summary(options: &Options, ours: &[Calls], theirs: &[Rival]) -> Requests {
    let calls_per_second = |calls: &Calls| per_second(calls.in_time, options.round());
    let rounds = ours.iter().zip(theirs).map(|(calls, rival)| Round {
        calls_per_second: calls_per_second(calls),
        transactions_per_second: rival.transactions.per_second,
    });
    let speed = median(ours.iter().map(calls_per_second));
    let rival_speed = median(theirs.iter().map(|rival| rival.transactions.per_second));
    let each = |of: fn(&Cpu) -> Duration| {
        median(ours.iter().map(|calls| micros_each(of(&calls.cpu), calls.latencies.len())))
    };
    let rival_each =
        theirs.iter().map(|rival| micros_each(rival.cpu.postgres, rival.transactions.count));
    Requests {
        streams: options.streams,
        alone: options.alone,
        calls_per_second: speed,
        transactions_per_second: rival_speed,
        ratio: speed / rival_speed,
        latency: Latency::of(ours.iter().flat_map(|calls| calls.latencies.iter().copied())),
        transaction_mean_ms: median(theirs.iter().map(|rival| rival.transactions.mean_ms)),
        failed: ours.iter().map(|calls| calls.failures.len()).sum(),
        cpu: CpuEach {
            allocation_us: each(|cpu| cpu.allocation),
            contexts_us: each(|cpu| cpu.contexts),
            postgres_us: each(|cpu| cpu.postgres),
            pgbench_postgres_us: median(rival_each),
        },
        rounds: rounds.collect(),
    }
}

async fn rival(city: &City, pgbench: &Pgbench, length: Duration) -> Result<Rival> {
    let before = city.cpu()?;
    let transactions = pgbench.run(length).await?;
    Ok(Rival { transactions, cpu: city.cpu()? - before })
}

/// All streams call for a while; returns when what they asked for has had its consequences.
async fn calls(city: &mut City, options: &Options, length: Duration) -> Result<Calls> {
    if options.alone {
        OTHERS.into_iter().for_each(|context| city.mesh.freeze(context));
    }
    let before = city.cpu()?;
    let until = Instant::now() + length;
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
    if options.alone {
        OTHERS.into_iter().for_each(|context| city.mesh.thaw(context));
        city.settle().await?;
    }
    match all.failures.first() {
        Some(first) if all.latencies.is_empty() => Err(format!("no request works: {first}").into()),
        Some(first) => {
            eprintln!("  {} requests failed, the first: {first}", all.failures.len());
            Ok(all)
        }
        None => Ok(all),
    }
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
