//! What was measured, and whether it is what was wanted.

use std::fmt::{self, Formatter};

use serde::Serialize;

use super::Options;
use super::load::Round;
use super::way::Way;
use crate::process::Machine;
use crate::stats::Rounds;
use crate::table::{Goal, goals, row};

/// Of the gateway's CPU time a request, in microseconds.
const MOST_CPU_US: f64 = 100.0;

/// All measurements.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    machine: Machine,
    callers: u32,
    rate: u32,
    seconds: u32,
    ways: Vec<OneWay>,
    goals: Vec<Goal>,
}

/// All rounds of one way.
#[derive(Debug, Serialize)]
struct OneWay {
    way: Way,
    per_second: Rounds,
    /// Of the gateway, for each request.
    cpu_us: Option<Rounds>,
    p50_ms: Rounds,
    p99_ms: Rounds,
    /// What the gateway adds, round by round.
    added_p50_ms: Option<Rounds>,
    added_p99_ms: Option<Rounds>,
    failed: usize,
}

impl Report {
    pub(crate) fn new(machine: Machine, options: &Options, rounds: &[(Way, Round)]) -> Report {
        let ways: Vec<OneWay> = Way::ALL.map(|way| OneWay::new(way, rounds)).into();
        let Options { callers, rate, seconds, .. } = *options;
        let goals = ways.iter().filter_map(goal).collect();
        Report { machine, callers, rate, seconds, ways, goals }
    }
}

impl OneWay {
    fn new(way: Way, all: &[(Way, Round)]) -> OneWay {
        let of = |way: Way| all.iter().filter(move |(of, _)| *of == way).map(|(_, round)| round);
        let added = |figure: fn(&Round) -> f64| {
            let past = way.past_the_gateway()?;
            Some(Rounds::of(of(way).zip(of(past)).map(|(with, past)| figure(with) - figure(past))))
        };
        let cpu_us: Option<Vec<f64>> = of(way).map(|round| round.cpu_us).collect();
        OneWay {
            way,
            per_second: Rounds::of(of(way).map(|round| round.per_second)),
            cpu_us: cpu_us.map(Rounds::of),
            p50_ms: Rounds::of(of(way).map(|round| round.latency.p50_ms)),
            p99_ms: Rounds::of(of(way).map(|round| round.latency.p99_ms)),
            added_p50_ms: added(|round| round.latency.p50_ms),
            added_p99_ms: added(|round| round.latency.p99_ms),
            failed: of(way).map(|round| round.failed).sum(),
        }
    }
}

/// Where nothing but the gateway is measured, it has a goal.
fn goal(one: &OneWay) -> Option<Goal> {
    let Some(Way::EchoDirect) = one.way.past_the_gateway() else { return None };
    let measured = one.cpu_us.as_ref()?.median;
    Some(Goal {
        what: format!("{}: CPU of the gateway", one.way.name()),
        wanted: "<= 100 us",
        measured,
        ok: measured <= MOST_CPU_US && one.failed == 0,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { machine, callers, rate, seconds, .. } = self;
        writeln!(f, "\n{machine}")?;
        writeln!(
            f,
            "GetAllocation; callers, gateway, context, database and echo share the cores; \
             {seconds} s a round"
        )?;
        writeln!(f, "\nRequests a second, {callers} callers who never pause")?;
        for one in &self.ways {
            row(f, one.way.name(), &one.per_second, "a second")?;
        }
        writeln!(f, "\nCPU of the gateway for each of them")?;
        for one in &self.ways {
            if let Some(cpu_us) = &one.cpu_us {
                row(f, one.way.name(), cpu_us, "us")?;
            }
        }
        writeln!(f, "\nTime at {rate} a second")?;
        for one in &self.ways {
            row(f, &format!("{}, p50", one.way.name()), &one.p50_ms, "ms")?;
            row(f, &format!("{}, p99", one.way.name()), &one.p99_ms, "ms")?;
        }
        writeln!(f, "\nWhat the gateway adds to it")?;
        for one in &self.ways {
            if let (Some(p50), Some(p99)) = (&one.added_p50_ms, &one.added_p99_ms) {
                row(f, &format!("{}, p50", one.way.name()), p50, "ms")?;
                row(f, &format!("{}, p99", one.way.name()), p99, "ms")?;
            }
        }
        let failed: usize = self.ways.iter().map(|one| one.failed).sum();
        if failed > 0 {
            writeln!(f, "\n{failed} requests FAILED")?;
        }
        goals(f, &self.goals)
    }
}
