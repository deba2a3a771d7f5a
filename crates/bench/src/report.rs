//! What was measured, and whether it is what was wanted.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::requests::Requests;
use crate::rides::{Rides, View};
use crate::stats::{Latency, median};

/// The whole of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    cores: usize,
    requests: Requests,
    rides: Rides,
    view: View,
    services: BTreeMap<&'static str, Memory>,
    ready_ms: f64,
    starts_ms: Vec<f64>,
    goals: Vec<Goal>,
}

/// Resident memory of a context in MB.
#[derive(Clone, Copy, Debug, Serialize)]
struct Memory {
    idle_mb: f64,
    loaded_mb: f64,
}

/// A goal of the project, and how it stands.
#[derive(Debug, Serialize)]
struct Goal {
    what: String,
    wanted: String,
    measured: f64,
    ok: bool,
}

impl Goal {
    fn at_least(what: &str, least: f64, measured: f64) -> Goal {
        let wanted = format!(">= {least}");
        Goal { what: what.to_owned(), wanted, measured, ok: measured >= least }
    }

    fn at_most(what: &str, most: f64, unit: &str, measured: f64) -> Goal {
        let wanted = format!("<= {most} {unit}");
        Goal { what: what.to_owned(), wanted, measured, ok: measured <= most }
    }
}

impl Report {
    /// Puts it together.
    pub(crate) fn new(
        requests: Requests,
        rides: Rides,
        view: View,
        idle: BTreeMap<&'static str, f64>,
        loaded: BTreeMap<&'static str, f64>,
        starts_ms: Vec<f64>,
    ) -> Report {
        let memory = |(context, idle_mb)| {
            (context, Memory { idle_mb, loaded_mb: loaded.get(context).copied().unwrap_or(0.0) })
        };
        let most_idle = idle.values().copied().fold(0.0, f64::max);
        let ready_ms = median(starts_ms.iter().copied());
        let seen = format!("finish -> dashboard p99 at {} rides/s", view.rate);
        let mut view_goal = Goal::at_most(&seen, 100.0, "ms", view.latency.p99_ms);
        // A view that never came has no latency, but it is no success.
        view_goal.ok &= view.failed == 0 && view.rides > 0;
        let goals = vec![
            Goal::at_least("RequestAllocation/s, of pgbench", 0.4, requests.ratio),
            view_goal,
            Goal::at_most("idle RSS of a service, the largest", 30.0, "MB", most_idle),
            Goal::at_most("ready after exec", 300.0, "ms", ready_ms),
        ];
        Report {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            requests,
            rides,
            view,
            services: idle.into_iter().map(memory).collect(),
            ready_ms,
            starts_ms,
            goals,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { requests, rides, view, .. } = self;
        writeln!(f, "\non {} cores, Postgres with fsync and synchronous_commit", self.cores)?;

        let neighbours = if requests.alone { "others frozen" } else { "all contexts at work" };
        title(f, &format!("RequestAllocation, {} streams, {neighbours}", requests.streams))?;
        let speeds = |of: fn(&crate::requests::Round) -> f64| {
            list(&requests.rounds.iter().map(of).collect::<Vec<_>>())
        };
        let ours = speeds(|round| round.calls_per_second);
        let theirs = speeds(|round| round.transactions_per_second);
        row(f, "taxi", requests.calls_per_second, "calls/s", &ours)?;
        row(f, "pgbench, same SQL, 16 clients", requests.transactions_per_second, "tx/s", &theirs)?;
        row(f, "ratio", requests.ratio, "", "")?;
        latency(f, "taxi", requests.latency, requests.failed)?;
        row(f, "pgbench mean", requests.transaction_mean_ms, "ms", "")?;

        title(f, "CPU of one of them, with all its consequences")?;
        row(f, "taxi serve allocation", requests.cpu.allocation_us, "us", "")?;
        row(f, "all taxi serve", requests.cpu.contexts_us, "us", "")?;
        row(f, "Postgres", requests.cpu.postgres_us, "us", "")?;
        row(f, "Postgres under pgbench", requests.cpu.pgbench_postgres_us, "us", "")?;

        title(f, &format!("Whole rides, request to payment, {} drivers", rides.drivers))?;
        row(f, "taxi", rides.per_second, "rides/s", &list(&rides.rounds))?;
        latency(f, "a ride", rides.latency, rides.failed)?;

        title(f, &format!("Dashboard at {} rides/s, {} rides", view.rate, view.rides))?;
        row(f, "rate kept", view.per_second, "rides/s", "")?;
        latency(f, "finish -> dashboard", view.latency, view.failed)?;
        latency(f, "request due -> dashboard", view.since_due, 0)?;

        title(f, "Memory, MB RSS: idle, loaded")?;
        for (context, memory) in &self.services {
            writeln!(f, "  {context:<34} {:>9.1} {:>9.1}", memory.idle_mb, memory.loaded_mb)?;
        }

        title(f, "Start")?;
        row(f, "ready after exec", self.ready_ms, "ms", &list(&self.starts_ms))?;

        title(f, "Goals")?;
        for goal in &self.goals {
            let verdict = if goal.ok { "ok" } else { "missed" };
            let Goal { what, wanted, measured, .. } = goal;
            writeln!(f, "  {what:<38} {wanted:>10} {measured:>9.2}  {verdict}")?;
        }
        Ok(())
    }
}

fn title(f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    writeln!(f, "\n{title}")
}

fn row(f: &mut fmt::Formatter<'_>, what: &str, value: f64, unit: &str, more: &str) -> fmt::Result {
    let digits = if value < 10.0 { 2 } else { 0 };
    let line = format!("  {what:<34} {value:>9.digits$} {unit:<8} {more}");
    writeln!(f, "{}", line.trim_end())
}

fn latency(f: &mut fmt::Formatter<'_>, of: &str, it: Latency, failed: usize) -> fmt::Result {
    let failed = if failed > 0 { format!(", {failed} FAILED") } else { String::new() };
    let what = format!("{of} p50, p99");
    writeln!(f, "  {what:<34} {:>9.1} {:>9.1} ms{failed}", it.p50_ms, it.p99_ms)
}

/// The rounds behind a median.
fn list(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:.0}")).collect();
    format!("({})", values.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_bound() {
        assert!(Goal::at_least("ratio", 0.4, 0.4).ok);
        assert!(!Goal::at_least("ratio", 0.4, 0.399).ok);
        assert!(Goal::at_most("p99", 100.0, "ms", 100.0).ok);
        assert!(!Goal::at_most("p99", 100.0, "ms", 100.1).ok);
    }

    #[test]
    fn the_rounds_are_told_beside_their_median() {
        assert_eq!(list(&[1830.4, 990.6]), "(1830 991)");
    }
}
