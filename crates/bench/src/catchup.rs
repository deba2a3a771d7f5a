//! `bench catchup`: how fast consumers catch up that were away.
//!
//! One ride is really made and [recorded](recording); then everybody is stopped, and the stream is
//! filled with copies of what its consumer has missed. In each round a consumer's process is started
//! with empty tables, and everything counts from its exec to its last event. In turns with it: a
//! consumer that only fetches ([`Stream::fetch`]), and beside the view a pgbench that runs one
//! transaction for each event ([`script`]).

mod recording;
mod report;
mod script;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use kernel::{Clock, Uuid};
use platform::clock::SystemClock;
use testkit::CONTEXTS;

use crate::city::City;
use crate::stream::Stream;
use crate::{Result, binary, print, rides};

use self::recording::Recording;
use self::report::{Report, Results};
use self::work::{OneByOne, Who, Work};

/// Rides under way at any time: what belongs to one ride is this far apart in the stream.
const UNDER_WAY: usize = 5_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many times each thing is measured; medians count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Events that the dashboard, or payment, has missed.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..))]
    events: u32,
    /// Requests that driving has missed.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..))]
    requests: u32,
    /// Shards of the stream.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: u32,
    /// Only these consumers.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Who::value_variants().to_vec())]
    only: Vec<Who>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// A `taxi` program, instead of the one that cargo builds.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

impl Options {
    /// Long after everything should have ended.
    fn limit(&self) -> Duration {
        Duration::from_secs(600) + work::LIMIT * self.only.len() as u32 * (self.rounds + 1)
    }
}

/// Runs it.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let binary = binary::find(options.binary.as_deref())?;
    let shards = options.shards.to_string();
    let settings = CONTEXTS.map(|context| (context, "TAXI_BROKER__SHARDS", shards.as_str()));
    let work = async |city: &mut City| measure(city, &binary, options).await;
    print(&City::with(&binary, &settings, options.limit(), work).await?, options.json)
}

async fn measure(city: &mut City, binary: &Path, options: &Options) -> Result<Report> {
    let mut report = Report::new(options.shards)?;
    let stream = Stream::connect(&city.mesh.ready().nats, options.shards).await?;
    let recording = record(city, &stream).await?;
    for who in &options.only {
        let ride = recording.only(who.missed());
        let wanted = if *who == Who::Driving { options.requests } else { options.events };
        let rides = (wanted as usize).div_ceil(ride.len());
        eprintln!("{}: {} events of {rides} rides", who.name(), rides * ride.len());
        stream.purge(None).await?;
        stream.fill(ride.copies(rides, UNDER_WAY, options.shards, &SystemClock)).await?;
        let work = Work::new(*who, city, &stream, rides, rides * ride.len()).await?;
        let results = compare(work, city, binary, options).await?;
        report.add(*who, rides, results);
    }
    Ok(report)
}

/// Makes a ride, and stops everybody.
async fn record(city: &mut City, stream: &Stream) -> Result<Recording> {
    eprintln!("recording a ride");
    let people: [Uuid; 2] = std::array::from_fn(|_| SystemClock.new_id());
    let [driver, customer] = people.map(|id| id.to_string());
    rides::one(city, &driver, &customer).await?;
    city.settle().await?;
    for context in CONTEXTS {
        city.mesh.stop(context).await;
    }
    Recording::of(&stream.behind(0).await?, &people)
}

/// Measures one consumer and those beside it in turns, A B C C B A ..
async fn compare(
    work: Work<'_>,
    city: &mut City,
    binary: &Path,
    options: &Options,
) -> Result<Results> {
    let mut results = Results::default();
    eprintln!("{}: warming up", work.who.name());
    work.consume(city).await?;
    let one_by_one = match work.who {
        Who::Dashboard => Some(OneByOne::prepare(&work, city, binary).await?),
        Who::Payment | Who::Driving => None,
    };
    for n in 1..=options.rounds {
        if n % 2 == 1 {
            results.ours.push(work.consume(city).await?);
        }
        results.idle.push(work.fetch().await?);
        if let Some(pgbench) = &one_by_one {
            results.alone.push(pgbench.run(1).await?);
            results.shared.push(pgbench.run(options.shards).await?);
        }
        if n % 2 == 0 {
            results.ours.push(work.consume(city).await?);
        }
        eprintln!("{}: round {n} of {}", work.who.name(), options.rounds);
    }
    work.forget().await?;
    Ok(results)
}
