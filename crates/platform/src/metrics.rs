//! What this process counts and measures, for Prometheus to collect at `/metrics`.
//!
//! An [instrument](instruments) is a static, named in the words of OpenTelemetry; the exporter makes
//! the names that Prometheus knows: `taxi.outbox.age` in `s` is `taxi_outbox_age_seconds` there. What
//! happens is counted where it happens: that of the house by a function of this module, that of a
//! context by an adapter of its own. What lies in tables and on the broker is measured when somebody
//! collects: see [`crate::backlog`].
//!
//! | module | is |
//! |---|---|
//! | [`instruments`] | counters, gauges and histograms, and where they are collected |
//! | [`calls`] | rpcs: how many, how they end, how long they take |
//! | [`readings`] | what is measured when somebody collects |
//!
//! Labels are names of contexts, consumers, views, leases, shards, methods and events, and words of
//! enums such as [`Outcome`], [`Reason`], [`Retry`] and [`State`]: never an id, so that their number
//! stays small. `docs/metrics.md` says what each one means and what to do about it.

pub mod calls;
pub mod instruments;
mod readings;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use tokio::time::Instant;

pub(crate) use self::instruments::{CONTENT_TYPE, text};
pub use self::instruments::{Counter, Gauge, Histogram, One, UpDown};
pub use self::readings::{Figure, Question};
pub(crate) use self::readings::{Measure, Reading, age, measured};
use crate::breaker::State;
use crate::lease::RENEWAL;

static BUILD: Gauge =
    Gauge::new("taxi.build.info", "", "1; the labels say what this process was built from");
static COMMITTED: Counter =
    Counter::new("taxi.events.committed", "{event}", "Events committed, with what they tell of");
static PUBLISHED: Counter = Counter::new(
    "taxi.relay.published",
    "{event}",
    "Events of the outbox that are in the stream and marked as sent",
);
static HANDLED: Counter =
    Counter::new("taxi.consumer.handled", "{event}", "Deliveries that a consumer is done with");
static HELD: Gauge = Gauge::new(
    "taxi.consumer.held",
    "{event}",
    "Events that wait for an earlier one of their history",
);
static REBUILDS: Counter = Counter::new(
    "taxi.consumer.rebuilds",
    "{session}",
    "Sessions with the broker that had to begin anew",
);
static FOLDED: Counter = Counter::new("taxi.view.folded", "{event}", "Events folded into a view");
static LEASE_CHANGES: Counter =
    Counter::new("taxi.lease.changes", "{change}", "Times this process got or lost a lease");
static RETRIES: Counter = Counter::new(
    "taxi.client.retries",
    "{retry}",
    "Calls to neighbours that deserved another attempt",
);
static BREAKERS: Gauge =
    Gauge::new("taxi.breaker.state", "{state}", "0 closed, 1 half-open, 2 open");
static BREAKER_CHANGES: Counter =
    Counter::new("taxi.breaker.changes", "{change}", "Times a breaker changed its state");

static OBSERVED_LEASES: Once = Once::new();
/// When each lease was last renewed, if it is not lost.
static LEASES: Mutex<BTreeMap<String, Option<Instant>>> = Mutex::new(BTreeMap::new());

/// This process was built from this version, and from this revision of its source.
pub fn built_from(version: &'static str, revision: &'static str) {
    BUILD.set(1, [("version", version), ("revision", revision)]);
}

/// What became of an event that a consumer was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its policy has been applied.
    Applied,
    /// It had been applied before.
    Known,
    /// It was put aside for an operator.
    Parked,
    /// Something it needs is away: it is tried again.
    Retried,
    /// It is no event at all: it was passed over.
    Unreadable,
}

impl Outcome {
    const ALL: [Outcome; 5] =
        [Outcome::Applied, Outcome::Known, Outcome::Parked, Outcome::Retried, Outcome::Unreadable];

    fn as_str(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Known => "known",
            Outcome::Parked => "parked",
            Outcome::Retried => "retried",
            Outcome::Unreadable => "unreadable",
        }
    }
}

/// Why a consumer or a projection began a new session with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The session ended with an error.
    Failed,
    /// There was something to deliver, and nothing was delivered.
    Stalled,
}

impl Reason {
    const ALL: [Reason; 2] = [Reason::Failed, Reason::Stalled];

    fn as_str(self) -> &'static str {
        match self {
            Reason::Failed => "failed",
            Reason::Stalled => "stalled",
        }
    }
}

/// An event of this protobuf name is committed.
pub(crate) fn committed(kind: &'static str) {
    let event = kind.rsplit('.').next().unwrap_or(kind);
    COMMITTED.add(1, [("event", event)]);
}

/// The relay of this context begins: its series starts at zero, so that the first event shows as an
/// increase.
pub fn relay_starts(context: &'static str) {
    published(context, 0);
}

/// So many events of this context are in the stream, and marked as sent.
pub fn published(context: &'static str, events: u64) {
    PUBLISHED.add(events, [("context", context)]);
}

/// This consumer begins: its series start at zero.
pub fn consumer_starts(consumer: &'static str) {
    for outcome in Outcome::ALL {
        count_handled(consumer, outcome, 0);
    }
    for reason in Reason::ALL {
        count_rebuilds(consumer, reason, 0);
    }
}

/// A consumer is done with one delivery of an event.
pub fn handled(consumer: &'static str, outcome: Outcome) {
    count_handled(consumer, outcome, 1);
}

fn count_handled(consumer: &'static str, outcome: Outcome, events: u64) {
    HANDLED.add(events, [("consumer", consumer), ("outcome", outcome.as_str())]);
}

/// So many events of a shard, or of a consumer without shards, wait right now for an earlier one of
/// their history.
pub fn held(consumer: &'static str, shard: impl Into<Option<u64>>, events: usize) {
    let labels = [KeyValue::new("consumer", consumer), shard_label(shard.into())];
    HELD.set_of(events as u64, &labels);
}

/// A consumer or a projection begins a new session after the end of another.
pub fn rebuilt(consumer: &'static str, reason: Reason) {
    count_rebuilds(consumer, reason, 1);
}

fn count_rebuilds(consumer: &'static str, reason: Reason, sessions: u64) {
    REBUILDS.add(sessions, [("consumer", consumer), ("reason", reason.as_str())]);
}

/// This view begins: its series start at zero.
pub fn view_starts(view: &'static str) {
    folded(view, 0);
    for reason in Reason::ALL {
        count_rebuilds(view, reason, 0);
    }
}

/// So many events have been folded into this view.
pub fn folded(view: &'static str, events: usize) {
    FOLDED.add(events as u64, [("view", view)]);
}

/// Who has not renewed a lease for this long does not hold it any more, whatever it believes.
const LAPSE: Duration = RENEWAL.saturating_mul(4);

/// Whether this process holds the lease: said at every renewal, for it holds until it lapses. Only
/// a change counts as one.
pub fn lease_changed(name: &str, held: bool) {
    let renewed = held.then(Instant::now);
    OBSERVED_LEASES.call_once(observe_leases);
    let before = lock(&LEASES).insert(name.to_owned(), renewed).flatten().is_some();
    let label = KeyValue::new("name", name.to_owned());
    for (to, changed) in [("held", held && !before), ("lost", before && !held)] {
        LEASE_CHANGES.add_of(u64::from(changed), &[label.clone(), KeyValue::new("to", to)]);
    }
}

/// Whether a call that deserved it was tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It was.
    Made,
    /// The budget of its method was spent.
    Denied,
}

impl Retry {
    const ALL: [Retry; 2] = [Retry::Made, Retry::Denied];

    fn as_str(self) -> &'static str {
        match self {
            Retry::Made => "made",
            Retry::Denied => "denied",
        }
    }
}

/// Calls of this policy begin: their series start at zero.
pub(crate) fn retries_start(name: &'static str) {
    for outcome in Retry::ALL {
        count_retries(name, outcome, 0);
    }
}

/// A call of this policy would be tried again.
pub(crate) fn retried(name: &'static str, outcome: Retry) {
    count_retries(name, outcome, 1);
}

fn count_retries(name: &'static str, outcome: Retry, retries: u64) {
    RETRIES.add(retries, [("name", name), ("outcome", outcome.as_str())]);
}

/// This breaker begins, closed: its series start at zero.
pub(crate) fn breaker_starts(name: &'static str) {
    show_breaker(name, State::Closed);
    for to in State::ALL {
        count_breaker_changes(name, to, 0);
    }
}

/// This breaker is in another state now.
pub(crate) fn breaker_changed(name: &'static str, to: State) {
    show_breaker(name, to);
    count_breaker_changes(name, to, 1);
}

fn show_breaker(name: &'static str, state: State) {
    let shown = match state {
        State::Closed => 0,
        State::HalfOpen => 1,
        State::Open => 2,
    };
    BREAKERS.set(shown, [("name", name)]);
}

fn count_breaker_changes(name: &'static str, to: State, changes: u64) {
    BREAKER_CHANGES.add(changes, [("name", name), ("to", to.as_str())]);
}

/// Makes the gauge of the leases that this process has and has not.
fn observe_leases() {
    instruments::observe("taxi.leases.held", "{lease}", "1 while this process holds it", |gauge| {
        for (name, renewed) in &*lock(&LEASES) {
            let held = renewed.is_some_and(|at| at.elapsed() < LAPSE);
            gauge.observe(f64::from(u8::from(held)), &[KeyValue::new("name", name.clone())]);
        }
    });
}

/// A shard, or all that there is.
pub(crate) fn shard_label(shard: Option<u64>) -> KeyValue {
    match shard {
        Some(shard) => KeyValue::new("shard", shard as i64),
        None => KeyValue::new("shard", "all"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod watched;
