//! `bench ride`: requests, whole rides and the dashboard, beside pgbench on the same Postgres.
//!
//! The files are in the order of the run: [`crate::rides`], then [`requests`] in turns with pgbench
//! running their [`script`], then the [`report`] with the goals.

mod report;
mod requests;
mod script;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::city::City;
use crate::pgbench::Pgbench;
use crate::process::Machine;
use crate::{Result, binary, print, rides};

use self::report::Report;
use self::requests::Others;

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

/// Runs it.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let binary = binary::find(options.binary.as_deref())?;
    let work = async |city: &mut City| measure(city, &binary, options).await;
    print(&City::with(&binary, &[], options.limit(), work).await?, options.json)
}

async fn measure(city: &mut City, binary: &Path, options: &Options) -> Result<Report> {
    let machine = Machine::now()?;
    let ready_ms = city.ready_times().await;
    city.settle().await?;
    let idle_mb = city.resident_mb()?;
    // Rides first: requests leave customers behind who wait for drivers that never come.
    let mut drivers = rides::drivers(city, options.drivers).await;
    let rides = rides::closed(&mut drivers, options.rounds, options.round()).await?;
    city.settle().await?;
    let view = rides::open(&mut drivers, options.rate, options.round() * options.rounds).await?;
    city.settle().await?;
    let script = script::script();
    let pgbench = Pgbench::prepare(&mut city.mesh, binary, "allocation", &script).await?;
    let path = requests::measure(city, &pgbench, options, Others::Frozen).await?;
    let requests = requests::measure(city, &pgbench, options, Others::AtWork).await?;
    let loaded_mb = city.resident_mb()?;
    let goals = Vec::new();
    let mut report =
        Report { machine, path, requests, rides, view, idle_mb, loaded_mb, ready_ms, goals };
    report.judge();
    Ok(report)
}
