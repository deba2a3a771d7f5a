//! What was measured, and whether it is what was wanted.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};

use serde::Serialize;

use crate::requests::{Others, Requests};
use crate::rides::{Rides, View};
use crate::stats::{Latency, Rounds};

/// Resident memory of each context in MB.
pub(crate) type Memory = BTreeMap<&'static str, f64>;

/// All measurements.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) cores: usize,
    pub(crate) path: Requests,
    pub(crate) requests: Requests,
    pub(crate) rides: Rides,
    pub(crate) view: View,
    pub(crate) idle_mb: Memory,
    pub(crate) loaded_mb: Memory,
    pub(crate) ready_ms: Rounds,
    pub(crate) goals: Vec<Goal>,
}

/// A goal of the project, and how it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    what: &'static str,
    wanted: &'static str,
    measured: f64,
    ok: bool,
}

impl Report {
    /// Compares with what is wanted.
    pub(crate) fn judge(&mut self) {
        let (ratio, ready) = (self.path.ratio, self.ready_ms.median);
        let idle = self.idle_mb.values().copied().fold(0.0, f64::max);
        let p99 = self.view.latency.p99_ms;
        // A view that never came has no latency, but it is no success.
        let seen = self.view.failed == 0 && self.view.rides > 0;
        let goal = |what, wanted, measured, ok| Goal { what, wanted, measured, ok };
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
        writeln!(f, "\non {} cores, Postgres with fsync and synchronous_commit", self.cores)?;

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
            writeln!(f, "  {context:<34} {idle:>9.1} {loaded:>9.1}")?;
        }
        row(f, "ready after exec", &self.ready_ms, "ms")?;

        writeln!(f, "\nGoals")?;
        for Goal { what, wanted, measured, ok } in &self.goals {
            let verdict = if *ok { "ok" } else { "missed" };
            writeln!(f, "  {what:<34} {measured:>9.2} {wanted:<10} {verdict}")?;
        }
        Ok(())
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

/// A median, and the rounds behind it.
fn row(f: &mut Formatter<'_>, what: &str, it: &Rounds, unit: &str) -> fmt::Result {
    let rounds: Vec<String> = it.rounds.iter().map(|value| format!("{value:.0}")).collect();
    writeln!(f, "  {what:<34} {:>9.1} {unit:<8} ({})", it.median, rounds.join(" "))
}

fn latency(f: &mut Formatter<'_>, of: &str, it: Latency, failed: usize) -> fmt::Result {
    let failed = if failed > 0 { format!(", {failed} FAILED") } else { String::new() };
    let what = format!("{of} p50, p99");
    writeln!(f, "  {what:<34} {:>9.1} {:>9.1} ms{failed}", it.p50_ms, it.p99_ms)
}
