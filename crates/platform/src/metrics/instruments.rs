//! Counters, gauges and histograms, and where they are collected.
//!
//! ```text
//! static SENT: Counter = Counter::new("taxi.messages.sent", "{message}", "Messages stored");
//! SENT.add(1, [("template", "PAYMENT_DEFERRED")]);
//! ```
//!
//! An instrument comes into being when it is first used. One use costs a look-up of its labels and
//! an atomic or a lock, some 100 ns, and allocates nothing once it has been used with these labels.

use std::sync::{LazyLock, OnceLock};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

/// The name of a label, and its value.
pub type Label = (&'static str, &'static str);

/// Only grows.
#[derive(Debug)]
pub struct Counter(Instrument<opentelemetry::metrics::Counter<u64>>);

impl Counter {
    /// A counter of something, with OpenTelemetry's name and unit.
    pub const fn new(name: &'static str, unit: &'static str, what: &'static str) -> Counter {
        Counter(Instrument::new(name, unit, what))
    }

    /// Counts so many; none is enough to let its series begin, so that the first one shows as an
    /// increase.
    pub fn add<const N: usize>(&self, count: u64, labels: [Label; N]) {
        self.add_of(count, &labels.map(key_value));
    }

    pub(super) fn add_of(&self, count: u64, labels: &[KeyValue]) {
        let Instrument { name, unit, what, made } = &self.0;
        let made = made.get_or_init(|| {
            HOUSE.meter.u64_counter(*name).with_unit(*unit).with_description(*what).build()
        });
        made.add(count, labels);
    }
}

/// Has a value until it is given another one.
#[derive(Debug)]
pub struct Gauge(Instrument<opentelemetry::metrics::Gauge<u64>>);

impl Gauge {
    /// A gauge of something, with OpenTelemetry's name and unit.
    pub const fn new(name: &'static str, unit: &'static str, what: &'static str) -> Gauge {
        Gauge(Instrument::new(name, unit, what))
    }

    /// Sets the value.
    pub fn set<const N: usize>(&self, value: u64, labels: [Label; N]) {
        self.set_of(value, &labels.map(key_value));
    }

    pub(super) fn set_of(&self, value: u64, labels: &[KeyValue]) {
        let Instrument { name, unit, what, made } = &self.0;
        let made = made.get_or_init(|| {
            HOUSE.meter.u64_gauge(*name).with_unit(*unit).with_description(*what).build()
        });
        made.record(value, labels);
    }
}

/// How many of something there are at the moment.
#[derive(Debug)]
pub struct UpDown(Instrument<opentelemetry::metrics::UpDownCounter<i64>>);

impl UpDown {
    /// A gauge of something, with OpenTelemetry's name and unit.
    pub const fn new(name: &'static str, unit: &'static str, what: &'static str) -> UpDown {
        UpDown(Instrument::new(name, unit, what))
    }

    /// So many more, or fewer.
    pub fn add<const N: usize>(&self, change: i64, labels: [Label; N]) {
        let Instrument { name, unit, what, made } = &self.0;
        let made = made.get_or_init(|| {
            HOUSE.meter.i64_up_down_counter(*name).with_unit(*unit).with_description(*what).build()
        });
        made.add(change, &labels.map(key_value));
    }

    /// One more, until what is returned is dropped.
    pub fn one<const N: usize>(&'static self, labels: [Label; N]) -> One<N> {
        self.add(1, labels);
        One { of: self, labels }
    }
}

/// One of those that an [`UpDown`] counts.
#[derive(Debug)]
pub struct One<const N: usize> {
    of: &'static UpDown,
    labels: [Label; N],
}

impl<const N: usize> Drop for One<N> {
    fn drop(&mut self) {
        self.of.add(-1, self.labels);
    }
}

/// How long something takes, in seconds.
#[derive(Debug)]
pub struct Histogram(Instrument<opentelemetry::metrics::Histogram<f64>>);

/// In seconds, as the conventions for `rpc.client.call.duration` have them.
const BOUNDARIES: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

impl Histogram {
    /// A histogram of durations, with OpenTelemetry's name.
    pub const fn new(name: &'static str, what: &'static str) -> Histogram {
        Histogram(Instrument::new(name, "s", what))
    }

    /// It has taken so long.
    pub fn record<const N: usize>(&self, took: std::time::Duration, labels: [Label; N]) {
        let Instrument { name, unit, what, made } = &self.0;
        let made = made.get_or_init(|| {
            let histogram = HOUSE.meter.f64_histogram(*name).with_unit(*unit);
            histogram.with_description(*what).with_boundaries(BOUNDARIES.to_vec()).build()
        });
        made.record(took.as_secs_f64(), &labels.map(key_value));
    }
}

/// What an instrument is called, and the instrument once it is needed.
#[derive(Debug)]
struct Instrument<T> {
    name: &'static str,
    unit: &'static str,
    what: &'static str,
    made: OnceLock<T>,
}

impl<T> Instrument<T> {
    const fn new(name: &'static str, unit: &'static str, what: &'static str) -> Instrument<T> {
        Instrument { name, unit, what, made: OnceLock::new() }
    }
}

fn key_value((name, value): Label) -> KeyValue {
    KeyValue::new(name, value)
}

/// Makes a gauge that shows what this says whenever somebody collects, and nothing else.
pub(super) fn observe(
    name: &'static str,
    unit: &'static str,
    what: &'static str,
    say: impl Fn(&dyn AsyncInstrument<f64>) + Send + Sync + 'static,
) {
    let gauge = HOUSE.meter.f64_observable_gauge(name).with_unit(unit).with_description(what);
    gauge.with_callback(say).build();
}

/// Everything, as Prometheus reads it.
pub(crate) fn text() -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&HOUSE.registry.gather())
}

/// Of [`text`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

static HOUSE: LazyLock<House> = LazyLock::new(House::new);

/// Where all instruments are made and collected.
struct House {
    registry: Registry,
    meter: Meter,
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
        House { registry, meter: provider.meter("taxi"), _provider: provider }
    }
}
