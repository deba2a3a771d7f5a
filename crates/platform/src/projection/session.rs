//! One session of a view with the broker: batches in, checkpoints on, in one transaction each.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::Future;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures::StreamExt;
use kernel::Failure;
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, ConnectionTrait};
use tokio::time::Instant;

use super::place::{Place, checkpoints, go_back, last_on};
use super::{Projection, View, checkpoint};
use crate::broker::{BrokerError, Delivery};
use crate::consumer::{Stalled, parse};
use crate::db::failure;
use crate::lease::RENEWAL;
use crate::metrics;
use crate::outbox::chain;
use crate::parked::{self, BEHIND};
use crate::telemetry::Span;

/// At most this many events in one transaction.
const BATCH: usize = 500;

/// The work on some shards.
pub(super) struct Session<'a, V> {
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
    /// Begins where the view is, or where the stream was cut.
    pub(super) async fn open(
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

    /// Folds until this replica's share of the shards changes, or the connection is lost.
    pub(super) async fn run(&mut self) -> Result<(), BrokerError> {
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
        let to = Place::of(&last.info()?)?;
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
        let place = Place::of(&message.info().ok()?).ok()?;
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

/// A database that has vanished in the middle of a transaction must not stop the view for ever.
async fn in_time<T>(work: impl Future<Output = Result<T, BrokerError>>) -> Result<T, BrokerError> {
    tokio::time::timeout(Stalled::AFTER, work).await.unwrap_or_else(|_| Err(Stalled.into()))
}
