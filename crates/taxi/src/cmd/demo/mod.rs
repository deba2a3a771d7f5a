//! `taxi demo`: people simulated through the public API, and a check that the service kept its word.
//!
//! | file | is |
//! |---|---|
//! | [`scenario`] | the plan: drawn from a seed, pure |
//! | [`places`] | who the people are and where they go |
//! | [`city`] | the people on a mesh, their clock, and their record |
//! | [`person`] | a good client: token, request id, deadline, retries |
//! | [`rider`], [`driver`], [`board`], [`race`] | what people do |
//! | [`ledger`] | what they were told |
//! | [`audit`], [`check`] | whether the service agrees with it: the look, and the rules |
//! | [`progress`], [`report`] | what the person at the terminal sees |
//!
//! Nothing here knows more than any client does: addresses come from the ready file, tokens from the
//! development issuer, all else from the five services. Every subject begins with the run's own
//! name, and drivers take riders of their own run only, so demos side by side do not meet.

use std::sync::Arc;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use kernel::Clock;
use platform::clock::SystemClock;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

mod audit;
mod board;
mod check;
mod city;
mod driver;
mod ledger;
mod person;
mod places;
mod progress;
mod race;
mod report;
mod rider;
mod scenario;

use board::Board;
use city::City;
use places::Lang;
use progress::Progress;
use report::Report;
use scenario::{Plan, Scenario, Size};

use crate::Global;
use crate::exit::Exit;
use crate::ready;

/// How long the service itself may take for all of a demo, on top of what its people do.
const SLACK: Duration = Duration::from_secs(60);
/// How long the views may take to catch up, when it matters
const CATCH_UP: Duration = Duration::from_secs(15);
/// and when only the figures are wanted.
const GLANCE: Duration = Duration::from_secs(3);

/// Let simulated people ride.
///
/// Riders ask for cars, drivers accept, drive and finish, all through the public API of a running
/// mesh. Ends with a table of figures; with --assert, also with a check that allocation, driving,
/// payment, dashboard and messages agree about every ride.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many rides.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_one())]
    rides: usize,
    /// How many riders share them.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one())]
    riders: usize,
    /// How many drivers serve them.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one())]
    drivers: usize,
    /// What people do.
    #[arg(long, value_enum, default_value_t)]
    scenario: Scenario,
    /// Repeat the plan of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// How much faster than real the pauses between steps are: with 60 a minute takes a second.
    #[arg(long, value_name = "X", default_value_t = 60.0, value_parser = time_scale)]
    time_scale: f64,
    /// Check everything at the end; a violation is a sentence on stderr and exit code 1.
    #[arg(long)]
    assert: bool,
    /// The language of the figures. Riders speak either, whatever is chosen here.
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=10_000)
}

fn time_scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok().filter(|scale| (0.01..=100_000.0).contains(scale));
    scale.ok_or_else(|| "must be a number from 0.01 to 100000".to_owned())
}

/// Runs a scenario.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    if args.scenario == Scenario::DriverRace && args.drivers < 2 {
        return Err(Exit::usage("a race needs two drivers: use `--drivers 2` or more"));
    }
    let mesh = ready::find(global.ready_file.as_deref())?;
    let clock = Arc::new(SystemClock);
    let seed = args.seed.unwrap_or_else(|| new_seed(&*clock));
    let size = Size { rides: args.rides, riders: args.riders, drivers: args.drivers };
    let plan = Plan::draw(args.scenario, seed, size);
    let city = Arc::new(City::new(mesh, plan, args.lang, args.time_scale, clock)?);
    eprintln!("{}", headline(&city));

    city.arrive().await?;
    let lasted = live(&city).await?;
    let patience = if args.assert { CATCH_UP } else { GLANCE };
    let audit = audit::audit(&city, patience).await;
    let report = Report::of(&city, lasted, audit);
    global.output.item(&report.table(args.lang), &report)?;
    verdict(&report, args.assert)
}

/// The last part of a new id is random.
fn new_seed(clock: &dyn Clock) -> u64 {
    let (_, random) = clock.new_id().as_u64_pair();
    random & 0xffff_ffff
}

fn headline(city: &City) -> String {
    let Plan { scenario, seed, size: Size { rides, riders, drivers }, .. } = &city.plan;
    let (run, scenario) = (&city.run, scenario.as_str());
    match city.lang {
        Lang::Ko => format!(
            "{run} · {scenario} · --seed {seed} · 운행 {rides}건, 고객 {riders}명, 기사님 {drivers}명"
        ),
        Lang::En => format!(
            "{run} · {scenario} · --seed {seed} · {rides} rides, {riders} riders, {drivers} drivers"
        ),
    }
}

/// Lets everybody live until the last ride has ended, and shows it.
async fn live(city: &Arc<City>) -> Result<Duration, Exit> {
    let began = Instant::now();
    let deadline = city.real(city.plan.at_most()) + SLACK;
    let mut progress = Progress::new();
    let ended = tokio::select! {
        ended = timeout(deadline, people(city)) => ended,
        never = progress.follow(city) => match never {},
    };
    progress.draw(city);
    ended.unwrap_or_else(|_| Err(city.unfinished(deadline)))?;
    Ok(began.elapsed())
}

/// Riders ride until they have had all their rides, and drivers drive until nobody is left.
async fn people(city: &Arc<City>) -> Result<(), Exit> {
    let mut riders = JoinSet::new();
    for rider in 0..city.riders.len() {
        let city = city.clone();
        riders.spawn(async move { rider::live(&city, rider).await });
    }
    let mut drivers = JoinSet::new();
    if city.plan.scenario == Scenario::DriverRace {
        drivers.spawn(race::live(city.clone()));
    } else {
        for driver in 0..city.drivers.len() {
            let city = city.clone();
            drivers.spawn(async move {
                let board = Board::follow(&city, driver);
                driver::live(&city, driver, &board).await;
            });
        }
    }
    all(riders).await?;
    city.close();
    all(drivers).await
}

async fn all(mut people: JoinSet<()>) -> Result<(), Exit> {
    while let Some(ended) = people.join_next().await {
        ended.map_err(|error| Exit::failed(format!("a defect of the demo: {error}")))?;
    }
    Ok(())
}

/// Says what was wrong.
fn verdict(report: &Report, assert: bool) -> Result<(), Exit> {
    let violations = report.violations();
    match (violations.len(), assert) {
        (0, true) => eprintln!("all rides are as they must be"),
        (0, false) => {}
        (wrong, false) => eprintln!("{wrong} things look wrong: `--assert` tells which"),
        (wrong, true) => {
            violations.iter().for_each(|violation| eprintln!("{violation}"));
            return Err(Exit::failed(format!("{wrong} things are not as they must be")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_scale_is_a_sensible_number() {
        assert_eq!(time_scale("60"), Ok(60.0));
        for text in ["0", "-1", "NaN", "inf", "fast", ""] {
            assert!(time_scale(text).is_err(), "{text}");
        }
    }
}
