//! Many commands, one transaction.
//!
//! Commands queue up while a transaction is under way, and all that wait share the next one: one
//! statement for their rows, one for their events, one for their causes, one commit. Nobody waits
//! for company, and whoever is alone is committed alone. When the transaction of many fails for a
//! reason that one of them may have brought along, each gets a transaction of its own, and decides
//! anew.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Cause, Clock, Failure, Recorded, Rejection, Role, Uuid};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{InsertStatement, OnConflict};
use sea_orm::{
    DatabaseTransaction, DbBackend, ExprTrait, Iterable, Order, QueryOrder, QuerySelect,
};
use sea_orm::{IdenStatic, Set, TryIntoModel};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{Persist, cause, note_known};
use crate::consumer::Known;
use crate::db::{Db, WriteError, failure, id_is, internal};
use crate::metrics;
use crate::outbox::{self, Pokes, chain};
use crate::shutdown::Shutdown;

/// At most this many commands share a transaction.
const BATCH: usize = 64;

/// How long commands are taken after the process was asked to stop, if anybody is there to give any.
const LAST_COMMANDS: Duration = Duration::from_secs(3);
/// How long a transaction may take: a database that has fallen silent must not stop everybody for
/// ever. Longer than SQLite waits for its lock.
const PATIENCE: Duration = Duration::from_secs(6);

/// What is to be decided about an aggregate on record. It may be asked more than once.
pub(super) type Decision<A> = Box<
    dyn Fn(&mut Recorded<A>) -> Result<Vec<<A as kernel::Aggregate>::Event>, Rejection>
        + Send
        + Sync,
>;

/// What a command wants.
pub(super) enum Wish<A: Persist> {
    /// A new aggregate, and what happened with it.
    Create(A, Vec<A::Event>),
    /// A decision of this one.
    Change(Uuid, Decision<A>),
}

/// A command that waits for its transaction.
pub(super) struct Command<A: Persist> {
    pub(super) cause: Cause,
    pub(super) wish: Wish<A>,
    pub(super) reply: oneshot::Sender<Result<Recorded<A>, Failure>>,
}

/// Commits the commands of one context.
pub(super) struct Writer<A: Persist> {
    pub(super) db: Db,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pokes: Pokes,
    pub(super) known: Known,
    pub(super) changes: broadcast::Sender<Recorded<A>>,
}

/// What became of one command: the aggregate as it is then, and whether it has changed.
type Decided<A> = Result<(Recorded<A>, bool), Rejection>;

impl<A: Persist> Writer<A> {
    /// Runs until shutdown.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Command<A>>, tasks: Shutdown) {
        let mut batch = Vec::new();
        // What others have begun may still have to be put on record.
        let end = async {
            tasks.cancelled().await;
            tokio::time::sleep(LAST_COMMANDS).await;
        };
        tokio::pin!(end);
        loop {
            if batch.is_empty() {
                tokio::select! {
                    biased;
                    count = queue.recv_many(&mut batch, BATCH) => if count == 0 { return },
                    () = &mut end => return,
                }
            }
            // Nobody waits any longer for some of them; what has not begun need not begin.
            batch.retain(|command| !command.reply.is_closed());
            let later = batch.split_off(distinct(&batch));
            if let Err(why) = self.commit(std::mem::replace(&mut batch, later)).await {
                // Who has come meanwhile would wait as long for the same answer.
                while let Ok(command) = queue.try_recv() {
                    batch.push(command);
                }
                refuse(batch.drain(..), &why);
            }
        }
    }

    /// Commits a batch and answers everybody in it; an error is why the database is away.
    async fn commit(&self, batch: Vec<Command<A>>) -> Result<(), String> {
        match self.transact(&batch).await {
            Ok(decided) => self.answer(batch, decided),
            Err(WriteError::Away(failure)) => {
                self.db.refused();
                let why = chain(&failure);
                refuse(batch, &why);
                return Err(why);
            }
            Err(WriteError::Failed(failure @ Failure::Unavailable(_))) => {
                self.db.refused();
                refuse(batch, &chain(&failure));
            }
            Err(error) if batch.len() == 1 => {
                for command in batch {
                    let outcome = match &error {
                        WriteError::Unique(words) => {
                            self.after_conflict(&command.cause, words).await
                        }
                        WriteError::Overtaken => {
                            Err(Failure::Unavailable("another replica was first".into()))
                        }
                        WriteError::Away(failure) | WriteError::Failed(failure) => {
                            Err(Failure::Internal(chain(failure).into()))
                        }
                    };
                    command.reply.send(outcome).ok();
                }
            }
            Err(_) => {
                let mut alone = batch.into_iter();
                while let Some(command) = alone.next() {
                    if let Err(why) = Box::pin(self.commit(vec![command])).await {
                        refuse(alone, &why);
                        return Err(why);
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells everybody what is committed now.
    fn answer(&self, batch: Vec<Command<A>>, decided: Vec<Decided<A>>) {
        for (command, decided) in batch.into_iter().zip(decided) {
            if let (Ok(_), Some(origin)) = (&decided, command.cause.origin) {
                self.known.note(origin.aggregate, origin.version);
            }
            if let Ok((recorded, true)) = &decided {
                self.pokes.committed(recorded.id());
                // Nobody watching is fine.
                self.changes.send(recorded.clone()).ok();
            }
            let outcome = decided.map(|(recorded, _)| recorded).map_err(Failure::from);
            command.reply.send(outcome).ok();
        }
    }

    async fn transact(&self, batch: &[Command<A>]) -> Result<Vec<Decided<A>>, WriteError> {
        let silent = || WriteError::Away(Failure::Unavailable("the database is silent".into()));
        let outcome = tokio::time::timeout(PATIENCE, self.within_one(batch)).await;
        outcome.unwrap_or_else(|_| Err(silent()))
    }

    /// Loads, decides, writes, commits.
    async fn within_one(&self, batch: &[Command<A>]) -> Result<Vec<Decided<A>>, WriteError> {
        let tx = self.db.begin().await.map_err(WriteError::at_the_begin)?;
        let mut desk = Desk::new(&*self.clock);
        let new: Vec<&A> = batch.iter().filter_map(Command::created).collect();
        if !new.is_empty() {
            desk.obstacles = A::obstacle(&tx, &new).await?;
        }
        let wanted: BTreeSet<Uuid> = batch.iter().filter_map(Command::target).collect();
        let recalls = !wanted.is_empty() || !desk.obstacles.is_empty();
        if !wanted.is_empty() {
            desk.lock(&tx, self.db.backend(), wanted).await?;
        }
        // Who has been answered before gets that answer, obstacle or not.
        if recalls {
            desk.recall(&tx, batch).await?;
        }
        let decided = batch.iter().map(|command| desk.take(command)).collect::<Result<_, _>>()?;
        let kinds = std::mem::take(&mut desk.kinds);
        desk.write(&tx).await?;
        tx.commit().await?;
        kinds.into_iter().for_each(metrics::committed);
        Ok(decided)
    }

    /// The aggregate on record after a cause whose effect ran into a unique constraint: its own
    /// cause (it was here before) or a rule of the domain.
    async fn after_conflict(&self, cause: &Cause, words: &str) -> Result<Recorded<A>, Failure> {
        let key = (cause.id, super::actor_key(&cause.actor));
        let spent = cause::Entity::find_by_id(key).one(self.db.writer()).await.map_err(failure)?;
        let Some(spent) = spent else {
            return Err(match A::conflict(words) {
                Some(rejection) => rejection.into(),
                None => Failure::Internal(words.into()),
            });
        };
        if spent.fingerprint != cause.fingerprint {
            return Err(reused(cause).into());
        }
        if let Some(answer) = &spent.answer {
            return kept_answer::<A>(answer);
        }
        let found = A::Entity::find().filter(id_is(spent.aggregate)).one(self.db.writer()).await;
        let row = found.map_err(failure)?.ok_or_else(|| A::not_found(spent.aggregate))?;
        A::from_row(row).map_err(internal)
    }
}

/// Tells everybody that nothing can be put on record now.
fn refuse<A: Persist>(commands: impl IntoIterator<Item = Command<A>>, why: &str) {
    for command in commands {
        command.reply.send(Err(Failure::Unavailable(why.into()))).ok();
    }
}

/// How many commands from the first on are about an aggregate each. Only the last state of a row is
/// written: two steps of one aggregate in a transaction would hide from the database's constraints
/// what was between them.
fn distinct<A: Persist>(batch: &[Command<A>]) -> usize {
    let mut seen = HashSet::new();
    let mut aggregates = batch.iter().map(|command| match &command.wish {
        Wish::Create(aggregate, _) => aggregate.id(),
        Wish::Change(id, _) => *id,
    });
    aggregates.position(|id| !seen.insert(id)).unwrap_or(batch.len())
}

impl<A: Persist> Command<A> {
    /// What it creates.
    fn created(&self) -> Option<&A> {
        match &self.wish {
            Wish::Create(aggregate, _) => Some(aggregate),
            Wish::Change(..) => None,
        }
    }

    /// Which aggregate on record it is about.
    fn target(&self) -> Option<Uuid> {
        match self.wish {
            Wish::Create(..) => None,
            Wish::Change(id, _) => Some(id),
        }
    }
}

/// What a cause has brought about before.
struct Spent {
    fingerprint: String,
    aggregate: Uuid,
    answer: Option<String>,
}

/// An aggregate after a decision: what happened to it, and whether anything has changed.
struct After<A: Persist> {
    recorded: Recorded<A>,
    events: Vec<A::Event>,
    changed: bool,
}

/// The aggregates and causes of one transaction, and what is to be written at its end.
struct Desk<'a, A: Persist> {
    clock: &'a dyn Clock,
    /// Which new aggregates may not be created, and why.
    obstacles: HashMap<Uuid, Rejection>,
    at_hand: HashMap<Uuid, Recorded<A>>,
    spent: HashMap<(Uuid, String), Spent>,
    /// In the order of their changes: what one gives up, the next may take.
    changed: Vec<Uuid>,
    events: Vec<outbox::row::ActiveModel>,
    /// The names of these events.
    kinds: Vec<&'static str>,
    beside: Vec<InsertStatement>,
    /// Sorted, as what is known: replicas that write the same rows do so in the same order.
    causes: BTreeMap<(Uuid, String), cause::ActiveModel>,
    known: BTreeMap<Uuid, i64>,
}

impl<'a, A: Persist> Desk<'a, A> {
    fn new(clock: &'a dyn Clock) -> Desk<'a, A> {
        Desk {
            clock,
            obstacles: HashMap::new(),
            at_hand: HashMap::new(),
            spent: HashMap::new(),
            changed: Vec::new(),
            events: Vec::new(),
            kinds: Vec::new(),
            beside: Vec::new(),
            causes: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    /// Locks the aggregates that the commands are about, in the order of their ids.
    async fn lock(
        &mut self,
        tx: &DatabaseTransaction,
        backend: DbBackend,
        wanted: BTreeSet<Uuid>,
    ) -> Result<(), WriteError> {
        let mut query = A::Entity::find()
            .filter(Expr::col("id").is_in(wanted))
            .order_by(Expr::col("id"), Order::Asc);
        if backend == DbBackend::Postgres {
            query = query.lock_exclusive();
        }
        for row in query.all(tx).await? {
            let recorded = A::from_row(row).map_err(|error| WriteError::Failed(internal(error)))?;
            self.at_hand.insert(recorded.id(), recorded);
        }
        Ok(())
    }

    /// Finds the causes that have had their effect; under the locks, so that none is missed.
    async fn recall(
        &mut self,
        tx: &DatabaseTransaction,
        batch: &[Command<A>],
    ) -> Result<(), WriteError> {
        let causes = batch.iter().map(|command| command.cause.id);
        let spent = cause::Entity::find().filter(cause::Column::Id.is_in(causes)).all(tx).await?;
        let spent = spent.into_iter().map(|row| {
            let cause::Model { id, actor, fingerprint, aggregate, answer, .. } = row;
            ((id, actor), Spent { fingerprint, aggregate, answer })
        });
        self.spent = spent.collect();
        Ok(())
    }

    /// Lets one command decide.
    fn take(&mut self, command: &Command<A>) -> Result<Decided<A>, WriteError> {
        let Command { cause, wish, .. } = command;
        let key = (cause.id, super::actor_key(&cause.actor));
        if let Some(spent) = self.spent.get(&key) {
            if spent.fingerprint != cause.fingerprint {
                return Ok(Err(reused(cause)));
            }
            if let Some(answer) = &spent.answer {
                let kept = kept_answer(answer).map_err(WriteError::Failed)?;
                return Ok(Ok((kept, false)));
            }
            // What it has changed may not be at hand: then it is found after the conflict.
            let present = self.at_hand.get(&spent.aggregate).cloned();
            let present = present.ok_or_else(|| WriteError::Unique("cause".to_owned()))?;
            return Ok(Ok((present, false)));
        }
        let After { recorded, events, changed } = match self.decide(cause, wish) {
            Ok(after) => after,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let id = recorded.id();
        let publications: Vec<_> =
            events.iter().map(|event| A::publication(&recorded, event)).collect();
        self.kinds.extend(publications.iter().map(|it| it.kind));
        self.beside.extend(events.iter().filter_map(|event| A::beside(&recorded, event)));
        let first = recorded.version - events.len() as i64 + 1;
        self.events.extend(outbox::rows(self.clock, cause, id, first, publications.into_iter()));
        // A policy repeats only because it does not know; a client wants the answer it has missed.
        let answer = (cause.actor.role != Role::Service).then(|| keep_answer(&recorded));
        let answer = answer.transpose().map_err(WriteError::Failed)?;
        let fingerprint = cause.fingerprint.clone();
        let row = cause::ActiveModel {
            id: Set(cause.id),
            actor: Set(key.1.clone()),
            fingerprint: Set(fingerprint.clone()),
            aggregate: Set(id),
            answer: Set(answer.clone()),
            time: Set(self.clock.now().micros()),
        };
        self.causes.insert(key.clone(), row);
        if let Some(origin) = cause.origin {
            let known = self.known.entry(origin.aggregate).or_default();
            *known = Ord::max(origin.version, *known);
        }
        self.spent.insert(key, Spent { fingerprint, aggregate: id, answer });
        if changed {
            self.changed.push(id);
        }
        self.at_hand.insert(id, recorded.clone());
        Ok(Ok((recorded, changed)))
    }

    /// The decision itself.
    fn decide(&self, cause: &Cause, wish: &Wish<A>) -> Result<After<A>, Rejection> {
        let now = self.clock.now();
        match wish {
            Wish::Create(aggregate, events) => {
                if let Some(obstacle) = self.obstacles.get(&aggregate.id()) {
                    return Err(obstacle.clone());
                }
                let recorded = Recorded {
                    aggregate: aggregate.clone(),
                    revision: 1,
                    version: events.len() as i64,
                    create_time: now,
                    update_time: now,
                };
                Ok(After { recorded, events: events.clone(), changed: true })
            }
            Wish::Change(id, decision) => {
                let before = self.at_hand.get(id).filter(|it| it.open_to(&cause.actor));
                let before = before.ok_or_else(|| A::not_found(*id))?;
                let mut after = before.clone();
                let events = decision(&mut after)?;
                let changed = !events.is_empty() || after.aggregate != before.aggregate;
                if changed {
                    after.revision += 1;
                    after.version += events.len() as i64;
                    after.update_time = now;
                }
                Ok(After { recorded: after, events, changed })
            }
        }
    }

    /// Writes, in this order: the rows, their events, what stands beside them, the causes, what is
    /// known of neighbours.
    async fn write(self, tx: &DatabaseTransaction) -> Result<(), WriteError> {
        let rows = self.changed.iter().filter_map(|id| self.at_hand.get(id)).map(A::to_row);
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            let count = rows.len() as u64;
            let columns = <A::Entity as EntityTrait>::Column::iter();
            let newer = Expr::col((A::Entity::default(), "revision"))
                .lt(Expr::col(("excluded", "revision")));
            let upsert = OnConflict::column("id")
                .update_columns(columns.filter(|column| column.as_str() != "id"))
                .action_and_where(newer)
                .to_owned();
            let written = A::Entity::insert_many(rows).on_conflict(upsert);
            if written.exec_without_returning(tx).await? != count {
                return Err(WriteError::Failed(Failure::Unavailable("a row has changed".into())));
            }
        }
        if !self.events.is_empty() {
            outbox::row::Entity::insert_many(self.events).exec_without_returning(tx).await?;
        }
        for rows in &self.beside {
            tx.execute(rows).await?;
        }
        if !self.causes.is_empty() {
            cause::Entity::insert_many(self.causes.into_values())
                .exec_without_returning(tx)
                .await?;
        }
        if !self.known.is_empty() {
            note_known(tx, self.known).await?;
        }
        Ok(())
    }
}

/// The answer to a command, as it is kept for whoever repeats it.
fn keep_answer<A: Persist>(recorded: &Recorded<A>) -> Result<String, Failure> {
    let row = A::to_row(recorded).try_into_model().map_err(internal)?;
    serde_json::to_string(&row).map_err(internal)
}

fn kept_answer<A: Persist>(answer: &str) -> Result<Recorded<A>, Failure> {
    A::from_row(serde_json::from_str(answer).map_err(internal)?).map_err(internal)
}

fn reused(cause: &Cause) -> Rejection {
    let message = format!("request id {} was used for another request", cause.id);
    Rejection::already_exists("REQUEST_ID_REUSED", message)
}
