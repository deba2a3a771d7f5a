//! What is measured when somebody collects: in tables, and on the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;

use kernel::Timestamp;
use opentelemetry::KeyValue;
use sea_orm::{DbBackend, DbErr, QueryResult, Statement};

use super::instruments::observe;
use super::lock;

/// A gauge by its OpenTelemetry name and unit, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) what: &'static str,
}

impl Measure {
    pub(crate) const OUTBOX_UNSENT: Measure = Measure {
        name: "taxi.outbox.unsent",
        unit: "{event}",
        what: "Events that the broker has not acknowledged",
    };
    pub(crate) const OUTBOX_AGE: Measure =
        Measure { name: "taxi.outbox.age", unit: "s", what: "Age of the oldest unsent event" };
    pub(crate) const CONSUMER_PENDING: Measure = Measure {
        name: "taxi.consumer.pending",
        unit: "{event}",
        what: "Events not yet delivered to the consumer",
    };
    pub(crate) const CONSUMER_UNACKNOWLEDGED: Measure = Measure {
        name: "taxi.consumer.unacknowledged",
        unit: "{event}",
        what: "Events delivered, not acknowledged",
    };
    pub(crate) const PARKED_EVENTS: Measure = Measure {
        name: "taxi.parked.events",
        unit: "{event}",
        what: "Events that wait for an operator",
    };
    pub(crate) const VIEW_AGE: Measure =
        Measure { name: "taxi.view.age", unit: "s", what: "Time since the view was last complete" };
}

/// One value of a [`Measure`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) measure: Measure,
    pub(crate) labels: Vec<KeyValue>,
    pub(crate) value: f64,
}

static READINGS: Mutex<BTreeMap<&'static str, Vec<Reading>>> = Mutex::new(BTreeMap::new());
static OBSERVED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// This is how a context stands, until it is said again; what could not be measured is left out.
pub(crate) fn measured(context: &'static str, readings: Vec<Reading>) {
    for Reading { measure, .. } in &readings {
        show(*measure);
    }
    lock(&READINGS).insert(context, readings);
}

/// Makes the gauge of the present readings of this measure, once.
fn show(measure: Measure) {
    if lock(&OBSERVED).insert(measure.name) {
        observe(measure.name, measure.unit, measure.what, move |gauge| {
            for reading in lock(&READINGS).values().flatten() {
                if reading.measure == measure {
                    gauge.observe(reading.value, &reading.labels);
                }
            }
        });
    }
}

/// A figure of a context that stands in its tables, and the question that finds it out. The question
/// is asked at every scrape, so an index has to answer it.
pub struct Figure {
    measure: Measure,
    kind: Kind,
    question: Question,
}

/// The question of a [`Figure`], in the words of the database, at this time.
pub type Question = Box<dyn Fn(DbBackend, Timestamp) -> Statement + Send + Sync>;

/// How an answer is read.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// One row: a number.
    Count,
    /// A row for each state that occurs: the state, and a number. All that can occur are named.
    Counts(&'static str, &'static [&'static str]),
    /// One row: a time in microseconds, or nothing. The value is the seconds since then.
    Age,
}

impl Figure {
    /// How many there are.
    pub fn count(
        (name, unit): (&'static str, &'static str),
        what: &'static str,
        question: Question,
    ) -> Figure {
        Figure { measure: Measure { name, unit, what }, kind: Kind::Count, question }
    }

    /// How many there are in each of these states, by this label. The answer may leave out those
    /// that there are none of.
    pub fn counts(
        (name, unit): (&'static str, &'static str),
        what: &'static str,
        (label, states): (&'static str, &'static [&'static str]),
        question: Question,
    ) -> Figure {
        let kind = Kind::Counts(label, states);
        Figure { measure: Measure { name, unit, what }, kind, question }
    }

    /// How long ago something was that the question finds, in seconds; 0 when it finds nothing, or
    /// it is still to come.
    pub fn age(name: &'static str, what: &'static str, question: Question) -> Figure {
        Figure { measure: Measure { name, unit: "s", what }, kind: Kind::Age, question }
    }

    pub(crate) fn question(&self, backend: DbBackend, now: Timestamp) -> Statement {
        (self.question)(backend, now)
    }

    /// What these rows, which answer the question, say.
    pub(crate) fn readings(
        &self,
        rows: &[QueryResult],
        now: Timestamp,
    ) -> Result<Vec<Reading>, DbErr> {
        let reading = |labels, value| Reading { measure: self.measure, labels, value };
        if let Kind::Counts(label, states) = self.kind {
            let mut counts: BTreeMap<&str, i64> = states.iter().map(|state| (*state, 0)).collect();
            for row in rows {
                let state: String = row.try_get_by(0)?;
                if let Some(count) = counts.get_mut(state.as_str()) {
                    *count = row.try_get_by(1)?;
                }
            }
            let count = |(state, count)| reading(vec![KeyValue::new(label, state)], count as f64);
            return Ok(counts.into_iter().map(count).collect());
        }
        let found = rows.first().map(|row| row.try_get_by::<Option<i64>, _>(0)).transpose()?;
        let found = found.flatten();
        let value = match self.kind {
            Kind::Age => found.map_or(0.0, |micros| age(now, micros)),
            _ => found.unwrap_or(0) as f64,
        };
        Ok(vec![reading(Vec::new(), value)])
    }
}

/// Seconds since this time, in microseconds since the epoch.
pub(crate) fn age(now: Timestamp, micros: i64) -> f64 {
    now.since(Timestamp::from_micros(micros)).as_secs_f64()
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Figure").field(&self.measure.name).finish()
    }
}
