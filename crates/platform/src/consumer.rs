//! Events on their way in, for policies with an effect.
//!
//! A durable pull consumer with explicit acknowledgements; one replica at a time, by lease. Lanes
//! keep what belongs together in order and let the rest flow. The cause of the effect is the event,
//! written in the effect's own transaction, so a repetition changes nothing. The *hold rule* keeps
//! the order of each aggregate's history even when the broker delivers out of order after a
//! fail-over: what is older than the known version is ignored, the next one is applied, a later one
//! is held until the gap has closed. What can never be applied is parked, together with what
//! follows it in the same history.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, AckKind};
use futures::TryStreamExt;
use kernel::{Clock, Failure, Uuid};
use sea_orm::QuerySelect;
use sea_orm::entity::prelude::*;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::broker::{Broker, BrokerError, Delivery};
use crate::db::{Db, failure};
use crate::lease::{Lease, RENEWAL};
use crate::outbox::{Backoff, chain};
use crate::shutdown::Shutdown;
use crate::store::{known, note_known};
use crate::telemetry;

/// The table of events that could not be applied.
pub mod parked {
    use kernel::Timestamp;
    use sea_orm::entity::prelude::*;
    use sea_orm::sea_query::OnConflict;
    use sea_orm::{ConnectionTrait, Set};

    use crate::broker::Delivery;

    /// One event that waits for an operator.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "parked_event")]
    pub struct Model {
        /// The event's id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub event: Uuid,
        /// What it happened to.
        pub aggregate: Uuid,
        /// Its number there.
        pub version: i64,
        /// The full protobuf name of the payload.
        pub kind: String,
        /// Its place in the stream.
        pub sequence: i64,
        /// Why it could not be applied.
        pub reason: String,
        /// The protobuf message.
        pub payload: Vec<u8>,
        /// When it was parked, microseconds.
        pub time: i64,
    }

    /// No relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}

    /// Puts an event aside; once is enough.
    pub(crate) async fn insert(
        db: &impl ConnectionTrait,
        event: &Delivery,
        why: &str,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let row = ActiveModel {
            event: Set(event.id),
            aggregate: Set(event.aggregate),
            version: Set(event.version),
            kind: Set(event.kind.clone()),
            sequence: Set(i64::try_from(event.sequence).unwrap_or(i64::MAX)),
            reason: Set(why.to_owned()),
            payload: Set(event.payload.to_vec()),
            time: Set(now.micros()),
        };
        Entity::insert(row)
            .on_conflict(OnConflict::column(Column::Event).do_nothing().to_owned())
            .exec_without_returning(db)
            .await
            .map(|_| ())
    }
}

/// What a context does when it hears of an event: its `policies.rs`.
pub trait Policies: Send + Sync + 'static {
    /// Applies one event. `Rejected` and `Internal` are deterministic and park the event,
    /// `Unavailable` is tried again. An event the context does not care about is `Ok`.
    fn apply(&self, event: &Delivery) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Where a consumer keeps what it knows and what it has parked.
pub trait Inbox: Send + Sync + 'static {
    /// A session begins: what an earlier one believed may no longer be so.
    fn begin(&self) {}
    /// How the event stands to what is known of its aggregate.
    fn order(&self, event: &Delivery) -> impl Future<Output = Result<InOrder, Failure>> + Send;
    /// Remembers that the event has been applied.
    fn applied(&self, event: &Delivery) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Puts the event aside.
    fn park(&self, event: &Delivery, why: &str)
    -> impl Future<Output = Result<(), Failure>> + Send;
    /// Whether this replica is the one to consume.
    fn lead(&self) -> impl Future<Output = Result<bool, Failure>> + Send;
    /// Lets another replica take over at once.
    fn hand_over(&self) -> impl Future<Output = ()> + Send;
}

/// How an event stands to what is known of its aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InOrder {
    /// Applied before.
    Known,
    /// The next one.
    Next,
    /// There is a gap before it.
    Early,
    /// An earlier event of the same aggregate is parked.
    BehindParked,
}

/// The hold rule.
pub fn hold(known: i64, version: i64) -> InOrder {
    match version - known {
        ..=0 => InOrder::Known,
        1 => InOrder::Next,
        2.. => InOrder::Early,
    }
}

/// What this process knows of the histories of aggregates, as it is on record: saves asking the
/// database for every event. Only the replica that consumes may believe it.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<HashMap<Uuid, i64>>>);

impl Known {
    /// Beyond this many aggregates it starts anew.
    const MOST: usize = 100_000;

    /// That this history has been applied so far is on record.
    pub(crate) fn note(&self, aggregate: Uuid, version: i64) {
        let mut known = self.lock();
        if known.len() >= Self::MOST {
            known.clear();
        }
        let at = known.entry(aggregate).or_default();
        *at = version.max(*at);
    }

    fn of(&self, aggregate: Uuid) -> Option<i64> {
        self.lock().get(&aggregate).copied()
    }

    fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The inbox of a context with a relational database.
pub struct SqlInbox {
    db: Db,
    clock: Arc<dyn Clock>,
    lease: Lease,
    known: Known,
    notes: mpsc::Sender<Note>,
}

/// That an event without an effect has been seen, and who waits until that is on record.
struct Note {
    aggregate: Uuid,
    version: i64,
    written: oneshot::Sender<()>,
}

/// Writes notes as they come; those that come during one write share the next.
async fn write_notes(db: Db, mut notes: mpsc::Receiver<Note>) {
    let mut batch = Vec::new();
    while notes.recv_many(&mut batch, 500).await > 0 {
        let mut histories = HashMap::new();
        for note in &batch {
            let version = histories.entry(note.aggregate).or_insert(note.version);
            *version = note.version.max(*version);
        }
        match note_known(db.writer(), histories).await {
            Ok(()) => {
                for note in batch.drain(..) {
                    // Whoever has gone meanwhile finds it on record.
                    note.written.send(()).ok();
                }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "what was seen is not on record yet");
                // Whoever waits learns it from the silence, and comes again.
                batch.clear();
            }
        }
    }
}

impl SqlInbox {
    /// The inbox in this database; `lease` says which replica consumes.
    pub fn start(
        db: Db,
        clock: Arc<dyn Clock>,
        lease: Lease,
        known: Known,
        tasks: &Shutdown,
    ) -> SqlInbox {
        let (notes, queue) = mpsc::channel(500);
        tasks.spawn("inbox", write_notes(db.clone(), queue));
        SqlInbox { db, clock, lease, known, notes }
    }

    async fn on_record(&self, aggregate: Uuid) -> Result<i64, Failure> {
        let known: Option<i64> = known::Entity::find_by_id(aggregate)
            .select_only()
            .column(known::Column::Version)
            .into_tuple()
            .one(self.db.reader())
            .await
            .map_err(failure)?;
        Ok(known.unwrap_or(0))
    }
}

impl Inbox for SqlInbox {
    fn begin(&self) {
        // Another replica may have gone on with the histories meanwhile.
        self.known.forget();
    }

    async fn order(&self, event: &Delivery) -> Result<InOrder, Failure> {
        // Nothing is parked of a history that this process has applied itself; but another replica
        // may have gone on with it meanwhile.
        let believed = self.known.of(event.aggregate).map(|known| hold(known, event.version));
        if let Some(order @ (InOrder::Known | InOrder::Next)) = believed {
            return Ok(order);
        }
        let order = hold(self.on_record(event.aggregate).await?, event.version);
        if order == InOrder::Known {
            return Ok(order);
        }
        let parked = parked::Entity::find()
            .filter(parked::Column::Aggregate.eq(event.aggregate))
            .limit(1)
            .one(self.db.reader())
            .await
            .map_err(failure)?;
        Ok(if parked.is_some() { InOrder::BehindParked } else { order })
    }

    async fn applied(&self, event: &Delivery) -> Result<(), Failure> {
        // An effect has put it on record in its own transaction.
        if self.known.of(event.aggregate).is_some_and(|known| known >= event.version) {
            return Ok(());
        }
        let (written, answer) = oneshot::channel();
        let note = Note { aggregate: event.aggregate, version: event.version, written };
        self.notes.send(note).await.map_err(|error| Failure::Unavailable(error.into()))?;
        answer.await.map_err(|error| Failure::Unavailable(error.into()))?;
        self.known.note(event.aggregate, event.version);
        Ok(())
    }

    async fn park(&self, event: &Delivery, why: &str) -> Result<(), Failure> {
        let now = self.clock.now();
        parked::insert(self.db.writer(), event, why, now).await.map_err(failure)?;
        // From now on the record has to be asked.
        self.known.lock().remove(&event.aggregate);
        Ok(())
    }

    async fn lead(&self) -> Result<bool, Failure> {
        self.lease.hold().await.map_err(failure)
    }

    async fn hand_over(&self) {
        self.lease.release().await.ok();
    }
}

/// How many histories are worked on at once.
const LANES: usize = 64;
/// How long the broker waits for an acknowledgement before it delivers again.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// How long an event with a gap before it stays with the broker.
const HOLD: Duration = Duration::from_millis(200);

/// Feeds a context's policies.
pub struct Consumer<P, I> {
    /// The durable consumer's name on the broker: the context's.
    pub name: &'static str,
    /// Which contexts it listens to.
    pub listens_to: &'static [&'static str],
    /// From where.
    pub broker: Broker,
    /// What to do.
    pub policies: P,
    /// What is known.
    pub inbox: I,
}

impl<P: Policies, I: Inbox> Consumer<P, I> {
    /// Runs until shutdown; rebuilds itself after every failure.
    pub async fn run(self, tasks: Shutdown) {
        let this = Arc::new(self);
        let mut backoff = Backoff::default();
        while !tasks.is_triggered() {
            let session = async {
                if this.inbox.lead().await? {
                    this.consume().await
                } else {
                    tokio::time::sleep(RENEWAL).await;
                    Ok(())
                }
            };
            tokio::select! {
                () = tasks.cancelled() => break,
                outcome = session => match outcome {
                    Ok(()) => backoff = Backoff::default(),
                    Err(error) => {
                        tracing::warn!(consumer = this.name, error = %chain(&*error), "rebuilding");
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
            }
        }
        this.inbox.hand_over().await;
    }

    /// One session with the broker: until leadership or the connection is lost.
    async fn consume(self: &Arc<Self>) -> Result<(), BrokerError> {
        self.inbox.begin();
        let stream = self.broker.stream().await?;
        let config = pull::Config {
            durable_name: Some(self.name.to_owned()),
            filter_subjects: self.listens_to.iter().map(|c| self.broker.subjects_of(c)).collect(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            deliver_policy: DeliverPolicy::All,
            max_ack_pending: 1_000,
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let mut messages = consumer
            .stream()
            .max_messages_per_batch(200)
            .heartbeat(Duration::from_secs(5))
            .messages()
            .await?;
        // Dropped, and with them all work in hand, when the session ends.
        let (lanes, _work) = self.lanes();
        let mut renewal = tokio::time::interval(RENEWAL);
        loop {
            tokio::select! {
                _ = renewal.tick() => if !self.inbox.lead().await? { return Ok(()) },
                message = messages.try_next() => {
                    let Some(message) = message? else { return Err("the broker closed".into()) };
                    let lane = lane_of(&message);
                    if lanes[lane].send(message).await.is_err() {
                        return Err("a lane has ended".into());
                    }
                }
            }
        }
    }

    /// Starts the lanes of one session.
    fn lanes(self: &Arc<Self>) -> (Vec<mpsc::Sender<jetstream::Message>>, JoinSet<()>) {
        let mut work = JoinSet::new();
        let lane = |_| {
            let (sender, mut messages) = mpsc::channel::<jetstream::Message>(64);
            let this = self.clone();
            work.spawn(async move {
                while let Some(message) = messages.recv().await {
                    this.handle(message).await;
                }
            });
            sender
        };
        ((0..LANES).map(lane).collect(), work)
    }

    /// Brings one message to its end, however long its database or its neighbours are away.
    async fn handle(&self, message: jetstream::Message) {
        let mut backoff = Backoff::default();
        loop {
            match self.attempt(&message).await {
                Ok(ack) => {
                    // A lost acknowledgement means another delivery of what is known by then.
                    message.ack_with(ack).await.ok();
                    return;
                }
                Err(error) => {
                    tracing::warn!(consumer = self.name, error = %chain(&error), "trying again");
                    message.ack_with(AckKind::Progress).await.ok();
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    async fn attempt(&self, message: &jetstream::Message) -> Result<AckKind, Failure> {
        let event = match parse(message) {
            Ok(event) => event,
            Err(error) => {
                // Not one of ours: there is nothing to park it under.
                tracing::error!(consumer = self.name, %error, subject = %message.subject, "no event");
                return Ok(AckKind::Term);
            }
        };
        match self.inbox.order(&event).await? {
            InOrder::Known => return Ok(AckKind::Ack),
            InOrder::Early => return Ok(AckKind::Nak(Some(HOLD))),
            InOrder::BehindParked => {
                self.inbox.park(&event, "an earlier event of the same aggregate is parked").await?;
                return Ok(AckKind::Ack);
            }
            InOrder::Next => {}
        }
        let effect = self.policies.apply(&event);
        match telemetry::in_trace(event.trace.as_deref(), effect).await {
            Ok(()) => self.inbox.applied(&event).await?,
            Err(failure @ Failure::Unavailable(_)) => return Err(failure),
            Err(failure) => {
                let why = chain(&failure);
                tracing::error!(consumer = self.name, event = %event.id, kind = %event.kind, why, "parked");
                self.inbox.park(&event, &why).await?;
            }
        }
        Ok(AckKind::Ack)
    }
}

/// Reads a message of the stream.
pub(crate) fn parse(message: &jetstream::Message) -> Result<Delivery, BrokerError> {
    let headers = message.headers.as_ref().ok_or("no headers")?;
    let sequence = message.info()?.stream_sequence;
    Delivery::parse(headers, message.payload.clone(), sequence)
}

/// What belongs together goes through one lane.
fn lane_of(message: &jetstream::Message) -> usize {
    let correlation = message.headers.as_ref().and_then(|headers| headers.get("correlation-id"));
    let id = correlation.and_then(|id| Uuid::try_parse(id.as_str()).ok()).unwrap_or_default();
    (id.as_u128() % LANES as u128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hold_rule() {
        let table = [(0, 1, InOrder::Next), (3, 4, InOrder::Next), (3, 3, InOrder::Known)];
        for (known, version, order) in table {
            assert_eq!(hold(known, version), order);
        }
        assert_eq!(hold(3, 1), InOrder::Known);
        assert_eq!(hold(3, 5), InOrder::Early);
        assert_eq!(hold(0, 2), InOrder::Early);
    }
}
