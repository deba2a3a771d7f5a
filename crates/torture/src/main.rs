//! `torture`: the event backbone under fire.
//!
//! ```text
//! cargo run -p torture -- --seed 7 --duration 120s --faults all
//! cargo run -p torture -- --seed 7 --duration 120s --faults provider,kill
//! ```
//!
//! Starts the whole product as real processes, lets people ride through the public API, does harm
//! by a plan that is drawn from the seed, heals, waits until the mesh is at rest, and judges from
//! what is on record. The exit code is 0 when every invariant holds, 1 when one does not, and 2 when
//! there was no run to judge. The report goes to stdout, progress to stderr. The files are in the
//! order of a run:
//!
//! | file | what |
//! |---|---|
//! | [`binary`] | the program under test |
//! | [`plan`] | what goes wrong and when |
//! | [`world`] | broker, Postgres, replicas, and the proxies between them |
//! | [`people`], [`riders`], [`drivers`], [`operators`], [`calls`] | who rides, who drives, who gives money back, what they say |
//! | [`history`] | what they did and what they were told |
//! | [`faults`], [`inject`] | the plan carried out |
//! | [`findings`], [`ledger`] | what the harness itself sees meanwhile |
//! | [`evidence`], [`check`], [`story`] | what is on record, and whether it keeps the promises |
//! | [`run`], [`report`] | all of it in its order, and the table |

mod binary;
mod calls;
mod check;
mod drivers;
mod evidence;
mod faults;
mod findings;
mod history;
mod inject;
mod ledger;
mod operators;
mod people;
mod plan;
mod report;
mod riders;
mod run;
mod story;
mod world;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use plan::Kinds;

/// What went wrong; nobody handles it but the person who reads it.
pub(crate) type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The event backbone under fire.
#[derive(Clone, Debug, Parser)]
#[command(name = "torture")]
pub(crate) struct Options {
    /// What the plan and the people are drawn from: the same seed is the same plan.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long people ride and things go wrong, such as 120s or 5m.
    #[arg(long, default_value = "120s", value_parser = duration)]
    duration: Duration,
    /// Which: all, none, or some of kill, provider, freeze, broker, database, network, redelivery,
    /// poison, scale, rolling with commas between them.
    #[arg(long, default_value = "all")]
    faults: Kinds,
    /// Where contexts keep their rows. SQLite allows one replica of each.
    #[arg(long, value_enum, default_value_t = Database::Postgres)]
    database: Database,
    /// How many customers ride at the same time.
    #[arg(long, default_value_t = 12)]
    riders: u64,
    /// How many drivers drive.
    #[arg(long, default_value_t = 8)]
    drivers: u64,
    /// A `taxi` program, instead of the one that cargo builds.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Write the report to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep the files and the logs of the run.
    #[arg(long)]
    keep: bool,
}

/// Where contexts keep their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Database {
    Postgres,
    Sqlite,
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let ended = tokio::select! {
        ended = run::run(&options) => ended,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error}");
            ExitCode::from(2)
        }
    }
}

/// Seconds or minutes: `90`, `90s`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u64 = number.parse().map_err(|_| "write it as 90s or 2m".to_owned())?;
    Ok(Duration::from_secs(number * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("soon").is_err());
    }
}
