//! One consumer that was away: how it is made to forget, when it has caught up, and what that took.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::city::City;
use crate::pgbench::Pgbench;
use crate::process::{child, cpu, cpu_with_children};
use crate::stream::{Reading, Stream};
use crate::tables::Tables;

use super::script;

/// No consumer takes longer than this, unless it is stuck.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);
/// How often we look whether it is done.
const LOOK: Duration = Duration::from_millis(20);
/// Postgres counts a connection's last transactions when it has gone.
const COUNTED: Duration = Duration::from_millis(300);
/// How long pgbench runs.
const ONE_BY_ONE: Duration = Duration::from_secs(3);

/// Who was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Who {
    /// Folds whole rides into its view.
    Dashboard,
    /// Hears of drivings of which none has finished: nothing for it to do but to remember that.
    Payment,
    /// Opens a driving for each request, and its relay tells the others.
    Driving,
}

impl Who {
    /// The context's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Who::Dashboard => "dashboard",
            Who::Payment => "payment",
            Who::Driving => "driving",
        }
    }

    /// Which events of a ride it has missed; all, when none is named.
    pub(crate) fn missed(self) -> &'static [&'static str] {
        match self {
            Who::Dashboard => &[],
            Who::Payment => &["DrivingOpened", "DrivingApproved", "DrivingStarted"],
            Who::Driving => &["AllocationRequested"],
        }
    }

    /// How it reads the stream.
    fn reading(self) -> Reading {
        match self {
            Who::Dashboard => Reading::InOrder,
            Who::Payment => Reading::Acknowledged(&["driving"]),
            Who::Driving => Reading::Acknowledged(&["allocation", "payment"]),
        }
    }

    /// Counts the events that have had their effect. Versions of one aggregate begin with 1 and have
    /// no gaps.
    fn effects(self) -> &'static str {
        match self {
            Who::Dashboard => {
                "SELECT coalesce(sum(allocation_version + driving_version + payment_version), 0)
                ::bigint FROM driving_info"
            }
            Who::Payment => "SELECT coalesce(sum(version), 0)::bigint FROM known",
            Who::Driving => "SELECT count(*) FROM driving",
        }
    }
}

/// A consumer and what it has missed.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) who: Who,
    pub(crate) rides: usize,
    events: usize,
    stream: &'a Stream,
    /// The place of the last event of each shard.
    ends: Vec<u64>,
    tables: Tables,
    postgres: u32,
    broker: u32,
}

/// What a round took, from the exec of the consumer's process to its last event.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) events: usize,
    pub(crate) time: Duration,
    /// CPU time of the consumer's process.
    pub(crate) consumer: Duration,
    pub(crate) postgres: Duration,
    pub(crate) broker: Duration,
    /// Transactions in the consumer's database, about.
    pub(crate) transactions: i64,
    /// Bytes that Postgres has logged.
    pub(crate) logged: i64,
}

impl<'a> Work<'a> {
    /// So many events of so many rides are in the stream.
    pub(crate) async fn new(
        who: Who,
        city: &City,
        stream: &'a Stream,
        rides: usize,
        events: usize,
    ) -> Result<Work<'a>> {
        Ok(Work {
            who,
            rides,
            events,
            stream,
            ends: stream.ends().await?,
            tables: Tables::connect(city.mesh.database_url(who.name())).await?,
            postgres: city.postgres,
            broker: child("nats-server")?,
        })
    }

    /// A round of the real consumer.
    pub(crate) async fn consume(&self, city: &mut City) -> Result<Spent> {
        self.forget().await?;
        let (transactions, logged) =
            (self.tables.transactions().await?, self.tables.logged().await?);
        let (postgres, broker) = (cpu_with_children(self.postgres)?, cpu(self.broker)?);
        let start = Instant::now();
        city.mesh.start_context(self.who.name()).await;
        let looks = self.caught_up(start + LIMIT).await?;
        let mut spent = Spent {
            events: self.events,
            time: start.elapsed(),
            consumer: cpu(city.mesh.pid(self.who.name()))?,
            postgres: cpu_with_children(self.postgres)?.saturating_sub(postgres),
            broker: cpu(self.broker)?.saturating_sub(broker),
            transactions: 0,
            logged: self.tables.logged().await? - logged,
        };
        city.mesh.stop(self.who.name()).await;
        sleep(COUNTED).await;
        spent.transactions = self.tables.transactions().await? - transactions - looks;
        Ok(spent)
    }

    /// A round of one that only fetches.
    pub(crate) async fn fetch(&self) -> Result<Spent> {
        let (own, broker) = (cpu(std::process::id())?, cpu(self.broker)?);
        let start = Instant::now();
        let events = usize::try_from(self.stream.fetch(self.who.reading()).await?)?;
        if events != self.events {
            return Err(format!("{events} of {} events are in the stream", self.events).into());
        }
        Ok(Spent {
            events,
            time: start.elapsed(),
            consumer: cpu(std::process::id())?.saturating_sub(own),
            broker: cpu(self.broker)?.saturating_sub(broker),
            ..Spent::default()
        })
    }

    /// As if it had never run.
    pub(crate) async fn forget(&self) -> Result<()> {
        self.stream.forget(self.who.name()).await?;
        self.stream.purge(Some(self.who.name())).await?;
        self.tables.empty().await
    }

    /// Waits until every event has had its effect; answers how often the database was asked.
    async fn caught_up(&self, end: Instant) -> Result<i64> {
        let mut looks = 0;
        loop {
            let mut effects = 0;
            if self.at_end(&mut looks).await? {
                looks += 1;
                effects = self.tables.number(self.who.effects()).await?;
            }
            if usize::try_from(effects)? == self.events {
                return Ok(looks);
            }
            if Instant::now() >= end {
                let (who, events) = (self.who.name(), self.events);
                return Err(format!("{who} did not catch up: {effects} of {events} events").into());
            }
            sleep(LOOK).await;
        }
    }

    /// Whether it says itself that nothing is left.
    async fn at_end(&self, looks: &mut i64) -> Result<bool> {
        if self.who != Who::Dashboard {
            return self.stream.is_done(self.who.name()).await;
        }
        *looks += 1;
        let ends: Vec<String> =
            self.ends.iter().enumerate().map(|(shard, end)| format!("({shard}, {end})")).collect();
        let there = format!(
            "SELECT count(*) FROM (VALUES {}) AS wanted (shard, sequence)
            JOIN checkpoint ON checkpoint.shard = wanted.shard
            AND checkpoint.sequence >= wanted.sequence",
            ends.join(", ")
        );
        Ok(usize::try_from(self.tables.number(&there).await?)? == self.ends.len())
    }
}

/// A pgbench that folds one event in one transaction.
#[derive(Debug)]
pub(crate) struct OneByOne(Pgbench);

impl OneByOne {
    /// With a view as large as the one that was just folded.
    pub(crate) async fn prepare(
        work: &Work<'_>,
        city: &mut City,
        binary: &Path,
    ) -> Result<OneByOne> {
        let ride = work.tables.some_row("driving_info").await?;
        let script = script::script(&ride, work.rides);
        let context = work.who.name();
        let pgbench = Pgbench::prepare(&mut city.mesh, binary, context, &script).await?;
        let tables = Tables::connect(pgbench.database()).await?;
        script::fill(&tables, &ride, work.rides, work.stream.shards()).await?;
        Ok(OneByOne(pgbench))
    }

    /// Events a second, with so many connections.
    pub(crate) async fn run(&self, connections: u32) -> Result<f64> {
        Ok(self.0.run(ONE_BY_ONE, connections).await?.per_second)
    }
}
