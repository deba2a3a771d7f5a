//! `bench gateway`: what the gateway costs its callers, in CPU, in requests a second and in time.
//!
//! One small read, GetAllocation, goes along different [ways](way): to allocation itself, and through
//! `taxi serve gateway` by gRPC, gRPC-Web and REST; and once more to an [`echo`], which does nothing
//! but answer, directly and through a gateway of its own. Behind the echo there is nothing but the
//! gateway to measure; behind allocation there is its database.
//!
//! Two kinds of [`load`]: as much as a few callers who never pause get through, for the CPU time of a
//! request; and a moderate rate, for how much later answers come than without the gateway. The ways
//! take turns, A B C C B A: what one gains from a quiet moment of the machine, the others gain in
//! the next.
//!
//! Callers, gateway, context, database and echo share the same cores. So requests a second say how
//! much all of them cost together; the CPU time is the gateway's own, as the kernel counts it.

mod echo;
mod load;
mod report;
mod way;

use std::path::PathBuf;
use std::time::Duration;

use crate::city::City;
use crate::process::Machine;
use crate::{Result, binary, print};

use self::echo::Echo;
use self::load::Round;
use self::report::Report;
use self::way::{Fleet, Way};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many times each way is measured; medians count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each time, under each load.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Callers who never pause.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    callers: u32,
    /// Requests a second, for the time that they take.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
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

    /// Long after everything should have ended.
    fn limit(&self) -> Duration {
        let turn = (self.round() * 2 + Duration::from_secs(10)) * Way::ALL.len() as u32;
        Duration::from_secs(300) + turn * (self.rounds + 1)
    }
}

/// Runs it.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let binary = binary::find(options.binary.as_deref())?;
    let work = async |city: &mut City| measure(city, options).await;
    print(&City::with(&binary, &[], options.limit(), work).await?, options.json)
}

async fn measure(city: &mut City, options: &Options) -> Result<Report> {
    let machine = Machine::now()?;
    let echo = Echo::open()?;
    let fleet = Fleet::start(city, &echo).await?;
    city.settle().await?;
    eprintln!("gateway: warming up");
    for way in Way::ALL {
        load::round(&fleet, way, options, Duration::from_secs(1)).await?;
    }
    let mut rounds: Vec<(Way, Round)> = Vec::new();
    for n in 1..=options.rounds {
        let mut order = Way::ALL;
        if n % 2 == 0 {
            order.reverse();
        }
        for way in order {
            rounds.push((way, load::round(&fleet, way, options, options.round()).await?));
        }
        eprintln!("gateway: round {n} of {}", options.rounds);
    }
    Ok(Report::new(machine, options, &rounds))
}
