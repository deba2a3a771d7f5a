//! All events up to where the live view stands, folded into the scratch.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use kernel::{Failure, Timestamp, Uuid};
use sea_orm::entity::prelude::*;
use sea_orm::{DatabaseTransaction, QuerySelect};

use super::source::Events;
use super::{Rebuild, RebuildError, Rebuildable};
use crate::broker::{BrokerError, Delivery};
use crate::db::Db;
use crate::outbox::chain;
use crate::parked;
use crate::projection::{checkpoint, holds};

/// Where a view stands.
pub(super) struct Place {
    /// The last place in the stream that each shard contains.
    shards: BTreeMap<u64, i64>,
    /// When the broker stored what is there.
    stored_at: BTreeSet<(i64, i64)>,
    /// The events it has put aside.
    parked: HashSet<Uuid>,
}

impl Place {
    /// Where this view stands, as this connection sees it. The places are read first: what is parked
    /// after that is behind them.
    pub(super) async fn of(view: &str, db: &impl ConnectionTrait) -> Result<Place, RebuildError> {
        let rows = checkpoint::Entity::find()
            .filter(checkpoint::Column::Consumer.eq(view))
            .all(db)
            .await?;
        let parked: Vec<Uuid> = parked::Entity::find()
            .select_only()
            .column(parked::Column::Event)
            .into_tuple()
            .all(db)
            .await?;
        let shard = |row: &checkpoint::Model| Some((u64::try_from(row.shard).ok()?, row.sequence));
        Ok(Place {
            shards: rows.iter().filter_map(shard).collect(),
            stored_at: rows.iter().map(|row| (row.sequence, row.stored_at)).collect(),
            parked: parked.into_iter().collect(),
        })
    }

    /// How many events it has put aside.
    pub(super) fn parked(&self) -> u64 {
        self.parked.len() as u64
    }
}

/// What has been folded so far.
pub(super) struct Fold<'a, V> {
    rebuild: &'a Rebuild<'a, V>,
    scratch: &'a Db,
    stream: Stream,
    shards: BTreeMap<u64, i64>,
    left_out: HashSet<Uuid>,
    count: Count,
    oldest: Option<Timestamp>,
}

/// How much there was of what.
#[derive(Clone, Copy, Default)]
pub(super) struct Count {
    /// Events folded.
    pub(super) events: u64,
    /// Events that this version cannot fold.
    pub(super) unfoldable: u64,
    /// Gaps in histories.
    pub(super) gaps: u64,
}

impl<'a, V: Rebuildable> Fold<'a, V> {
    /// Nothing yet.
    pub(super) async fn begin(
        rebuild: &'a Rebuild<'a, V>,
        scratch: &'a Db,
    ) -> Result<Fold<'a, V>, RebuildError> {
        Ok(Fold {
            rebuild,
            scratch,
            stream: rebuild.broker.stream().await.map_err(RebuildError::Broker)?,
            shards: BTreeMap::new(),
            left_out: HashSet::new(),
            count: Count::default(),
            oldest: None,
        })
    }

    pub(super) fn count(&self) -> Count {
        self.count
    }

    /// Whether the stream may know nothing of rows that once had events: its oldest were deleted, or
    /// it was made long after they had happened, in the place of one that was lost.
    pub(super) fn has_lost_its_beginning(&self) -> bool {
        const LONG: Duration = Duration::from_secs(60 * 60);
        let made = made(&self.stream);
        self.stream.cached_info().state.first_sequence > 1
            || self.oldest.is_some_and(|oldest| oldest.plus(LONG).micros() < made)
    }

    /// Folds on, up to this place; shows each event, and answers how many there were.
    pub(super) async fn catch_up(
        &mut self,
        place: &Place,
        mut seen: impl FnMut(&Delivery),
    ) -> Result<u64, RebuildError> {
        self.check(place).await?;
        let before = self.count.events;
        for (shard, to) in &place.shards {
            self.fold_shard(*shard, *to, place, &mut seen).await?;
        }
        Ok(self.count.events - before)
    }

    /// Refuses when what comes out would not be the view as it should be at this place.
    async fn check(&self, place: &Place) -> Result<(), RebuildError> {
        for (sequence, stored_at) in &place.stored_at {
            if !holds(&self.stream, *sequence, *stored_at).await.map_err(away)? {
                return refuse(
                    "the stream is not the one that the live view was made from, or has lost its \
                     end: a view made from it would lack events",
                );
            }
        }
        let behind = |(shard, at): (&u64, &i64)| place.shards.get(shard).is_none_or(|to| to < at);
        if self.shards.iter().any(behind) || !self.left_out.is_subset(&place.parked) {
            return refuse(
                "the live view has begun anew, or a parked event was tried again, meanwhile: \
                 do the same once more",
            );
        }
        Ok(())
    }

    async fn fold_shard(
        &mut self,
        shard: u64,
        to: i64,
        place: &Place,
        seen: &mut impl FnMut(&Delivery),
    ) -> Result<(), RebuildError> {
        let from = self.shards.get(&shard).copied().unwrap_or(0);
        if from < to {
            let broker = self.rebuild.broker;
            let events = Events::between(broker, &self.stream, shard, from, to).await;
            let mut events = events.map_err(away)?;
            let mut histories = Histories::default();
            while let Some(mut batch) = events.next().await.map_err(away)? {
                batch.iter().for_each(&mut *seen);
                self.oldest = batch.iter().map(|event| event.time).chain(self.oldest).min();
                if from == 0 {
                    self.count.gaps += histories.gaps(&batch);
                }
                let parked = batch.extract_if(.., |event| place.parked.contains(&event.id));
                self.left_out.extend(parked.map(|event| event.id));
                self.fold(&batch).await?;
            }
        }
        self.shards.insert(shard, to);
        Ok(())
    }

    /// Folds a batch, one by one when something in it cannot be folded.
    async fn fold(&mut self, batch: &[Delivery]) -> Result<(), RebuildError> {
        self.count.events += batch.len() as u64;
        if self.attempt(batch).await?.is_ok() {
            return Ok(());
        }
        for event in batch {
            if let Err(why) = self.attempt(std::slice::from_ref(event)).await? {
                let now = self.rebuild.clock.now();
                parked::insert(self.scratch.writer(), event, &why, now).await?;
                self.count.unfoldable += 1;
            }
        }
        Ok(())
    }

    /// Folds some events at once; the inner error says why they cannot be folded.
    async fn attempt(&self, events: &[Delivery]) -> Result<Result<(), String>, RebuildError> {
        let tx = self.scratch.begin().await?;
        match self.rebuild.view.fold(&tx, events).await {
            Ok(()) => {
                tx.commit().await?;
                Ok(Ok(()))
            }
            Err(failure @ Failure::Unavailable(_)) => Err(failure.into()),
            Err(poison) => {
                tx.rollback().await?;
                Ok(Err(chain(&poison)))
            }
        }
    }

    /// Parks in the live view what cannot be folded any more and was a part of these rows: it waits
    /// for an operator then, and has not just gone.
    pub(super) async fn park(
        &self,
        tx: &DatabaseTransaction,
        rows: &BTreeSet<Uuid>,
    ) -> Result<(), RebuildError> {
        for unfoldable in parked::list(self.scratch).await? {
            let event = unfoldable.delivery().map_err(Failure::Internal)?;
            if rows.contains(&V::row(&event)) {
                let now = self.rebuild.clock.now();
                parked::insert(tx, &event, &unfoldable.reason, now).await?;
            }
        }
        Ok(())
    }
}

/// The last version of each history, as the events come.
#[derive(Default)]
struct Histories(HashMap<Uuid, i64>);

impl Histories {
    /// How many times a version is missing before one of these.
    fn gaps(&mut self, events: &[Delivery]) -> u64 {
        let mut gaps = 0;
        for event in events {
            let last = self.0.entry(event.aggregate).or_default();
            gaps += u64::from(event.version > *last + 1);
            *last = event.version.max(*last);
        }
        gaps
    }
}

/// When the stream was made, microseconds.
fn made(stream: &Stream) -> i64 {
    let nanos = stream.cached_info().created.unix_timestamp_nanos();
    i64::try_from(nanos / 1_000).unwrap_or_default()
}

fn away(error: BrokerError) -> RebuildError {
    RebuildError::Broker(error)
}

fn refuse(why: impl Into<String>) -> Result<(), RebuildError> {
    Err(RebuildError::Refused(why.into()))
}
