//! What contexts have still to do, measured when somebody collects metrics: what lies in the
//! outbox, what is parked, how old a view is, what the broker holds for a consumer, and the figures
//! of its own.
//!
//! A few cheap questions, to the context's own database and to the broker, all at the same time and
//! each with a deadline. What does not answer has no value until it does: no number is better than
//! an old one. Whoever collects several times a second reads the same numbers again, so that
//! nobody can make work here. Counts stop at 100 000: all above means the same to an operator.
//!
//! Every replica of a context says the same of its tables and its consumer: take the maximum over
//! replicas, not the sum.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Stream;
use futures::TryStreamExt;
use futures::future::join_all;
use kernel::{Clock, Timestamp};
use opentelemetry::KeyValue;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::broker::{Broker, BrokerError};
use crate::consumer::Part;
use crate::db::Db;
use crate::metrics::{self, Figure, Measure, Reading, age};
use crate::outbox::chain;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long numbers are new enough to be shown again.
const FRESH: Duration = Duration::from_secs(1);
/// No count goes beyond it.
const MOST: usize = 100_000;

/// One context, and where to ask.
pub struct Source {
    /// Its name, which is its consumer's too.
    pub context: &'static str,
    /// Its database, if it has one.
    pub db: Option<Db>,
    /// Where its consumer is.
    pub broker: Broker,
    /// The bucket of its parked events, if they are not in its database.
    pub parked: Option<String>,
    /// What else stands in its tables.
    pub figures: Vec<Figure>,
}

/// All contexts of a process. Clones share them.
#[derive(Clone)]
pub struct Backlogs {
    clock: Arc<dyn Clock>,
    sources: Arc<Mutex<Vec<Arc<Source>>>>,
    measured: Arc<AsyncMutex<Option<Instant>>>,
}

impl Backlogs {
    /// No contexts yet.
    pub fn new(clock: Arc<dyn Clock>) -> Backlogs {
        Backlogs { clock, sources: Arc::default(), measured: Arc::default() }
    }

    /// Measures this one too from now on.
    pub fn add(&self, source: Source) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(source));
    }

    /// Brings the readings up to date.
    pub(crate) async fn measure(&self) {
        let mut measured = self.measured.lock().await;
        if measured.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.clock.now();
        join_all(sources.iter().map(|source| source.measure(now))).await;
        *measured = Some(Instant::now());
    }
}

impl Source {
    async fn measure(&self, now: Timestamp) {
        let (outbox, parked, views, consumer, figures) = tokio::join!(
            self.patiently("outbox", self.outbox(now)),
            self.patiently("parked events", self.parked()),
            self.patiently("views", self.views(now)),
            self.patiently("consumer", self.consumer()),
            self.patiently("figures", self.figures(now)),
        );
        metrics::measured(self.context, [outbox, parked, views, consumer, figures].concat());
    }

    /// What was found out in time, or nothing.
    async fn patiently(
        &self,
        what: &str,
        work: impl Future<Output = Result<Vec<Reading>, BrokerError>>,
    ) -> Vec<Reading> {
        let why = match tokio::time::timeout(PATIENCE, work).await {
            Ok(Ok(readings)) => return readings,
            Ok(Err(error)) => chain(&*error),
            Err(elapsed) => elapsed.to_string(),
        };
        tracing::debug!(context = self.context, what, why, "not measured");
        Vec::new()
    }

    async fn outbox(&self, now: Timestamp) -> Result<Vec<Reading>, BrokerError> {
        let Some(db) = &self.db else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT count(*), min(time) FROM \
             (SELECT time FROM outbox WHERE sent_at IS NULL ORDER BY id LIMIT {MOST}) AS unsent"
        );
        let row = one(db, &sql).await?;
        let (unsent, oldest): (i64, Option<i64>) = (row.try_get_by(0)?, row.try_get_by(1)?);
        let age = oldest.map_or(0.0, |oldest| age(now, oldest));
        let label = || vec![KeyValue::new("context", self.context)];
        Ok(vec![
            Reading { measure: Measure::OUTBOX_UNSENT, labels: label(), value: unsent as f64 },
            Reading { measure: Measure::OUTBOX_AGE, labels: label(), value: age },
        ])
    }

    async fn parked(&self) -> Result<Vec<Reading>, BrokerError> {
        let parked = match (&self.db, &self.parked) {
            (Some(db), _) => {
                let sql = format!(
                    "SELECT count(*) FROM (SELECT 1 FROM parked_event LIMIT {MOST}) AS parked"
                );
                one(db, &sql).await?.try_get_by::<i64, _>(0)? as f64
            }
            (None, Some(bucket)) => keys(self.connected()?, bucket).await? as f64,
            (None, None) => return Ok(Vec::new()),
        };
        let labels = vec![KeyValue::new("context", self.context)];
        Ok(vec![Reading { measure: Measure::PARKED_EVENTS, labels, value: parked }])
    }

    async fn views(&self, now: Timestamp) -> Result<Vec<Reading>, BrokerError> {
        let Some(db) = &self.db else { return Ok(Vec::new()) };
        // One that was never complete has no age.
        let sql = "SELECT consumer, shard, complete_at FROM checkpoint WHERE complete_at > 0";
        let reading = |row: QueryResult| -> Result<Reading, DbErr> {
            let (view, shard): (String, i32) = (row.try_get_by(0)?, row.try_get_by(1)?);
            let labels =
                vec![KeyValue::new("view", view), metrics::shard_label(u64::try_from(shard).ok())];
            let value = age(now, row.try_get_by(2)?);
            Ok(Reading { measure: Measure::VIEW_AGE, labels, value })
        };
        let rows = rows(db, sql).await?.into_iter().map(reading);
        Ok(rows.collect::<Result<_, _>>()?)
    }

    async fn figures(&self, now: Timestamp) -> Result<Vec<Reading>, BrokerError> {
        let Some(db) = &self.db else { return Ok(Vec::new()) };
        let mut readings = Vec::new();
        for figure in &self.figures {
            let answer = figure.question(db.backend(), now);
            let rows = db.reader().query_all_raw(answer).await?;
            readings.extend(figure.readings(&rows, now)?);
        }
        Ok(readings)
    }

    async fn consumer(&self) -> Result<Vec<Reading>, BrokerError> {
        let stream = self.connected()?.stream().await?;
        let parts = (0..self.broker.shards()).map(Some).chain([None]);
        let parts = join_all(parts.map(|shard| self.part(&stream, shard))).await;
        // Each context has either a consumer for each shard, or one for all, or none.
        Ok(parts.into_iter().flatten().flatten().collect())
    }

    async fn part(&self, stream: &Stream, shard: Option<u64>) -> Option<[Reading; 2]> {
        let name = shard.map_or(Part::Whole, Part::Shard).durable(self.context);
        let info = stream.consumer_info(name).await.ok()?;
        let reading = |measure, value: u64| Reading {
            measure,
            labels: vec![KeyValue::new("consumer", self.context), metrics::shard_label(shard)],
            value: value as f64,
        };
        Some([
            reading(Measure::CONSUMER_PENDING, info.num_pending),
            reading(Measure::CONSUMER_UNACKNOWLEDGED, info.num_ack_pending as u64),
        ])
    }

    fn connected(&self) -> Result<&Broker, BrokerError> {
        self.broker.is_connected().then_some(&self.broker).ok_or_else(|| "not connected".into())
    }
}

/// How many keys a bucket has; one that nobody has needed yet is empty.
async fn keys(broker: &Broker, bucket: &str) -> Result<usize, BrokerError> {
    let absent = |error: &GetStreamErrorKind| {
        matches!(error, GetStreamErrorKind::JetStream(error)
            if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
    };
    match broker.jetstream().get_stream(format!("KV_{bucket}")).await {
        Ok(stream) if stream.cached_info().state.messages == 0 => return Ok(0),
        Ok(_) => {}
        Err(error) if absent(&error.kind()) => return Ok(0),
        Err(error) => return Err(error.into()),
    }
    // The stream also counts what remains of deleted keys.
    let mut keys = broker.jetstream().get_key_value(bucket).await?.keys().await?;
    let mut count = 0;
    while count < MOST && keys.try_next().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

async fn rows(db: &Db, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
    db.reader().query_all_raw(Statement::from_string(db.backend(), sql)).await
}

async fn one(db: &Db, sql: &str) -> Result<QueryResult, BrokerError> {
    Ok(rows(db, sql).await?.pop().ok_or("no row")?)
}
