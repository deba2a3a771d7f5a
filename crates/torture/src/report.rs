//! What a run has shown, as a table for people or as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::check::Verdict;
use crate::evidence::Evidence;
use crate::faults::Counts;
use crate::findings::Findings;
use crate::history::{Operation, Outcome};

/// How many violations of one invariant are told with their story.
const STORIES: usize = 3;

/// Everything about a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) database: String,
    pub(crate) seconds: f64,
    pub(crate) plan: Vec<String>,
    pub(crate) rides: usize,
    pub(crate) money: Money,
    pub(crate) events: usize,
    pub(crate) faults: Counts,
    pub(crate) operations: Vec<Method>,
    pub(crate) invariants: Vec<Invariant>,
    /// From the last fault that healed, and the last word of the people, until all was at rest.
    pub(crate) drain_seconds: Option<f64>,
    pub(crate) holds: bool,
}

/// What became of the fees.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Money {
    /// Rides that came to their end.
    pub(crate) finished: usize,
    /// Fees that were taken,
    pub(crate) taken: usize,
    /// and those of them that were declined before.
    pub(crate) settled: usize,
    /// Fees that still are declined.
    pub(crate) declined: usize,
    /// Fees that are neither: there should be none.
    pub(crate) undecided: usize,
    /// How often something was given back.
    pub(crate) refunds: usize,
    /// How often the provider was asked for anything.
    pub(crate) requests: usize,
}

impl Money {
    /// As it is on record.
    pub(crate) fn of(evidence: &Evidence) -> Money {
        let drivings = evidence.drivings.values();
        let mut money = Money {
            finished: drivings.filter(|driving| driving.state == "FINISHED").count(),
            refunds: evidence.refunds.len(),
            requests: evidence.requests.len(),
            ..Money::default()
        };
        for payment in evidence.payments.values() {
            match payment.state.as_str() {
                "APPROVED" | "REFUNDED" => {
                    money.taken += 1;
                    money.settled += usize::from(payment.charge_number > 1);
                }
                "DECLINED" => money.declined += 1,
                _ => money.undecided += 1,
            }
        }
        money
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Money { finished, taken, settled, declined, undecided, refunds, requests } = self;
        write!(
            f,
            "{finished} rides finished: {taken} fees taken ({settled} after a refusal), {declined} \
             declined, {undecided} undecided; {refunds} refunds; the provider was asked {requests} \
             times"
        )
    }
}

/// What became of the calls of one method.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Method {
    pub(crate) method: String,
    pub(crate) ok: usize,
    pub(crate) failed: usize,
    pub(crate) unknown: usize,
    /// By reason.
    pub(crate) refusals: BTreeMap<String, usize>,
    /// Of those that were answered, all attempts together.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// What became of one invariant.
#[derive(Debug, Serialize)]
pub(crate) struct Invariant {
    pub(crate) invariant: String,
    pub(crate) title: String,
    pub(crate) checked: usize,
    pub(crate) violations: Vec<Breach>,
}

/// One violation, and the history of the ride concerned for the first few.
#[derive(Debug, Serialize)]
pub(crate) struct Breach {
    pub(crate) why: String,
    pub(crate) story: Option<String>,
}

impl Invariant {
    /// With the stories of the rides concerned.
    pub(crate) fn of(verdict: Verdict, story: impl Fn(kernel::Uuid) -> String) -> Invariant {
        let breach = |(n, violation): (usize, crate::check::Violation)| Breach {
            why: violation.why,
            story: violation.ride.filter(|_| n < STORIES).map(&story),
        };
        Invariant {
            invariant: verdict.invariant.to_owned(),
            title: verdict.title.to_owned(),
            checked: verdict.checked,
            violations: verdict.violations.into_iter().enumerate().map(breach).collect(),
        }
    }

    /// One that the harness has seen itself.
    pub(crate) fn seen(name: &str, title: &str, findings: &Findings) -> Invariant {
        Invariant::own(name, title, findings.looks(), findings.broken())
    }

    /// One of the harness's own: it holds when there is nothing to tell.
    pub(crate) fn own(name: &str, title: &str, checked: usize, broken: Vec<String>) -> Invariant {
        Invariant {
            invariant: name.to_owned(),
            title: title.to_owned(),
            checked,
            violations: broken.into_iter().map(|why| Breach { why, story: None }).collect(),
        }
    }

    /// Whether nothing breaks it.
    pub(crate) fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// By method, in the order of the history's words.
pub(crate) fn methods(operations: &[Operation]) -> Vec<Method> {
    let mut methods = BTreeMap::new();
    for operation in operations {
        let (method, times): &mut (Method, Vec<Duration>) =
            methods.entry(operation.what).or_default();
        method.method = operation.what.to_string();
        match &operation.outcome {
            Outcome::Ok(_) => {
                method.ok += 1;
                times.push(operation.until.saturating_sub(operation.from));
            }
            Outcome::Failed { code, reason } => {
                method.failed += 1;
                let reason = if reason.is_empty() { format!("{code:?}") } else { reason.clone() };
                *method.refusals.entry(reason).or_default() += 1;
            }
            Outcome::Unknown { .. } => method.unknown += 1,
        }
    }
    let summed = methods.into_values().map(|(mut method, mut times)| {
        times.sort_unstable();
        method.p50_ms = percentile(&times, 50);
        method.p99_ms = percentile(&times, 99);
        method
    });
    summed.collect()
}

/// By nearest rank, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    let value = sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default();
    (value.as_secs_f64() * 1e4).round() / 10.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, database, seconds, rides, events, .. } = self;
        writeln!(f, "seed {seed}, {database}, {seconds:.0} s: {rides} rides, {events} events")?;
        writeln!(f, "{}", self.money)?;
        let faults: Vec<_> = self.faults.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        let count: usize = self.faults.values().sum();
        writeln!(f, "{count} faults: {}", faults.join(", "))?;
        self.operations(f)?;
        self.invariants(f)?;
        match self.drain_seconds {
            Some(seconds) => writeln!(f, "\ndrained after {seconds:.1} s")?,
            None => writeln!(f, "\nnot drained")?,
        }
        writeln!(f, "{}", if self.holds { "every invariant holds" } else { "VIOLATED" })
    }
}

impl Report {
    fn operations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<18} {:>6} {:>6} {:>7} {:>9} {:>9}",
            "operation", "ok", "failed", "unknown", "p50 ms", "p99 ms"
        )?;
        for it in &self.operations {
            let mut refusals = String::new();
            for (reason, count) in &it.refusals {
                write!(refusals, "  {reason} {count}")?;
            }
            writeln!(
                f,
                "{:<18} {:>6} {:>6} {:>7} {:>9.1} {:>9.1}{refusals}",
                it.method, it.ok, it.failed, it.unknown, it.p50_ms, it.p99_ms
            )?;
        }
        Ok(())
    }

    fn invariants(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<4} {:<60} {:>8}", "", "invariant", "checked")?;
        for it in &self.invariants {
            let verdict = match it.violations.len() {
                0 => "OK".to_owned(),
                count => format!("VIOLATED {count} times"),
            };
            writeln!(f, "{:<4} {:<60} {:>8}  {verdict}", it.invariant, it.title, it.checked)?;
        }
        for it in self.invariants.iter().filter(|it| !it.holds()) {
            writeln!(f, "\n{} {}", it.invariant, it.title)?;
            for Breach { why, story } in it.violations.iter().take(STORIES) {
                writeln!(f, "  {why}")?;
                for line in story.iter().flat_map(|story| story.lines()) {
                    writeln!(f, "    {line}")?;
                }
            }
            if let Some(more) = it.violations.len().checked_sub(STORIES).filter(|more| *more > 0) {
                writeln!(f, "  and {more} more")?;
            }
        }
        Ok(())
    }
}
