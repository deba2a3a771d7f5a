//! What this process counts and measures, for Prometheus to collect at `/metrics`.
//!
//! All instruments are made once, here, in the words of OpenTelemetry; the exporter makes the names
//! that Prometheus knows: `taxi.outbox.age` in `s` is `taxi_outbox_age_seconds` there. What happens
//! is counted where it happens, by a function of this module. What lies in tables and on the broker
//! is measured when somebody collects: see [`crate::backlog`].
//!
//! Labels are names of contexts, consumers, views, leases, shards and methods, and the words of
//! [`Outcome`], [`Reason`], [`Retry`] and [`State`]: never an id, so that their number stays small.
//! `docs/metrics.md` says what each one means and what to do about it.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tokio::time::Instant;
use tonic::Code;

use crate::breaker::State;
use crate::lease::RENEWAL;
use crate::status::upper_snake;

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

/// The relay of this context begins: its series starts at zero, so that the first event shows as an
/// increase.
pub fn relay_starts(context: &'static str) {
    published(context, 0);
}

/// So many events of this context are in the stream, and marked as sent.
pub fn published(context: &'static str, events: u64) {
    HOUSE.published.add(events, &[KeyValue::new("context", context)]);
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
    let labels = [KeyValue::new("consumer", consumer), KeyValue::new("outcome", outcome.as_str())];
    HOUSE.handled.add(events, &labels);
}

/// So many events of a shard, or of a consumer without shards, wait right now for an earlier one of
/// their history.
pub fn held(consumer: &'static str, shard: impl Into<Option<u64>>, events: usize) {
    let labels = [KeyValue::new("consumer", consumer), shard_label(shard.into())];
    HOUSE.held.record(events as u64, &labels);
}

/// A consumer or a projection begins a new session after the end of another.
pub fn rebuilt(consumer: &'static str, reason: Reason) {
    count_rebuilds(consumer, reason, 1);
}

fn count_rebuilds(consumer: &'static str, reason: Reason, sessions: u64) {
    let labels = [KeyValue::new("consumer", consumer), KeyValue::new("reason", reason.as_str())];
    HOUSE.rebuilds.add(sessions, &labels);
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
    HOUSE.folded.add(events as u64, &[KeyValue::new("view", view)]);
}

/// Who has not renewed a lease for this long does not hold it any more, whatever it believes.
const LAPSE: Duration = RENEWAL.saturating_mul(4);

/// Whether this process holds the lease: said at every renewal, for it holds until it lapses. Only
/// a change counts as one.
pub fn lease_changed(name: &str, held: bool) {
    let renewed = held.then(Instant::now);
    let before = lock(&LEASES).insert(name.to_owned(), renewed).flatten().is_some();
    let label = KeyValue::new("name", name.to_owned());
    for (to, changed) in [("held", held && !before), ("lost", before && !held)] {
        HOUSE.lease_changes.add(u64::from(changed), &[label.clone(), KeyValue::new("to", to)]);
    }
}

/// A call of a neighbour's method, `package.Service/Method`, has ended for its caller.
pub(crate) fn called(method: String, code: Code, took: Duration) {
    let labels = [
        KeyValue::new("rpc.system.name", "grpc"),
        KeyValue::new("rpc.method", method),
        KeyValue::new("rpc.response.status_code", upper_snake(code)),
    ];
    HOUSE.calls.record(took.as_secs_f64(), &labels);
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
    let labels = [KeyValue::new("name", name), KeyValue::new("outcome", outcome.as_str())];
    HOUSE.retries.add(retries, &labels);
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
    HOUSE.breakers.record(shown, &[KeyValue::new("name", name)]);
}

fn count_breaker_changes(name: &'static str, to: State, changes: u64) {
    let labels = [KeyValue::new("name", name), KeyValue::new("to", to.as_str())];
    HOUSE.breaker_changes.add(changes, &labels);
}

/// In seconds, as the conventions for `rpc.client.call.duration` have them.
const CALL_BOUNDARIES: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// What is measured when somebody collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    OutboxUnsent,
    OutboxAge,
    ConsumerPending,
    ConsumerUnacknowledged,
    ParkedEvents,
    ViewAge,
}

impl Measure {
    const ALL: [Measure; 6] = [
        Measure::OutboxUnsent,
        Measure::OutboxAge,
        Measure::ConsumerPending,
        Measure::ConsumerUnacknowledged,
        Measure::ParkedEvents,
        Measure::ViewAge,
    ];

    /// Name, unit and description.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Measure::OutboxUnsent => {
                ("taxi.outbox.unsent", "{event}", "Events that the broker has not acknowledged")
            }
            Measure::OutboxAge => ("taxi.outbox.age", "s", "Age of the oldest unsent event"),
            Measure::ConsumerPending => {
                ("taxi.consumer.pending", "{event}", "Events not yet delivered to the consumer")
            }
            Measure::ConsumerUnacknowledged => {
                ("taxi.consumer.unacknowledged", "{event}", "Events delivered, not acknowledged")
            }
            Measure::ParkedEvents => {
                ("taxi.parked.events", "{event}", "Events that wait for an operator")
            }
            Measure::ViewAge => ("taxi.view.age", "s", "Time since the view was last complete"),
        }
    }
}

/// One value of a [`Measure`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) measure: Measure,
    pub(crate) labels: Vec<KeyValue>,
    pub(crate) value: f64,
}

/// This is how a context stands, until it is said again; what could not be measured is left out.
pub(crate) fn measured(context: &'static str, readings: Vec<Reading>) {
    lock(&READINGS).insert(context, readings);
}

/// Everything, as Prometheus reads it.
pub(crate) fn text() -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&HOUSE.registry.gather())
}

/// Of [`text`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

static HOUSE: LazyLock<House> = LazyLock::new(House::new);
static READINGS: Mutex<BTreeMap<&'static str, Vec<Reading>>> = Mutex::new(BTreeMap::new());
/// When each lease was last renewed, if it is not lost.
static LEASES: Mutex<BTreeMap<String, Option<Instant>>> = Mutex::new(BTreeMap::new());

/// All instruments, and where they are collected.
struct House {
    registry: Registry,
    published: Counter<u64>,
    handled: Counter<u64>,
    held: Gauge<u64>,
    rebuilds: Counter<u64>,
    folded: Counter<u64>,
    lease_changes: Counter<u64>,
    calls: Histogram<f64>,
    retries: Counter<u64>,
    breakers: Gauge<u64>,
    breaker_changes: Counter<u64>,
    /// Instruments live as long as it does.
    _provider: SdkMeterProvider,
}

impl House {
    fn new() -> House {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .scope_info_enabled(false)
            .build();
        let mut provider = SdkMeterProvider::builder();
        match exporter {
            Ok(exporter) => provider = provider.with_reader(exporter),
            Err(error) => tracing::error!(%error, "metrics cannot be collected"),
        }
        let provider = provider.build();
        let meter = provider.meter("taxi");
        for measure in Measure::ALL {
            observe(&meter, measure);
        }
        observe_leases(&meter);
        let counter = |name, unit, what| {
            meter.u64_counter(name).with_unit(unit).with_description(what).build()
        };
        House {
            registry,
            published: counter(
                "taxi.relay.published",
                "{event}",
                "Events of the outbox that are in the stream and marked as sent",
            ),
            handled: counter(
                "taxi.consumer.handled",
                "{event}",
                "Deliveries that a consumer is done with",
            ),
            held: meter
                .u64_gauge("taxi.consumer.held")
                .with_unit("{event}")
                .with_description("Events that wait for an earlier one of their history")
                .build(),
            rebuilds: counter(
                "taxi.consumer.rebuilds",
                "{session}",
                "Sessions with the broker that had to begin anew",
            ),
            folded: counter("taxi.view.folded", "{event}", "Events folded into a view"),
            lease_changes: counter(
                "taxi.lease.changes",
                "{change}",
                "Times this process got or lost a lease",
            ),
            calls: meter
                .f64_histogram("rpc.client.call.duration")
                .with_unit("s")
                .with_description("Duration of calls to neighbours, retries included")
                .with_boundaries(CALL_BOUNDARIES.to_vec())
                .build(),
            retries: counter(
                "taxi.client.retries",
                "{retry}",
                "Calls to neighbours that deserved another attempt",
            ),
            breakers: meter
                .u64_gauge("taxi.breaker.state")
                .with_unit("{state}")
                .with_description("0 closed, 1 half-open, 2 open")
                .build(),
            breaker_changes: counter(
                "taxi.breaker.changes",
                "{change}",
                "Times a breaker changed its state",
            ),
            _provider: provider,
        }
    }
}

/// Makes a gauge that shows the present readings of this measure, and nothing else.
fn observe(meter: &Meter, measure: Measure) {
    let (name, unit, description) = measure.words();
    meter
        .f64_observable_gauge(name)
        .with_unit(unit)
        .with_description(description)
        .with_callback(move |gauge| {
            for reading in lock(&READINGS).values().flatten() {
                if reading.measure == measure {
                    gauge.observe(reading.value, &reading.labels);
                }
            }
        })
        .build();
}

/// Makes the gauge of the leases that this process has and has not.
fn observe_leases(meter: &Meter) {
    meter
        .u64_observable_gauge("taxi.leases.held")
        .with_unit("{lease}")
        .with_description("1 while this process holds it")
        .with_callback(|gauge| {
            for (name, renewed) in &*lock(&LEASES) {
                let held = renewed.is_some_and(|at| at.elapsed() < LAPSE);
                gauge.observe(u64::from(held), &[KeyValue::new("name", name.clone())]);
            }
        })
        .build();
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
