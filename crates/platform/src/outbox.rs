//! Events on their way out.
//!
//! A change writes its events into the `outbox` table in its own transaction. One relay per context,
//! the leader by lease, publishes them in the order of their rows: several at a time, but never two
//! of one aggregate, and it marks as sent only the prefix the broker has acknowledged. It reads
//! without a cursor, because a cursor would skip rows that commit late.
//!
//! Each event says which one of its aggregate must be the last in the stream before it, and the
//! broker refuses it otherwise. So a copy that was under way for long, or that comes from a relay
//! which does not know yet that another one leads, is refused for ever, not only within the broker's
//! duplicate window; and should the stream have lost its end, the relay notices it and sends what is
//! missing again.

mod tails;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use kernel::{Cause, Clock, Failure, Timestamp, Uuid};
use sea_orm::entity::prelude::*;
use sea_orm::{Order, QueryOrder, QuerySelect, QueryTrait, Set};
use tokio::sync::{Notify, broadcast, mpsc};

use self::tails::{Tail, Tails};
use crate::broker::{Broker, BrokerError, Delivery};
use crate::db::{Db, failure};
use crate::lease::{Lease, RENEWAL};
use crate::metrics;
use crate::shutdown::Shutdown;
use crate::telemetry::Span;

/// The outbox table.
pub mod row {
    use sea_orm::entity::prelude::*;

    /// One event that a committed change has brought about.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox")]
    pub struct Model {
        /// The order in which rows were written.
        #[sea_orm(primary_key)]
        pub id: i64,
        /// The event's id.
        pub event: Uuid,
        /// What it happened to.
        pub aggregate: Uuid,
        /// Its number in the history of that aggregate.
        pub version: i64,
        /// The full protobuf name of the payload.
        pub kind: String,
        /// What it belongs to across contexts.
        pub correlation: Uuid,
        /// Why it happened.
        pub causation: Uuid,
        /// The W3C `traceparent` under which it happened.
        pub trace: Option<String>,
        /// When it happened, microseconds.
        pub time: i64,
        /// The protobuf message.
        pub payload: Vec<u8>,
        /// When the broker had acknowledged it, microseconds.
        pub sent_at: Option<i64>,
    }

    /// No relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An event in the words of the wire, as a context's `events.rs` makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The full protobuf name of the message.
    pub kind: &'static str,
    /// What it belongs to across contexts.
    pub correlation: Uuid,
    /// The encoded message.
    pub payload: Vec<u8>,
}

impl Publication {
    /// Encodes a protobuf message as the event of its own name.
    pub fn of<M: prost::Message + prost::Name>(correlation: Uuid, message: &M) -> Publication {
        Publication { kind: full_name::<M>(), correlation, payload: message.encode_to_vec() }
    }
}

/// The full protobuf name of a message; made once per message type and process.
fn full_name<M: prost::Name>() -> &'static str {
    use std::collections::HashMap;
    use std::sync::{Mutex, PoisonError};
    static NAMES: Mutex<Option<HashMap<(&'static str, &'static str), &'static str>>> =
        Mutex::new(None);
    NAMES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_default()
        .entry((M::PACKAGE, M::NAME))
        .or_insert_with(|| M::full_name().leak())
}

/// How many rows the relay takes at a time.
const BATCH: u64 = 500;
/// The net below the pokes: how long a committed event waits at most to be noticed.
const POLL: Duration = Duration::from_millis(100);
/// How long sent rows are kept, to be sent again should the broker lose its disk.
pub const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// Says within this process, and to the other replicas, that something was committed. Best effort:
/// whoever misses a poke polls.
#[derive(Clone)]
pub struct Pokes {
    committed: Arc<Notify>,
    local: mpsc::Sender<Uuid>,
    remote: broadcast::Sender<Uuid>,
}

impl Pokes {
    /// Starts the exchange of pokes between the replicas of one context.
    pub fn start(context: &str, broker: &Broker, instance: Uuid, tasks: &Shutdown) -> Pokes {
        let (local, mut to_others) = mpsc::channel::<Uuid>(1024);
        let pokes = Pokes { committed: Arc::default(), local, remote: broadcast::channel(1024).0 };

        let (subject, client) = (broker.poke_subject(context), broker.client().clone());
        let (from_others, stop) = (pokes.clone(), tasks.clone());
        tasks.spawn("pokes", async move {
            let Ok(mut incoming) = client.subscribe(subject.clone()).await else { return };
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(message) = incoming.next() => from_others.receive(&message.payload, instance),
                    Some(aggregate) = to_others.recv() => {
                        let payload = [*instance.as_bytes(), *aggregate.as_bytes()].concat();
                        // A failure means no connection: the others poll.
                        let poke = client.publish(subject.clone(), payload.into());
                        tokio::time::timeout(POLL, poke).await.ok();
                    }
                }
            }
        });
        pokes
    }

    fn receive(&self, payload: &[u8], instance: Uuid) {
        let id = |bytes: Option<&[u8]>| bytes.and_then(|bytes| Uuid::from_slice(bytes).ok());
        let (Some(sender), Some(aggregate)) = (id(payload.get(..16)), id(payload.get(16..))) else {
            return;
        };
        if sender != instance {
            self.committed.notify_one();
            self.remote.send(aggregate).ok();
        }
    }

    /// An aggregate of this context has changed here.
    pub(crate) fn committed(&self, aggregate: Uuid) {
        self.committed.notify_one();
        self.local.try_send(aggregate).ok();
    }

    /// The aggregates that change in other replicas.
    pub(crate) fn elsewhere(&self) -> broadcast::Receiver<Uuid> {
        self.remote.subscribe()
    }
}

/// The rows of the events of one change.
pub(crate) fn rows(
    clock: &dyn Clock,
    cause: &Cause,
    aggregate: Uuid,
    first_version: i64,
    events: impl Iterator<Item = Publication>,
) -> impl Iterator<Item = row::ActiveModel> {
    let now = clock.now();
    events.zip(first_version..).map(move |(event, version)| row::ActiveModel {
        event: Set(clock.new_id()),
        aggregate: Set(aggregate),
        version: Set(version),
        kind: Set(event.kind.to_owned()),
        correlation: Set(event.correlation),
        causation: Set(cause.id),
        trace: Set(cause.trace.clone()),
        time: Set(now.micros()),
        payload: Set(event.payload),
        sent_at: Set(None),
        ..Default::default()
    })
}

/// Publishes one context's outbox for as long as it is the leader.
pub struct Relay {
    /// The context's name, the third word of the subjects.
    pub context: &'static str,
    /// The context's database.
    pub db: Db,
    /// Where to.
    pub broker: Broker,
    /// Wakes it up.
    pub pokes: Pokes,
    /// For the time of sending.
    pub clock: Arc<dyn Clock>,
    /// Leadership.
    pub lease: Lease,
    tails: Tails,
}

impl Relay {
    /// The relay of this context.
    pub fn new(
        context: &'static str,
        db: Db,
        broker: Broker,
        pokes: Pokes,
        clock: Arc<dyn Clock>,
        lease: Lease,
    ) -> Relay {
        let tails = Tails::new(context, broker.clone());
        Relay { context, db, broker, pokes, clock, lease, tails }
    }

    /// Runs until shutdown; a broker or a database that is away is waited for.
    pub async fn run(self, tasks: Shutdown) {
        metrics::relay_starts(self.context);
        let mut backoff = Backoff::default();
        while !tasks.is_triggered() {
            tokio::select! {
                () = tasks.cancelled() => break,
                outcome = self.lead() => match outcome {
                    Ok(()) => backoff = Backoff::default(),
                    Err(error) => {
                        tracing::warn!(context = self.context, error = %chain(&*error), "relay");
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
            }
        }
        self.lease.release().await.ok();
    }

    /// One time of leadership, or one wait for it.
    async fn lead(&self) -> Result<(), BrokerError> {
        if !self.lease.hold().await? {
            tokio::time::sleep(RENEWAL).await;
            return Ok(());
        }
        // Beside the work, which may take longer than a term while the broker is silent.
        let lost = async {
            loop {
                tokio::time::sleep(RENEWAL).await;
                if !self.lease.hold().await? {
                    return Ok::<(), BrokerError>(());
                }
            }
        };
        tokio::select! {
            outcome = lost => outcome,
            outcome = self.publish_all() => outcome,
        }
    }

    /// Publishes what there is and what comes.
    async fn publish_all(&self) -> Result<(), BrokerError> {
        self.broker.stream().await?;
        loop {
            if self.publish_batch().await? < BATCH {
                let poke = self.pokes.committed.notified();
                tokio::time::timeout(POLL, poke).await.ok();
            }
        }
    }

    /// Publishes the oldest unsent events; answers how many there were.
    async fn publish_batch(&self) -> Result<u64, BrokerError> {
        let batch = row::Entity::find()
            .filter(row::Column::SentAt.is_null())
            .order_by(row::Column::Id, Order::Asc)
            .limit(BATCH)
            .all(self.db.reader())
            .await?;
        let count = batch.len() as u64;
        let mut acknowledged = Vec::new();
        let mut outcome = Ok(());
        for wave in waves(batch) {
            let acks = join_all(wave.iter().map(|event| self.publish(event))).await;
            let failed = acks.into_iter().enumerate().find_map(|(n, ack)| Some((n, ack.err()?)));
            let prefix = failed.as_ref().map_or(wave.len(), |(n, _)| *n);
            acknowledged.extend(wave[..prefix].iter().map(|event| event.id));
            if let Some((_, error)) = failed {
                outcome = Err(error);
                break;
            }
        }
        let sent = acknowledged.len() as u64;
        self.mark_sent(acknowledged).await?;
        metrics::published(self.context, sent);
        outcome.map(|()| count)
    }

    /// Brings one event into the stream, once, in its place.
    async fn publish(&self, event: &row::Model) -> Result<(), BrokerError> {
        let mut tail = self.tails.before(event).await?;
        loop {
            if tail.version >= event.version {
                return Ok(());
            }
            if tail.version < event.version - 1 {
                self.send_again(event, tail.version).await?;
            }
            let connection = self.broker.connections();
            match self.publish_after(event, tail).await? {
                Some(own) => {
                    self.tails.note(event.aggregate, connection, own);
                    return Ok(());
                }
                // Another one has gone on with this history.
                None => tail = self.tails.look(event).await?,
            }
        }
    }

    /// Publishes one event behind this one of its aggregate; nothing when that is not the last any
    /// more. Only the broker's acknowledgement counts: a timeout is *unknown*.
    async fn publish_after(
        &self,
        event: &row::Model,
        tail: Tail,
    ) -> Result<Option<Tail>, BrokerError> {
        let mut delivery = Delivery {
            id: event.event,
            kind: event.kind.clone(),
            context: self.context.to_owned(),
            aggregate: event.aggregate,
            version: event.version,
            correlation: event.correlation,
            causation: event.causation,
            time: Timestamp::from_micros(event.time),
            trace: event.trace.clone(),
            payload: Bytes::from(event.payload.clone()),
            sequence: 0,
        };
        let subject =
            self.broker.subject(self.context, delivery.event(), event.correlation, event.aggregate);
        let mut span = Span::publish(&self.broker, &delivery);
        if let Some(span) = &span {
            delivery.trace = Some(span.trace().to_string());
        }
        let message = PublishMessage::build()
            .headers(delivery.headers())
            .message_id(event.event.to_string())
            .expected_last_subject_sequence(tail.sequence)
            .header(tails::OF_AGGREGATE, self.tails.subjects(event))
            .payload(delivery.payload);
        let outcome = match self.broker.jetstream().send_publish(subject, message).await {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match outcome {
            // It remembers the id, yet what it has said of the place means that the event is not there.
            Ok(stored) if stored.duplicate => match self.tails.look(event).await? {
                tail if tail.version >= event.version => Ok(Some(tail)),
                _ => Err("the broker refuses for now to store again what it has lost".into()),
            },
            Ok(stored) => {
                self.broker.stored(Ok(()));
                Ok(Some(Tail { version: event.version, sequence: stored.sequence }))
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
            Err(error) => {
                if let Some(span) = &mut span {
                    span.fail(format!("{:?}", error.kind()));
                }
                self.broker.stored(Err(chain(&error)));
                Err(error.into())
            }
        }
    }

    /// The stream has lost events of this history: those that are still at hand go first.
    async fn send_again(&self, event: &row::Model, after: i64) -> Result<(), BrokerError> {
        let lost = row::Entity::update_many()
            .col_expr(row::Column::SentAt, Expr::value(Option::<i64>::None))
            .filter(row::Column::Aggregate.eq(event.aggregate))
            .filter(row::Column::Version.gt(after))
            .filter(row::Column::Version.lt(event.version))
            .exec(self.db.writer())
            .await?;
        let (context, aggregate) = (self.context, event.aggregate);
        match lost.rows_affected {
            0 => {
                tracing::error!(context, %aggregate, after, "the stream has lost events for good");
                Ok(())
            }
            lost => {
                Err(format!("the stream has lost {lost} events of {aggregate}: once more").into())
            }
        }
    }

    async fn mark_sent(&self, ids: Vec<i64>) -> Result<(), DbErr> {
        if ids.is_empty() {
            return Ok(());
        }
        row::Entity::update_many()
            .col_expr(row::Column::SentAt, Expr::value(self.clock.now().micros()))
            .filter(row::Column::Id.is_in(ids))
            .exec(self.db.writer())
            .await
            .map(|_| ())
    }
}

/// Deletes what was sent long ago, oldest first, a batch at a time.
pub(crate) async fn prune(db: &Db, clock: &dyn Clock) -> Result<(), Failure> {
    let old = clock.now().minus(KEEP).micros();
    loop {
        let oldest = row::Entity::find()
            .select_only()
            .column(row::Column::Id)
            .order_by(row::Column::Id, Order::Asc)
            .limit(BATCH)
            .into_query();
        let pruned = row::Entity::delete_many()
            .filter(row::Column::Id.in_subquery(oldest))
            .filter(row::Column::SentAt.lt(old))
            .exec(db.writer())
            .await
            .map_err(failure)?;
        if pruned.rows_affected < BATCH {
            return Ok(());
        }
    }
}

/// The events of a context that were written last, newest first.
pub async fn list(db: &Db, unsent_only: bool, most: u64) -> Result<Vec<row::Model>, Failure> {
    let mut query = row::Entity::find().order_by(row::Column::Id, Order::Desc).limit(most);
    if unsent_only {
        query = query.filter(row::Column::SentAt.is_null());
    }
    query.all(db.reader()).await.map_err(failure)
}

/// How many events that happened since then have been sent.
pub async fn sent_since(db: &Db, since: Timestamp) -> Result<u64, Failure> {
    let sent = row::Entity::find()
        .filter(row::Column::SentAt.is_not_null())
        .filter(row::Column::Time.gte(since.micros()));
    sent.count(db.reader()).await.map_err(failure)
}

/// Lets the relay send all events again that happened since then; answers how many. Those that are
/// in the stream already stay there once.
pub async fn republish(db: &Db, since: Timestamp) -> Result<u64, Failure> {
    let again = row::Entity::update_many()
        .col_expr(row::Column::SentAt, Expr::value(Option::<i64>::None))
        .filter(row::Column::SentAt.is_not_null())
        .filter(row::Column::Time.gte(since.micros()))
        .exec(db.writer())
        .await;
    Ok(again.map_err(failure)?.rows_affected)
}

/// Splits a batch, in order, so that no part holds two events of one aggregate.
fn waves(batch: Vec<row::Model>) -> Vec<Vec<row::Model>> {
    let mut waves: Vec<Vec<row::Model>> = Vec::new();
    let mut present = HashSet::new();
    for event in batch {
        if waves.is_empty() || !present.insert(event.aggregate) {
            present = HashSet::from([event.aggregate]);
            waves.push(Vec::new());
        }
        if let Some(wave) = waves.last_mut() {
            wave.push(event);
        }
    }
    waves
}

/// Doubling pauses between attempts that fail, from 50 ms to 2 s.
#[derive(Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(50 << self.0.min(5));
        self.0 += 1;
        pause.min(Duration::from_secs(2))
    }
}

/// An error with all its sources, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: i64, aggregate: u128) -> row::Model {
        row::Model {
            id,
            event: Uuid::from_u128(id as u128),
            aggregate: Uuid::from_u128(aggregate),
            version: id,
            kind: "shop.order.v1.OrderPlaced".to_owned(),
            correlation: Uuid::nil(),
            causation: Uuid::nil(),
            trace: None,
            time: 0,
            payload: Vec::new(),
            sent_at: None,
        }
    }

    #[test]
    fn a_wave_never_holds_two_events_of_one_aggregate_and_keeps_the_order() {
        let batch = [(1, 7), (2, 8), (3, 7), (4, 9), (5, 9)].map(|(id, of)| event(id, of)).to_vec();
        let ids: Vec<Vec<i64>> =
            waves(batch).iter().map(|wave| wave.iter().map(|event| event.id).collect()).collect();
        assert_eq!(ids, [vec![1, 2], vec![3, 4], vec![5]]);
    }
}
