//! `taxi demo`: people simulated through the public API, and a check that the service kept its word.
//!
//! | file | is |
//! |---|---|
//! | [`scenario`] | the plan: drawn from a seed, pure |
//! | [`places`] | who the people are and where they go |
//! | [`city`] | the people on a mesh, their clock, and their record |
//! | [`person`] | a good client: token, request id, deadline, retries |
//! | [`rider`], [`debt`], [`driver`], [`board`], [`race`] | what people do |
//! | [`ledger`] | what they were told |
//! | [`fault`], [`outage`] | what goes wrong on purpose, and its course |
//! | [`witness`] | what the metrics and the payment provider's log say |
//! | [`audit`] | whether the service agrees with it: the look |
//! | [`check`], [`fees`], [`verdict`] | the rules: for each ride, for the money, for the course of a fault |
//! | [`progress`], [`report`] | what the person at the terminal sees |
//!
//! Nothing here knows more than any client does: addresses come from the ready file, tokens from the
//! development issuer, all else from the five services. Every subject begins with the run's own
//! name, and drivers take riders of their own run only, so demos side by side do not meet. Only where
//! something goes wrong on purpose it does so for everybody; that takes a mesh of `taxi dev`.

use std::sync::Arc;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use kernel::Clock;
use platform::clock::SystemClock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

mod audit;
mod board;
mod check;
mod city;
mod debt;
mod driver;
mod fault;
mod fees;
mod ledger;
mod outage;
mod person;
mod places;
mod progress;
mod race;
mod report;
mod rider;
mod scenario;
mod verdict;
mod witness;

use board::Board;
use city::{City, Pace};
use fault::Fault;
use outage::Course;
use places::Lang;
use progress::Progress;
use report::Report;
use scenario::{LEAST_RIDES, Phase, Plan, RECOVERY, Scenario, Size};

use crate::Global;
use crate::exit::Exit;
use crate::ready::Ready;

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
///
/// In some scenarios something goes wrong on purpose after the first rides, and is mended before the
/// last ones; that takes a mesh of `taxi dev`. There --assert checks also that nobody but the fees had
/// to wait, and that the payment provider has taken each of them exactly once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many rides [default: 20, or 50 when something goes wrong].
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    rides: Option<usize>,
    /// How many riders share them [default: 10, or 16].
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    riders: Option<usize>,
    /// How many drivers serve them [default: 5, or 12].
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    drivers: Option<usize>,
    /// What people do.
    #[arg(long, value_enum, default_value_t)]
    scenario: Scenario,
    /// Repeat the plan of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// How much faster than real the pauses between steps are: with 60 a minute takes a second
    /// [default: 60, or 120].
    #[arg(long, value_name = "X", value_parser = time_scale)]
    time_scale: Option<f64>,
    /// How many times longer than on an idle machine things may take.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    slack: u32,
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

/// Runs a scenario. However it is ended, nothing goes wrong on purpose any more.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    tokio::select! {
        ended = play(args, global) => ended,
        stopped = stopped() => Err(stopped),
    }
}

async fn play(args: Args, global: &Global) -> Result<(), Exit> {
    let size = args.size()?;
    let mesh = global.mesh()?;
    let fault = args.scenario.fault();
    if fault.is_some() {
        Fault::require_healthy(&mesh).await?;
    }
    let clock = Arc::new(SystemClock);
    let seed = args.seed.unwrap_or_else(|| new_seed(&*clock));
    let plan = Plan::draw(args.scenario, seed, size);
    let time_scale = args.time_scale.unwrap_or(if fault.is_some() { 120.0 } else { 60.0 });
    let pace = Pace { time_scale, slack: args.slack };
    let city = Arc::new(City::new(mesh.clone(), plan, args.lang, pace, clock)?);
    eprintln!("{}", headline(&city));

    city.arrive().await?;
    let began = Instant::now();
    let course = live(&city, &mesh).await?;
    let lasted = began.elapsed();
    let patience = if args.assert { patience(course.as_ref()) } else { GLANCE };
    let mut audit = audit::audit(&city, patience).await;
    if let Some(course) = &course {
        audit::compare(&city, &mesh, course, args.slack, &mut audit).await;
    }
    let report = Report::of(&city, lasted, audit, course.as_ref());
    global.output.item(&report.table(args.lang), &report)?;
    conclude(&report, args.assert)
}

impl Args {
    /// The size that was asked for, or one that shows what there is to show.
    fn size(&self) -> Result<Size, Exit> {
        let usual = match self.scenario.fault() {
            None => Size { rides: 20, riders: 10, drivers: 5 },
            Some(_) => Size { rides: 50, riders: 16, drivers: 12 },
        };
        let size = Size {
            rides: self.rides.unwrap_or(usual.rides),
            riders: self.riders.unwrap_or(usual.riders),
            drivers: self.drivers.unwrap_or(usual.drivers),
        };
        if self.scenario == Scenario::DriverRace && size.drivers < 2 {
            return Err(Exit::usage("a race needs two drivers: use `--drivers 2` or more"));
        }
        if self.scenario.fault().is_some() && size.rides < LEAST_RIDES {
            return Err(Exit::usage(format!(
                "a fault needs {LEAST_RIDES} rides to show itself and to pass: use `--rides \
                 {LEAST_RIDES}` or more"
            )));
        }
        Ok(size)
    }
}

/// How long the views and the fees may take to catch up.
fn patience(course: Option<&Course>) -> Duration {
    course.map_or(CATCH_UP, |course| {
        let due = course.cleared.at + verdict::latest(course);
        due.saturating_duration_since(Instant::now()).max(CATCH_UP)
    })
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

/// Lets everybody live until the last ride has ended, and shows it; answers what went wrong when.
async fn live(city: &Arc<City>, mesh: &Ready) -> Result<Option<Course>, Exit> {
    let service = city.patience(SLACK + slack_of_fault(&city.plan));
    let deadline = city.real(city.plan.at_most()) + service;
    let mut progress = Progress::new();
    let ended = tokio::select! {
        ended = timeout(deadline, course(city, mesh)) => ended,
        never = progress.follow(city) => match never {},
    };
    progress.draw(city);
    ended.unwrap_or_else(|_| Err(city.unfinished(deadline)))
}

/// Lets everybody live, and things go wrong if that is the plan.
async fn course(city: &Arc<City>, mesh: &Ready) -> Result<Option<Course>, Exit> {
    match city.plan.scenario.fault() {
        None => people(city).await.map(|()| None),
        Some(fault) => {
            let conduct = outage::conduct(city, fault, mesh);
            let ((), course) = tokio::try_join!(people(city), conduct)?;
            Ok(Some(course))
        }
    }
}

/// How much longer a fault may make everything: each finish by a second, and the last rides are spread.
fn slack_of_fault(plan: &Plan) -> Duration {
    let meanwhile = plan.journeys.iter().filter(|journey| journey.phase == Phase::Meanwhile);
    let finishes = Duration::from_secs(1).saturating_mul(meanwhile.count() as u32);
    if finishes.is_zero() { finishes } else { finishes + RECOVERY }
}

/// Waits until somebody else than the person at the terminal ends us.
async fn stopped() -> Exit {
    let (Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => Exit::failed("stopped by SIGTERM"),
        _ = hangup.recv() => Exit::failed("stopped by SIGHUP"),
    }
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
fn conclude(report: &Report, assert: bool) -> Result<(), Exit> {
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
