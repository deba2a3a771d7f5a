//! The inbox of a context with a relational database: what is known of each history, what is parked,
//! which shards are this replica's.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernel::{Clock, Failure, Uuid};
use sea_orm::QuerySelect;
use sea_orm::entity::prelude::*;
use tokio::sync::{mpsc, oneshot};

use super::{InOrder, Inbox, Part, Parts, hold};
use crate::broker::Delivery;
use crate::db::{Db, failure};
use crate::lease::Shards;
use crate::outbox::chain;
use crate::parked;
use crate::shutdown::Shutdown;
use crate::store::{known, note_known};

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
    shards: Shards,
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
    /// The inbox in this database; `shards` says which replica consumes what.
    pub fn start(
        db: Db,
        clock: Arc<dyn Clock>,
        shards: Shards,
        known: Known,
        tasks: &Shutdown,
    ) -> SqlInbox {
        let (notes, queue) = mpsc::channel(500);
        tasks.spawn("inbox", write_notes(db.clone(), queue));
        SqlInbox { db, clock, shards, known, notes }
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
    async fn parts(&self) -> Result<Parts, Failure> {
        let share = self.shards.round().await.map_err(failure)?;
        let parts = |shards: BTreeSet<u64>| shards.into_iter().map(Part::Shard).collect();
        Ok(Parts { own: parts(share.held), surplus: parts(share.surplus) })
    }

    async fn release(&self, part: Part) {
        if let Some(shard) = part.shard() {
            // A database that is away lets the term end.
            self.shards.release(shard).await.ok();
        }
    }

    async fn leave(&self) {
        self.shards.leave().await.ok();
    }

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
        let parked = parked::is_in_history_of(&self.db, event.aggregate).await.map_err(failure)?;
        Ok(if parked { InOrder::BehindParked } else { order })
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

    async fn due(&self) -> Result<Vec<Delivery>, Failure> {
        let mut due = Vec::new();
        for parked in parked::due(&self.db).await.map_err(failure)? {
            match hold(self.on_record(parked.aggregate).await?, parked.version) {
                InOrder::Next => due.push(parked.delivery().map_err(Failure::Internal)?),
                // The end of an earlier try that was interrupted.
                InOrder::Known => {
                    parked::applied(self.db.writer(), parked.event).await.map_err(failure)?;
                }
                // What is between has not arrived yet.
                InOrder::Early | InOrder::BehindParked => {}
            }
        }
        Ok(due)
    }

    async fn tried_again(
        &self,
        event: &Delivery,
        outcome: Result<(), String>,
    ) -> Result<(), Failure> {
        match outcome {
            Ok(()) => parked::applied(self.db.writer(), event.id).await.map_err(failure),
            Err(why) => parked::failed_again(&self.db, event.id, &why).await.map_err(failure),
        }
    }
}
