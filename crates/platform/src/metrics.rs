//! What this process counts and measures, for Prometheus to collect at `/metrics`.
//!
//! All instruments are made once, here, in the words of OpenTelemetry; the exporter makes the names
//! that Prometheus knows: `taxi.outbox.age` in `s` is `taxi_outbox_age_seconds` there. What happens
//! is counted where it happens, by a function of this module. What lies in tables and on the broker
//! is measured when somebody collects: see [`crate::backlog`].
//!
//! Labels are names of contexts, consumers, views, leases and shards, and the words of [`Outcome`]
//! and [`Reason`]: never an id, so that their number stays small. `docs/metrics.md` says what each
//! one means and what to do about it.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tokio::time::Instant;

use crate::lease::RENEWAL;

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
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../../../docs/metrics.md");

    fn reading(measure: Measure, labels: &[&'static str], value: f64) -> Reading {
        let labels = labels.iter().map(|label| KeyValue::new(*label, "test")).collect();
        Reading { measure, labels, value }
    }

    fn touch_everything() {
        relay_starts("test");
        consumer_starts("test");
        view_starts("test");
        held("test", 0, 0);
        lease_changed("test", true);
        let readings = Measure::ALL.map(|measure| match measure {
            Measure::ConsumerPending | Measure::ConsumerUnacknowledged => {
                reading(measure, &["consumer", "shard"], 1.0)
            }
            Measure::ViewAge => reading(measure, &["view", "shard"], 1.0),
            _ => reading(measure, &["context"], 1.0),
        });
        measured("test", readings.to_vec());
    }

    /// Name, type and labels of each metric, as they are collected.
    fn collected() -> BTreeSet<[String; 3]> {
        let text = text().expect("text");
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let metric = |line: &str| {
            let (name, kind) = line.split_once(' ').expect("a name and a type");
            let start = format!("{name}{{");
            let sample = text.lines().find_map(|line| line.strip_prefix(&start)).expect("a sample");
            let labels = sample.split_once('}').expect("labels").0.split(',');
            let mut labels: Vec<_> =
                labels.map(|label| label.split('=').next().unwrap_or_default()).collect();
            labels.sort_unstable();
            [name, kind, &labels.join(", ")].map(str::to_owned)
        };
        types.map(metric).collect()
    }

    /// The same, as they are written down.
    fn documented() -> BTreeSet<[String; 3]> {
        let rows = PAGE.lines().filter(|line| line.starts_with("| `taxi_"));
        let metric = |row: &str| {
            let cells: Vec<String> = row.split('|').map(|cell| cell.replace('`', "")).collect();
            let mut labels: Vec<_> = cells[3].split(',').map(str::trim).collect();
            labels.sort_unstable();
            [cells[1].trim(), cells[2].trim(), &labels.join(", ")].map(str::to_owned)
        };
        rows.map(metric).collect()
    }

    #[test]
    fn the_page_and_the_source_are_equal() {
        touch_everything();
        assert_eq!(collected(), documented());
        for word in Outcome::ALL.map(Outcome::as_str).iter().chain(&Reason::ALL.map(Reason::as_str))
        {
            assert!(PAGE.contains(&format!("`{word}`")), "{word} is not explained");
        }
    }

    #[test]
    fn what_is_not_measured_any_more_has_no_value() {
        let sample = "taxi_outbox_unsent{context=\"gone\"}";
        let labels = || vec![KeyValue::new("context", "gone")];
        let unsent = Reading { measure: Measure::OutboxUnsent, labels: labels(), value: 7.0 };
        measured("gone", vec![unsent]);
        let text = || super::text().expect("text");
        assert!(text().contains(&format!("{sample} 7\n")), "{}", text());
        measured("gone", Vec::new());
        assert!(!text().contains(sample), "{}", text());
    }

    #[test]
    fn only_a_change_of_a_lease_counts() {
        for held in [false, true, true, false, true] {
            lease_changed("moving", held);
        }
        let text = text().expect("text");
        for line in [
            "taxi_leases_held{name=\"moving\"} 1",
            "taxi_lease_changes_total{name=\"moving\",to=\"held\"} 2",
            "taxi_lease_changes_total{name=\"moving\",to=\"lost\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_lapses() {
        let shown = |value| {
            let line = format!("taxi_leases_held{{name=\"forgotten\"}} {value}");
            text().expect("text").lines().any(|found| found == line)
        };
        lease_changed("forgotten", true);
        tokio::time::advance(LAPSE / 2).await;
        assert!(shown(1));
        tokio::time::advance(LAPSE / 2).await;
        assert!(shown(0));
    }

    #[test]
    fn series_start_at_zero() {
        consumer_starts("quiet");
        lease_changed("quiet", true);
        let text = text().expect("text");
        for line in [
            "taxi_consumer_handled_total{consumer=\"quiet\",outcome=\"parked\"} 0",
            "taxi_lease_changes_total{name=\"quiet\",to=\"lost\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }
}
