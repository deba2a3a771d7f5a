//! `bench`: how fast, and against what.
//!
//! ```text
//! cargo run --release -p bench -- ride [--rounds 5] [--seconds 5] [--rate 100] [--streams 200]
//! ```
//!
//! Figures of one machine mean nothing on another, so whatever can be is a ratio to something that
//! ran on the same machine in the same minute. The table goes to stdout, progress to stderr. The
//! files are in the order of the run:
//!
//! * [`city`]: the mesh, a `taxi serve` process for each context, on a Postgres that really waits
//!   for its disk; how soon it is ready and how much memory it takes;
//! * [`rides`]: whole rides, and how soon the dashboard shows that one has finished;
//! * [`requests`]: RequestAllocation in turns with [`pgbench`], and what each costs;
//! * [`report`]: the goals.

mod binary;
mod city;
mod pgbench;
mod process;
mod report;
mod requests;
mod rides;
mod stats;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use city::City;
use pgbench::Pgbench;
use report::Report;
use requests::Others;

/// What went wrong; nobody handles it but the person who reads it.
pub(crate) type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Debug, Parser)]
#[command(name = "bench", about = "How fast, and against what.")]
enum Command {
    /// Requests, whole rides and the dashboard, beside pgbench on the same Postgres.
    Ride(Options),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many times each thing is measured; medians count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each time.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Rides a second while the dashboard is measured.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// RequestAllocation calls in flight.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    streams: u32,
    /// Drivers, and so rides under way, at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    drivers: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// A `taxi` program, instead of the one that cargo builds.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

impl Options {
    fn round(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// Long after everything should have ended: each of four measurements, and working it off.
    fn limit(&self) -> Duration {
        Duration::from_secs(300) + (self.round() + Duration::from_secs(60)) * 4 * self.rounds
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Ride(options) = Command::parse();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let binary = binary::find(options.binary.as_deref())?;
    eprintln!("starting a mesh of {}", binary.display());
    let mut city = City::start(&binary).await?;
    let measured =
        tokio::time::timeout(options.limit(), measure(&mut city, &binary, options)).await;
    let report = match measured.unwrap_or_else(|_| Err("it took far too long".into())) {
        Ok(report) => report,
        Err(error) => {
            // Only a mesh that has been well treated is held to its promises when it ends.
            city.mesh.unchecked();
            return Err(error);
        }
    };
    match options.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{report}"),
    }
    Ok(())
}

async fn measure(city: &mut City, binary: &Path, options: &Options) -> Result<Report> {
    let ready_ms = city.ready_times().await;
    city.settle().await?;
    let idle_mb = city.resident_mb()?;
    // Rides first: requests leave customers behind who wait for drivers that never come.
    let (rides, view) = rides::measure(city, options).await?;
    let pgbench = Pgbench::prepare(&mut city.mesh, binary).await?;
    let path = requests::measure(city, &pgbench, options, Others::Frozen).await?;
    let requests = requests::measure(city, &pgbench, options, Others::AtWork).await?;
    let loaded_mb = city.resident_mb()?;
    let cores = std::thread::available_parallelism()?.get();
    let goals = Vec::new();
    let mut report =
        Report { cores, path, requests, rides, view, idle_mb, loaded_mb, ready_ms, goals };
    report.judge();
    Ok(report)
}
