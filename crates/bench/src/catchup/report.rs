//! What was measured, and whether it is what was wanted.

use std::fmt::{self, Formatter};
use std::time::Duration;

use serde::Serialize;

use crate::Result;
use crate::process::Machine;
use crate::stats::{Rounds, micros_each, per_second};
use crate::table::{Goal, goals, row};

use super::work::{Spent, Who};

/// All measurements.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    machine: Machine,
    shards: u32,
    consumers: Vec<Consumer>,
    goals: Vec<Goal>,
}

/// The rounds of one consumer, and of those beside it.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) ours: Vec<Spent>,
    pub(crate) idle: Vec<Spent>,
    /// Events a second of one connection with one transaction for each event.
    pub(crate) alone: Vec<f64>,
    /// Of a connection for each shard.
    pub(crate) shared: Vec<f64>,
}

/// One consumer.
#[derive(Debug, Serialize)]
struct Consumer {
    who: Who,
    events: usize,
    rides: usize,
    events_per_second: Rounds,
    /// Of a consumer that only fetches.
    fetched_per_second: Rounds,
    cpu_us: CpuEach,
    /// About; a query outside of a transaction counts as one.
    events_per_transaction: Rounds,
    /// What Postgres has logged for each event.
    logged_bytes: Rounds,
    one_by_one: Option<OneByOne>,
}

/// CPU time of one event in microseconds.
#[derive(Debug, Serialize)]
struct CpuEach {
    consumer: Rounds,
    postgres: Rounds,
    broker: Rounds,
    /// Of the one that only fetches.
    fetching: Rounds,
    /// Of the broker meanwhile.
    fetching_broker: Rounds,
}

/// Events a second with one transaction for each event.
#[derive(Debug, Serialize)]
struct OneByOne {
    alone: Rounds,
    shared: Rounds,
    /// How many times as fast as that we are, of the medians.
    times_alone: f64,
    times_shared: f64,
}

impl Report {
    /// Of a stream with so many shards; nothing is measured yet.
    pub(crate) fn new(shards: u32) -> Result<Report> {
        let machine = Machine::now()?;
        Ok(Report { machine, shards, consumers: Vec::new(), goals: Vec::new() })
    }

    /// Adds a consumer, and compares it with what is wanted.
    pub(crate) fn add(&mut self, who: Who, rides: usize, results: Results) {
        let consumer = Consumer::of(who, rides, results);
        let speed = consumer.events_per_second.median;
        if who != Who::Driving {
            self.goal(format!("{} events/s", who.name()), ">= 10000", speed, 10_000.0);
        }
        if let Some(OneByOne { times_alone, .. }) = consumer.one_by_one {
            let what = format!("{}, of one by one", who.name());
            self.goal(what, ">= 20", times_alone, 20.0);
        }
        self.consumers.push(consumer);
    }

    fn goal(&mut self, what: String, wanted: &'static str, measured: f64, least: f64) {
        self.goals.push(Goal { what, wanted, measured, ok: measured >= least });
    }
}

impl Consumer {
    fn of(who: Who, rides: usize, results: Results) -> Consumer {
        let Results { ours, idle, alone, shared } = results;
        let speed = |all: &[Spent]| {
            Rounds::of(all.iter().map(|spent| per_second(spent.events, spent.time)))
        };
        let each = |all: &[Spent], of: fn(&Spent) -> Duration| {
            Rounds::of(all.iter().map(|spent| micros_each(of(spent), spent.events)))
        };
        let events_per_second = speed(&ours);
        let one_by_one = (!alone.is_empty()).then(|| {
            let (alone, shared) = (Rounds::of(alone), Rounds::of(shared));
            OneByOne {
                times_alone: events_per_second.median / alone.median,
                times_shared: events_per_second.median / shared.median,
                alone,
                shared,
            }
        });
        let events = ours.first().map_or(0, |spent| spent.events);
        let per = |n: i64| n.max(1) as f64;
        Consumer {
            who,
            events,
            rides,
            events_per_second,
            fetched_per_second: speed(&idle),
            cpu_us: CpuEach {
                consumer: each(&ours, |spent| spent.consumer),
                postgres: each(&ours, |spent| spent.postgres),
                broker: each(&ours, |spent| spent.broker),
                fetching: each(&idle, |spent| spent.consumer),
                fetching_broker: each(&idle, |spent| spent.broker),
            },
            events_per_transaction: Rounds::of(
                ours.iter().map(|spent| spent.events as f64 / per(spent.transactions)),
            ),
            logged_bytes: Rounds::of(
                ours.iter().map(|spent| spent.logged as f64 / spent.events.max(1) as f64),
            ),
            one_by_one,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { machine, shards, .. } = self;
        writeln!(f, "\n{machine}")?;
        writeln!(f, "a stream of {shards} shards, from exec to the last event")?;
        for consumer in &self.consumers {
            consumer.fmt(f)?;
        }
        goals(f, &self.goals)
    }
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = match self.who {
            Who::Dashboard => "folds whole rides",
            Who::Payment => "has nothing to do about drivings that have not finished",
            Who::Driving => "opens a driving for each request, its relay at work",
        };
        let (name, cpu) = (self.who.name(), &self.cpu_us);
        writeln!(f, "\n{name} {what}: {} events of {} rides", self.events, self.rides)?;
        row(f, &format!("taxi serve {name}"), &self.events_per_second, "events/s")?;
        row(f, "a consumer that only fetches", &self.fetched_per_second, "events/s")?;
        if let Some(OneByOne { alone, shared, .. }) = &self.one_by_one {
            row(f, "pgbench, one by one, alone", alone, "events/s")?;
            row(f, "pgbench, one by one, every shard", shared, "events/s")?;
        }
        row(f, &format!("CPU: taxi serve {name}"), &cpu.consumer, "us")?;
        row(f, "CPU: Postgres", &cpu.postgres, "us")?;
        row(f, "CPU: broker", &cpu.broker, "us")?;
        row(f, "CPU: who only fetches", &cpu.fetching, "us")?;
        row(f, "CPU: broker meanwhile", &cpu.fetching_broker, "us")?;
        row(f, "events a transaction or query", &self.events_per_transaction, "")?;
        row(f, "logged by Postgres an event", &self.logged_bytes, "bytes")
    }
}
