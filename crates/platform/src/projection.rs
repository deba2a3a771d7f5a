//! Events on their way in, for views.
//!
//! An ordered consumer reads the stream from behind the view's checkpoints, one for each shard;
//! replicas share the shards. Each batch is one transaction: a compare-and-set of the checkpoints
//! first (whoever finds another value is a zombie and rolls back), then the view's rows. Order and
//! single effect come by construction; a view is rebuilt by folding everything again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures::StreamExt;
use kernel::{Clock, Failure, Timestamp};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{Condition, ConnectionTrait, DatabaseTransaction, Set};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::broker::{Broker, BrokerError, Delivery};
use crate::consumer::{Stalled, parse};
use crate::db::{Db, failure};
use crate::lease::{RENEWAL, Shards};
use crate::metrics::{self, Reason};
use crate::outbox::{Backoff, chain};
use crate::parked::{self, BEHIND};
use crate::shutdown::Shutdown;
use crate::telemetry::Span;

/// The table of checkpoints.
pub mod checkpoint {
    use sea_orm::entity::prelude::*;

    /// How far one shard of a view has been folded.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "checkpoint")]
    pub struct Model {
        /// The view's name.
        #[sea_orm(primary_key, auto_increment = false)]
        pub consumer: String,
        /// Which part of the stream.
        #[sea_orm(primary_key, auto_increment = false)]
        pub shard: i32,
        /// The last place in the stream that the view contains.
        pub sequence: i64,
        /// When the view was last known to contain everything, microseconds.
        pub complete_at: i64,
        /// When the broker stored what is at that place, nanoseconds: a broker that has lost the end
        /// of the stream gives its places to other events.
        pub stored_at: i64,
    }

    /// No relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A view folded from events.
pub trait View: Send + Sync + 'static {
    /// Folds one batch, in order, within the checkpoint's transaction. `Rejected` and `Internal`
    /// name a batch that can never be folded; it is then folded event by event, and those that fail
    /// again are parked.
    fn fold(
        &self,
        tx: &DatabaseTransaction,
        batch: &[Delivery],
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Notes that in this shard the stream has lost all that came after this place, within the
    /// transaction in which its checkpoint goes back. What was there may come again, elsewhere.
    fn cut(
        &self,
        tx: &DatabaseTransaction,
        shard: i32,
        end: i64,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// How fresh a view is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsOf {
    /// The last place in the stream that the view contains, of each shard.
    pub sequences: BTreeMap<i32, i64>,
    /// The time up to which it is known to contain everything.
    pub complete_at: Timestamp,
}

impl AsOf {
    /// The place in the stream up to which the view contains everything.
    pub fn sequence(&self) -> i64 {
        self.sequences.values().min().copied().unwrap_or(0)
    }
}

/// Reads how fresh a view is, and waits for it to become fresher.
#[derive(Clone)]
pub struct Freshness {
    name: &'static str,
    db: Db,
    folded: watch::Receiver<i64>,
}

impl Freshness {
    /// How fresh the view is now.
    pub async fn as_of(&self) -> Result<AsOf, Failure> {
        let rows = checkpoint::Entity::find()
            .filter(checkpoint::Column::Consumer.eq(self.name))
            .all(self.db.reader())
            .await
            .map_err(failure)?;
        let complete_at = rows.iter().map(|row| row.complete_at).min().unwrap_or(0);
        Ok(AsOf {
            sequences: rows.into_iter().map(|row| (row.shard, row.sequence)).collect(),
            complete_at: Timestamp::from_micros(complete_at),
        })
    }

    /// Returns when the view has changed, or after a moment: another replica may be folding it.
    pub async fn changed(&mut self) {
        const POLL: Duration = Duration::from_millis(100);
        let folded = async {
            if self.folded.changed().await.is_err() {
                // The projection has ended: there is only the moment to wait for.
                std::future::pending::<()>().await;
            }
        };
        tokio::time::timeout(POLL, folded).await.ok();
    }
}

/// At most this many events in one transaction.
const BATCH: usize = 500;

/// Feeds a view.
pub struct Projection<V> {
    /// The view's name.
    pub name: &'static str,
    /// From where.
    pub broker: Broker,
    /// The view's database.
    pub db: Db,
    /// For the age of the view.
    pub clock: Arc<dyn Clock>,
    /// Who folds what.
    pub shards: Shards,
    /// How to fold.
    pub view: V,
    folded: watch::Sender<i64>,
}

impl<V: View> Projection<V> {
    /// A projection of all events into this view.
    pub fn new(
        name: &'static str,
        broker: Broker,
        db: Db,
        clock: Arc<dyn Clock>,
        shards: Shards,
        view: V,
    ) -> Self {
        Projection { name, broker, db, clock, shards, view, folded: watch::channel(0).0 }
    }

    /// For those who read the view.
    pub fn freshness(&self) -> Freshness {
        Freshness { name: self.name, db: self.db.clone(), folded: self.folded.subscribe() }
    }

    /// Runs until shutdown; begins anew after every failure.
    pub async fn run(self, tasks: Shutdown) {
        metrics::view_starts(self.name);
        let mut backoff = Backoff::default();
        while !tasks.is_triggered() {
            tokio::select! {
                () = tasks.cancelled() => break,
                outcome = self.follow() => match outcome {
                    Ok(()) => backoff = Backoff::default(),
                    Err(error) => {
                        tracing::warn!(view = self.name, error = %chain(&*error), "begins anew");
                        let stalled = error.downcast_ref::<Stalled>().is_some();
                        let reason = if stalled { Reason::Stalled } else { Reason::Failed };
                        metrics::rebuilt(self.name, reason);
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
            }
        }
        self.shards.leave().await.ok();
    }

    /// One session with the broker: until this replica's share of the shards changes, or until the
    /// connection is lost.
    async fn follow(&self) -> Result<(), BrokerError> {
        let mut share = self.shards.round().await?;
        // Nothing is in hand now.
        for shard in std::mem::take(&mut share.surplus) {
            self.shards.release(shard).await?;
            share.held.remove(&shard);
        }
        if share.held.is_empty() {
            tokio::time::sleep(RENEWAL).await;
            return Ok(());
        }
        let mut session = Session::open(self, share.held).await?;
        session.run().await
    }
}

/// A database that has vanished in the middle of a transaction must not stop the view for ever.
async fn in_time<T>(work: impl Future<Output = Result<T, BrokerError>>) -> Result<T, BrokerError> {
    tokio::time::timeout(Stalled::AFTER, work).await.unwrap_or_else(|_| Err(Stalled.into()))
}

/// A place in the stream, and when the broker stored what is there, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    sequence: i64,
    stored_at: i64,
}

impl Place {
    /// Moves on to a later place, exactly when [`Session::advance`] moves the row: a row that does not
    /// know the time of its place goes without until the next one.
    fn reach(&mut self, to: Place) {
        if to.sequence > self.sequence {
            *self = to;
        }
    }
}

/// The work on some shards.
struct Session<'a, V> {
    projection: &'a Projection<V>,
    stream: stream::Stream,
    /// The connection in which the stream was compared with the checkpoints.
    connection: u64,
    /// How far each shard has been folded.
    checkpoints: BTreeMap<u64, Place>,
    /// The histories in which something is parked.
    parked: HashSet<Uuid>,
}

impl<'a, V: View> Session<'a, V> {
    async fn open(
        projection: &'a Projection<V>,
        shards: BTreeSet<u64>,
    ) -> Result<Session<'a, V>, BrokerError> {
        let connection = projection.broker.connections();
        let stream = projection.broker.stream().await?;
        let mut checkpoints = checkpoints(projection).await?;
        checkpoints.retain(|shard, _| shards.contains(shard));
        go_back(projection, &stream, &mut checkpoints).await?;
        let parked = parked::histories(&projection.db).await?;
        Ok(Session { projection, stream, connection, checkpoints, parked })
    }

    async fn run(&mut self) -> Result<(), BrokerError> {
        let broker = &self.projection.broker;
        let from = self.checkpoints.values().map(|place| place.sequence).min().unwrap_or(0);
        let subjects = self.checkpoints.keys().map(|shard| broker.subjects_in(*shard));
        let config = pull::OrderedConfig {
            filter_subjects: subjects.collect(),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: u64::try_from(from)? + 1,
            },
            ..Default::default()
        };
        let consumer = self.stream.create_consumer(config).await?;
        let mut batches = consumer.messages().await?.ready_chunks(BATCH);
        let mut renewal = tokio::time::interval(RENEWAL);
        let mut last_news = Instant::now();
        loop {
            tokio::select! {
                _ = renewal.tick() => {
                    let share = self.projection.shards.round().await?;
                    if !share.surplus.is_empty()
                        || !share.held.iter().eq(self.checkpoints.keys())
                        || self.connection != broker.connections()
                    {
                        return Ok(());
                    }
                    in_time(self.retry_parked()).await?;
                    if last_news.elapsed() < RENEWAL {
                        continue;
                    }
                    if in_time(self.is_complete()).await? {
                        last_news = Instant::now();
                    } else if last_news.elapsed() > Stalled::AFTER {
                        return Err(Stalled.into());
                    }
                }
                // Otherwise the runtime ends a batch after a hundred or so messages.
                batch = tokio::task::unconstrained(batches.next()) => {
                    let batch = batch.ok_or("the broker closed")?;
                    last_news = Instant::now();
                    let messages = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
                    if self.connection != broker.connections() {
                        // The stream may be another one by now.
                        return Ok(());
                    }
                    in_time(self.take(&messages)).await?;
                }
            }
        }
    }

    /// Folds the next messages.
    async fn take(&mut self, messages: &[jetstream::Message]) -> Result<(), BrokerError> {
        let Some(last) = messages.last() else { return Ok(()) };
        let to = place(last.info()?)?;
        let complete = last.info()?.pending == 0;
        let (places, events): (Vec<Place>, Vec<Delivery>) =
            messages.iter().filter_map(|message| self.read(message)).unzip();
        let span = Span::fold(&self.projection.broker, self.projection.name, &events);
        let folded = self.fold(to, complete, &places, &events).await;
        if let (Some(mut span), Err(_)) = (span, &folded) {
            span.fail("retried");
        }
        folded?;
        metrics::folded(self.projection.name, events.len());
        self.projection.folded.send_replace(to.sequence);
        Ok(())
    }

    /// The event in a message and its place, unless its shard contains it already.
    fn read(&self, message: &jetstream::Message) -> Option<(Place, Delivery)> {
        let shard = self.projection.broker.shard_in(&message.subject)?;
        let folded = self.checkpoints.get(&shard)?.sequence;
        let place = place(message.info().ok()?).ok()?;
        match parse(message) {
            Ok(event) => (place.sequence > folded).then_some((place, event)),
            Err(error) => {
                let view = self.projection.name;
                tracing::error!(view, %error, subject = %message.subject, "no event");
                None
            }
        }
    }

    async fn fold(
        &mut self,
        to: Place,
        complete: bool,
        places: &[Place],
        events: &[Delivery],
    ) -> Result<(), BrokerError> {
        match self.fold_at_once(to, complete, events).await {
            Ok(()) => return Ok(()),
            Err(Failure::Unavailable(error)) => return Err(error),
            Err(_) => {}
        }
        // Something in the batch is poison: one by one, so that only the poison is put aside.
        for (to, event) in places.iter().copied().zip(events) {
            match self.fold_at_once(to, false, std::slice::from_ref(event)).await {
                Ok(()) => {}
                Err(Failure::Unavailable(error)) => return Err(error),
                Err(poison) => self.park(to, event, &chain(&poison)).await?,
            }
        }
        self.fold_at_once(to, complete, &[]).await.map_err(Into::into)
    }

    /// Folds events in one transaction; those behind a parked one are parked.
    async fn fold_at_once(
        &mut self,
        to: Place,
        complete: bool,
        events: &[Delivery],
    ) -> Result<(), Failure> {
        let tx = self.projection.db.begin().await.map_err(failure)?;
        self.advance(&tx, to, complete).await?;
        if self.parked.is_empty() {
            self.projection.view.fold(&tx, events).await?;
        } else {
            let behind = |event: &&Delivery| self.parked.contains(&event.aggregate);
            let now = self.projection.clock.now();
            for event in events.iter().filter(behind) {
                parked::insert(&tx, event, BEHIND, now).await.map_err(failure)?;
            }
            let free: Vec<Delivery> =
                events.iter().filter(|event| !behind(event)).cloned().collect();
            self.projection.view.fold(&tx, &free).await?;
        }
        tx.commit().await.map_err(failure)?;
        self.checkpoints.values_mut().for_each(|place| place.reach(to));
        Ok(())
    }

    async fn park(&mut self, to: Place, event: &Delivery, why: &str) -> Result<(), BrokerError> {
        let view = self.projection.name;
        tracing::error!(view, event = %event.id, kind = %event.kind, why, "parked");
        let tx = self.projection.db.begin().await?;
        self.advance(&tx, to, false).await?;
        parked::insert(&tx, event, why, self.projection.clock.now()).await?;
        tx.commit().await?;
        self.checkpoints.values_mut().for_each(|place| place.reach(to));
        self.parked.insert(event.aggregate);
        Ok(())
    }

    /// The compare-and-set that makes a zombie harmless.
    async fn advance(
        &self,
        db: &impl ConnectionTrait,
        to: Place,
        complete: bool,
    ) -> Result<(), Failure> {
        use checkpoint::Column;
        let mut unmoved = Condition::any();
        for (shard, place) in &self.checkpoints {
            let shard = i32::try_from(*shard).map_err(|error| Failure::Internal(error.into()))?;
            let here = Condition::all()
                .add(Column::Shard.eq(shard))
                .add(Column::Sequence.eq(place.sequence))
                .add(Column::StoredAt.eq(place.stored_at));
            unmoved = unmoved.add(here);
        }
        // A shard that was ahead of the others stays where it is.
        let newer = |value: i64, column: Column| {
            Expr::case(Column::Sequence.lt(to.sequence), value).finally(Expr::col(column))
        };
        let mut update = checkpoint::Entity::update_many()
            .col_expr(Column::Sequence, newer(to.sequence, Column::Sequence).into())
            .col_expr(Column::StoredAt, newer(to.stored_at, Column::StoredAt).into())
            .filter(Column::Consumer.eq(self.projection.name))
            .filter(unmoved);
        if complete {
            let now = self.projection.clock.now().micros();
            update = update.col_expr(Column::CompleteAt, Expr::value(now));
        }
        let moved = update.exec(db).await.map_err(failure)?.rows_affected;
        if moved == self.checkpoints.len() as u64 {
            return Ok(());
        }
        Err(Failure::Unavailable("another replica has moved the checkpoints".into()))
    }

    /// Whether everything in the stream is in the view; notes it, for nothing to fold is news, too.
    async fn is_complete(&mut self) -> Result<bool, BrokerError> {
        let state = self.stream.get_info().await?.state;
        let end = Place {
            sequence: i64::try_from(state.last_sequence)?,
            // An empty stream says the year 1, which is none.
            stored_at: i64::try_from(state.last_timestamp.unix_timestamp_nanos()).unwrap_or(0),
        };
        for (shard, folded) in &self.checkpoints {
            let subjects = self.projection.broker.subjects_in(*shard);
            if folded.sequence < end.sequence
                && folded.sequence < last_on(&self.stream, &subjects).await?
            {
                return Ok(false);
            }
        }
        if self.connection != self.projection.broker.connections() {
            // It may be another stream by now, with something new where the folded one ended.
            return Ok(false);
        }
        self.fold_at_once(end, true, &[]).await?;
        self.projection.folded.send_replace(end.sequence);
        Ok(true)
    }

    /// Folds parked events again that an operator has asked for, and those behind them.
    async fn retry_parked(&mut self) -> Result<(), BrokerError> {
        let Projection { db, broker, name, .. } = self.projection;
        self.parked = parked::histories(db).await?;
        let mut progress = !self.parked.is_empty();
        let begun = Instant::now();
        while std::mem::take(&mut progress) && begun.elapsed() < RENEWAL {
            for parked in parked::due(db).await? {
                let event = parked.delivery()?;
                if !self.checkpoints.contains_key(&broker.shard_of(event.correlation)) {
                    continue;
                }
                progress = true;
                let tx = db.begin().await?;
                // The view may be another replica's by now.
                self.advance(&tx, Place::default(), false).await?;
                match self.projection.view.fold(&tx, std::slice::from_ref(&event)).await {
                    Ok(()) => {
                        parked::applied(&tx, event.id).await?;
                        tx.commit().await?;
                        tracing::info!(view = name, event = %event.id, "folded after all");
                    }
                    Err(Failure::Unavailable(error)) => return Err(error),
                    Err(poison) => {
                        tx.rollback().await?;
                        parked::failed_again(db, event.id, &chain(&poison)).await?;
                    }
                }
            }
        }
        self.parked = parked::histories(db).await?;
        Ok(())
    }
}

/// The place in the stream of the last event on these subjects, 0 when there is none.
async fn last_on(stream: &stream::Stream, subjects: &str) -> Result<i64, BrokerError> {
    match stream.get_last_raw_message_by_subject(subjects).await {
        Ok(message) => Ok(i64::try_from(message.sequence)?),
        Err(error) if error.kind() == stream::LastRawMessageErrorKind::NoMessageFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Where a message is.
fn place(info: jetstream::message::Info<'_>) -> Result<Place, BrokerError> {
    Ok(Place {
        sequence: i64::try_from(info.stream_sequence)?,
        stored_at: i64::try_from(info.published.unix_timestamp_nanos())?,
    })
}

/// The checkpoints of all shards.
async fn checkpoints<V>(projection: &Projection<V>) -> Result<BTreeMap<u64, Place>, BrokerError> {
    use checkpoint::{ActiveModel, Column, Entity};
    let Projection { name, db, broker, .. } = projection;
    let fresh = (0..i32::try_from(broker.shards())?).map(|shard| ActiveModel {
        consumer: Set((*name).to_owned()),
        shard: Set(shard),
        sequence: Set(0),
        complete_at: Set(0),
        stored_at: Set(0),
    });
    Entity::insert_many(fresh)
        .on_conflict(OnConflict::columns([Column::Consumer, Column::Shard]).do_nothing().to_owned())
        .exec_without_returning(db.writer())
        .await?;
    let rows = Entity::find().filter(Column::Consumer.eq(*name)).all(db.writer()).await?;
    let place = |row: checkpoint::Model| {
        let place = Place { sequence: row.sequence, stored_at: row.stored_at };
        Ok((u64::try_from(row.shard)?, place))
    };
    rows.into_iter().map(place).collect()
}

/// Goes back where the stream is not the one any more that was folded: its broker has lost the end,
/// or all of it, and what came afterwards stands in the places of what was lost. All that was stored
/// later than the checkpoint is folded then; what the view contains it ignores.
async fn go_back<V: View>(
    projection: &Projection<V>,
    stream: &stream::Stream,
    checkpoints: &mut BTreeMap<u64, Place>,
) -> Result<(), BrokerError> {
    use checkpoint::{Column, Entity};
    for (shard, place) in checkpoints {
        if holds(stream, place.sequence, place.stored_at).await? {
            continue;
        }
        let before = first_after(stream, place.stored_at).await? - 1;
        let back = Place {
            sequence: before,
            stored_at: stored_at(stream, before).await?.unwrap_or_default(),
        };
        let (view, from, to) = (projection.name, place.sequence, back.sequence);
        tracing::warn!(view, shard, from, to, "the stream has lost its end: folding again");
        let number = i32::try_from(*shard)?;
        let tx = projection.db.begin().await?;
        let moved = Entity::update_many()
            .col_expr(Column::Sequence, Expr::value(back.sequence))
            .col_expr(Column::StoredAt, Expr::value(back.stored_at))
            .filter(Column::Consumer.eq(projection.name))
            .filter(Column::Shard.eq(number))
            .filter(Column::Sequence.eq(place.sequence))
            .filter(Column::StoredAt.eq(place.stored_at))
            .exec(&tx)
            .await?;
        if moved.rows_affected != 1 {
            return Err("another replica has moved the checkpoints".into());
        }
        projection.view.cut(&tx, number, back.sequence).await?;
        tx.commit().await?;
        *place = back;
    }
    Ok(())
}

/// Whether the stream still is the one in which this was stored at this place at this time; a time
/// of 0 is not known.
pub(crate) async fn holds(
    stream: &stream::Stream,
    sequence: i64,
    time: i64,
) -> Result<bool, BrokerError> {
    match stored_at(stream, sequence).await? {
        Some(stored_at) => Ok(time == stored_at || time == 0),
        // Deleted by somebody, or beyond the end.
        None => {
            let end = stream.get_info().await?.state.last_sequence;
            Ok(u64::try_from(sequence)? <= end)
        }
    }
}

/// When the message at this place was stored, nanoseconds; nothing when there is none.
async fn stored_at(stream: &stream::Stream, sequence: i64) -> Result<Option<i64>, BrokerError> {
    if sequence == 0 {
        return Ok(None);
    }
    match stream.get_raw_message(u64::try_from(sequence)?).await {
        Ok(message) => Ok(Some(i64::try_from(message.time.unix_timestamp_nanos())?)),
        Err(error) if error.kind() == stream::RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The place of the first message that was stored after this time, or the one that is next.
async fn first_after(stream: &stream::Stream, time: i64) -> Result<i64, BrokerError> {
    let start_time = DateTime::from_unix_timestamp_nanos(i128::from(time) + 1)?;
    let config = pull::OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let next = i64::try_from(stream.get_info().await?.state.last_sequence)? + 1;
    if consumer.cached_info().num_pending == 0 {
        return Ok(next);
    }
    let first = consumer.messages().await?.next().await.ok_or("the broker closed")??;
    Ok(i64::try_from(first.info()?.stream_sequence)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_moves_a_checkpoint_when_the_database_does() {
        let place = |sequence, stored_at| Place { sequence, stored_at };
        for (at, to, then) in [
            (place(7, 70), place(8, 80), place(8, 80)),
            (place(7, 70), place(6, 90), place(7, 70)),
            // From before the column of times.
            (place(7, 0), place(7, 70), place(7, 0)),
            (place(7, 0), place(8, 80), place(8, 80)),
        ] {
            let mut reached = at;
            reached.reach(to);
            assert_eq!(reached, then, "from {at:?} to {to:?}");
        }
    }
}
