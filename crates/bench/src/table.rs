//! How a report is laid out for people.

use std::fmt::{self, Formatter};

use serde::Serialize;

use crate::stats::{Latency, Rounds};

/// A goal of the project, and how it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) wanted: &'static str,
    pub(crate) measured: f64,
    pub(crate) ok: bool,
}

/// A median, and the rounds behind it.
pub(crate) fn row(f: &mut Formatter<'_>, what: &str, it: &Rounds, unit: &str) -> fmt::Result {
    let (digits, of_rounds) = digits(it.median);
    let rounds: Vec<String> =
        it.rounds.iter().map(|value| format!("{value:.of_rounds$}")).collect();
    writeln!(f, "  {what:<40} {:>9.digits$} {unit:<8} ({})", it.median, rounds.join(" "))
}

/// How many digits after the point say something: of a median, and of the rounds behind it.
fn digits(median: f64) -> (usize, usize) {
    match median {
        ..1.0 => (3, 3),
        ..10.0 => (2, 2),
        _ => (1, 0),
    }
}

/// The percentiles of something, and how often it failed.
pub(crate) fn latency(f: &mut Formatter<'_>, of: &str, it: Latency, failed: usize) -> fmt::Result {
    let failed = if failed > 0 { format!(", {failed} FAILED") } else { String::new() };
    let what = format!("{of} p50, p99, max");
    let Latency { p50_ms, p99_ms, max_ms } = it;
    writeln!(f, "  {what:<40} {p50_ms:>9.1} {p99_ms:>9.1} {max_ms:>9.1} ms{failed}")
}

/// What was wanted, and whether it is so.
pub(crate) fn goals(f: &mut Formatter<'_>, goals: &[Goal]) -> fmt::Result {
    writeln!(f, "\nGoals")?;
    for Goal { what, wanted, measured, ok } in goals {
        let verdict = if *ok { "ok" } else { "missed" };
        writeln!(f, "  {what:<40} {measured:>9.2} {wanted:<10} {verdict}")?;
    }
    Ok(())
}
