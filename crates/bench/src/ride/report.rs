//! What was measured, and whether it is what was wanted.

use std::fmt::{self, Formatter};

use serde::Serialize;

use super::requests::{Others, Requests};
use crate::city::Memory;
use crate::process::Machine;
use crate::rides::{Rides, View};
use crate::stats::Rounds;
use crate::table::{Goal, goals, latency, row};

/// All measurements.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) machine: Machine,
    pub(crate) path: Requests,
    pub(crate) requests: Requests,
    pub(crate) rides: Rides,
    pub(crate) view: View,
    pub(crate) idle_mb: Memory,
    pub(crate) loaded_mb: Memory,
    pub(crate) ready_ms: Rounds,
    pub(crate) goals: Vec<Goal>,
}

impl Report {
    /// Compares with what is wanted.
    pub(crate) fn judge(&mut self) {
        let (ratio, ready) = (self.path.ratio, self.ready_ms.median);
        let idle = self.idle_mb.values().copied().fold(0.0, f64::max);
        let p99 = self.view.latency.p99_ms;
        // A view that never came has no latency, but it is no success.
        let seen = self.view.failed == 0 && self.view.rides > 0;
        let goal = |what: &str, wanted, measured, ok| {
            let what = what.to_owned();
            Goal { what, wanted, measured, ok }
        };
        self.goals = vec![
            goal("RequestAllocation/s, of pgbench", ">= 0.4", ratio, ratio >= 0.4),
            goal("finish -> dashboard, p99", "<= 100 ms", p99, seen && p99 <= 100.0),
            goal("idle RSS of a service, the largest", "<= 30 MB", idle, idle <= 30.0),
            goal("ready after exec", "<= 300 ms", ready, ready <= 300.0),
        ];
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { path, requests, rides, view, .. } = self;
        writeln!(f, "\n{}", self.machine)?;

        flood(f, path)?;
        flood(f, requests)?;

        writeln!(f, "\nWhole rides, request to payment, {} drivers", rides.drivers)?;
        row(f, "taxi", &rides.per_second, "rides/s")?;
        latency(f, "a ride", rides.latency, rides.failed)?;

        let View { rate, rides, per_second, .. } = view;
        writeln!(f, "\nDashboard at {rate} rides/s: {rides} rides, {per_second:.1} a second")?;
        latency(f, "finish -> dashboard", view.latency, view.failed)?;
        latency(f, "request due -> dashboard", view.since_due, 0)?;

        writeln!(f, "\nMemory, MB RSS: idle, loaded; start")?;
        for ((context, idle), loaded) in self.idle_mb.iter().zip(self.loaded_mb.values()) {
            writeln!(f, "  {context:<40} {idle:>9.1} {loaded:>9.1}")?;
        }
        row(f, "ready after exec", &self.ready_ms, "ms")?;

        goals(f, &self.goals)
    }
}

fn flood(f: &mut Formatter<'_>, requests: &Requests) -> fmt::Result {
    let others = match requests.others {
        Others::Frozen => "allocation alone",
        Others::AtWork => "all contexts at work on the same cores",
    };
    writeln!(f, "\nRequestAllocation, {} streams, {others}", requests.streams)?;
    row(f, "taxi", &requests.calls_per_second, "calls/s")?;
    row(f, "pgbench, same SQL, 16 clients", &requests.pgbench_per_second, "tx/s")?;
    latency(f, "taxi", requests.latency, requests.failed)?;
    row(f, "pgbench mean", &requests.pgbench_mean_ms, "ms")?;
    row(f, "CPU: taxi serve allocation", &requests.cpu_us.allocation, "us")?;
    row(f, "CPU: all taxi serve", &requests.cpu_us.contexts, "us")?;
    row(f, "CPU: Postgres", &requests.cpu_us.postgres, "us")?;
    row(f, "CPU: Postgres under pgbench", &requests.cpu_us.pgbench_postgres, "us")
}
