//! `bench freshness`: how soon others know what has happened.
//!
//! Rides are offered at a fixed rate. Of each event there are three times, by the one clock of this
//! machine: when it was decided (`ce-time`, a moment before the commit), when the broker had it, and
//! when somebody who watches all rides saw it. Beside them the same as a caller sees it: from the
//! answer of FinishDriving to that of GetDrivingInfo with its consistency token.

use std::collections::HashMap;
use std::fmt::{self, Formatter};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel::Clock;
use platform::clock::SystemClock;
use prost_types::Timestamp;
use proto::dashboard::v1::{DrivingInfo, WatchDrivingInfosRequest};
use proto::words::parse_time;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::city::City;
use crate::process::Machine;
use crate::rides::View;
use crate::stats::Latency;
use crate::stream::{Stored, Stream};
use crate::table::{Goal, goals, latency};
use crate::{Result, binary, print, rides};

/// As the defaults of the configuration have it; only for reading everything.
const SHARDS: u32 = 8;
/// How long each of the rounds is that tell what the machine can do.
const CLOSED: Duration = Duration::from_secs(5);
const CLOSED_ROUNDS: u32 = 3;
/// Of what the machine can do, so much is offered at most: a queue that only grows tells nothing.
const SUSTAINABLE: f64 = 0.8;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rides a second, if the machine can do so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How long.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Drivers, and so rides under way, at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    drivers: u32,
    /// Offer this rate even when the machine cannot do it.
    #[arg(long)]
    regardless: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// A `taxi` program, instead of the one that cargo builds.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

impl Options {
    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// Long after everything should have ended.
    fn limit(&self) -> Duration {
        Duration::from_secs(600) + self.length() * 2
    }
}

/// All measurements.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    machine: Machine,
    /// Rides a second that were asked for.
    wanted: u32,
    /// That the machine can do when one ride follows the other.
    possible: f64,
    view: View,
    events: usize,
    /// From `ce-time` to the broker's time.
    to_stream: Latency,
    /// From `ce-time` to whom watches.
    to_watch: Latency,
    /// From the broker's time to whom watches.
    stream_to_watch: Latency,
    /// Events that were never seen by whom watches.
    unseen: usize,
    goals: Vec<Goal>,
}

/// Runs it.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let binary = binary::find(options.binary.as_deref())?;
    let work = async |city: &mut City| measure(city, options).await;
    print(&City::with(&binary, &[], options.limit(), work).await?, options.json)
}

async fn measure(city: &City, options: &Options) -> Result<Report> {
    let machine = Machine::now()?;
    let stream = Stream::connect(&city.mesh.ready().nats, SHARDS).await?;
    let mut drivers = rides::drivers(city, options.drivers).await;
    let closed = rides::closed(&mut drivers, CLOSED_ROUNDS, CLOSED).await?;
    city.settle().await?;
    let possible = closed.per_second.median;
    let rate = if options.regardless {
        options.rate
    } else {
        options.rate.min((possible * SUSTAINABLE) as u32).max(1)
    };

    let before = stream.end().await?;
    let watch = Watch::start(city);
    let view = rides::open(&mut drivers, rate, options.length()).await?;
    city.settle().await?;
    let seen = watch.stop();
    let events = stream.behind(before).await?;
    let times: Vec<Times> =
        events.iter().map(|event| Times::of(event, &seen)).collect::<Result<_>>()?;
    Ok(Report::new(machine, options.rate, possible, view, &times))
}

/// What became of one event when, microseconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    decided: i64,
    stored: i64,
    seen: Option<i64>,
}

impl Times {
    fn of(event: &Stored, seen: &HashMap<String, i64>) -> Result<Times> {
        let headers = &event.message.headers;
        let text = |name: &str| headers.get(name).map_or("", |value| value.as_str());
        let decided: Timestamp = text("ce-time").parse()?;
        let decided = parse_time(&decided).micros();
        Ok(Times { decided, stored: event.time, seen: seen.get(text("ce-id")).copied() })
    }
}

/// Somebody who watches all rides, and when they saw which event.
struct Watch {
    seen: Arc<Mutex<HashMap<String, i64>>>,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(city: &City) -> Watch {
        let seen = Arc::<Mutex<HashMap<String, i64>>>::default();
        let (notes, mut dashboard) = (seen.clone(), city.dashboard(0));
        let task = tokio::spawn(async move {
            let all = WatchDrivingInfosRequest::default();
            let ended = async {
                let mut rides = dashboard.watch_driving_infos(all).await?.into_inner();
                while let Some(change) = rides.message().await? {
                    note(&notes, change.driving_info.unwrap_or_default());
                }
                Ok::<(), tonic::Status>(())
            };
            eprintln!("  the watch has ended: {:?}", ended.await);
        });
        Watch { seen, task }
    }

    fn stop(self) -> HashMap<String, i64> {
        self.task.abort();
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes those events of a ride that were not seen before.
fn note(seen: &Mutex<HashMap<String, i64>>, ride: DrivingInfo) {
    let now = SystemClock.now().micros();
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    for event in ride.timeline {
        seen.entry(event.id).or_insert(now);
    }
}

impl Report {
    fn new(machine: Machine, wanted: u32, possible: f64, view: View, times: &[Times]) -> Report {
        let between = |from: i64, to: i64| Duration::from_micros((to - from).max(0) as u64);
        let seen = || times.iter().filter_map(|it| Some((it, it.seen?)));
        let mut report = Report {
            machine,
            wanted,
            possible,
            view,
            events: times.len(),
            to_stream: Latency::of(times.iter().map(|it| between(it.decided, it.stored))),
            to_watch: Latency::of(seen().map(|(it, seen)| between(it.decided, seen))),
            stream_to_watch: Latency::of(seen().map(|(it, seen)| between(it.stored, seen))),
            unseen: times.len() - seen().count(),
            goals: Vec::new(),
        };
        report.judge();
        report
    }

    fn judge(&mut self) {
        let p99 = self.view.latency.p99_ms;
        // A view that never came has no latency, but it is no success.
        let shown = self.view.failed == 0 && self.view.rides > 0;
        let unseen = self.unseen as f64;
        let goal = |what: &str, wanted, measured, ok| {
            let what = what.to_owned();
            Goal { what, wanted, measured, ok }
        };
        self.goals = vec![
            goal("finish -> dashboard, p99", "<= 100 ms", p99, shown && p99 <= 100.0),
            goal("events never seen by a watch", "0", unseen, self.unseen == 0),
        ];
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { machine, wanted, possible, view, .. } = self;
        let View { rate, rides, per_second, .. } = view;
        writeln!(f, "\n{machine}")?;
        writeln!(f, "\n{rate} rides/s offered, {per_second:.1} done: {rides} rides")?;
        writeln!(f, "{wanted} were asked for; {possible:.1} are possible one after the other")?;
        latency(f, "finish -> GetDrivingInfo", view.latency, view.failed)?;
        latency(f, "request due -> the same", view.since_due, 0)?;
        writeln!(f, "\n{} events of these rides", self.events)?;
        latency(f, "decided -> stream", self.to_stream, 0)?;
        latency(f, "stream -> watch", self.stream_to_watch, 0)?;
        latency(f, "decided -> watch", self.to_watch, 0)?;
        if self.unseen > 0 {
            writeln!(f, "  {} events were NEVER SEEN by the watch", self.unseen)?;
        }
        goals(f, &self.goals)
    }
}
