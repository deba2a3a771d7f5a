//! Aggregates on record: the one adapter behind [`kernel::Repository`], on Postgres and SQLite.
//!
//! A change is part of one transaction, in this order: the row (a compare-and-set on its revision,
//! under a row lock), the outbox, what stands beside it, the cause. Whoever repeats a cause finds it
//! here with its answer; whoever crashes in between leaves nothing. Commands that wait at the same
//! time are committed together: see [`writer`].

mod writer;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kernel::{
    Actor, Aggregate, Cause, Clock, Failure, Location, Page, PageRequest, Place, Recorded,
    Rejection, Repository, Uuid,
};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{InsertStatement, OnConflict};
use sea_orm::{
    Condition, ConnectionTrait, DatabaseTransaction, ExprTrait, IntoActiveModel, Order, QueryOrder,
    QuerySelect, Set, TryIntoModel,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, mpsc, oneshot};

use self::writer::{Command, Wish, Writer};
use crate::consumer::Known;
use crate::db::{Db, failure, id_is, internal};
use crate::outbox::{Pokes, Publication};
use crate::page;
use crate::shutdown::Shutdown;
use crate::telemetry::Span;

/// The table of causes that have had their effect.
pub mod cause {
    use sea_orm::entity::prelude::*;

    /// One cause and what it changed.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "cause")]
    pub struct Model {
        /// The request id or the event id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// Whose it is.
        #[sea_orm(primary_key, auto_increment = false)]
        pub actor: String,
        /// A digest of what was asked.
        pub fingerprint: String,
        /// What it changed.
        pub aggregate: Uuid,
        /// For a client's command, its answer: the row as it was then, as JSON.
        pub answer: Option<String>,
        /// When, microseconds.
        pub time: i64,
    }

    /// No relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// How far a context knows the history of each aggregate it hears of.
pub mod known {
    use sea_orm::entity::prelude::*;

    /// The last event applied of one aggregate.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "known")]
    pub struct Model {
        /// What the events happened to.
        #[sea_orm(primary_key, auto_increment = false)]
        pub aggregate: Uuid,
        /// The number of the last one applied.
        pub version: i64,
    }

    /// No relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Remembers how far the histories of these aggregates have been applied, each named once. What is
/// known already is never forgotten.
pub(crate) async fn note_known(
    db: &impl ConnectionTrait,
    histories: impl IntoIterator<Item = (Uuid, i64)>,
) -> Result<(), DbErr> {
    let rows = histories.into_iter().map(|(aggregate, version)| known::ActiveModel {
        aggregate: Set(aggregate),
        version: Set(version),
    });
    let newer = Expr::col((known::Entity, known::Column::Version))
        .lt(Expr::col(("excluded", known::Column::Version)));
    known::Entity::insert_many(rows)
        .on_conflict(
            OnConflict::column(known::Column::Aggregate)
                .update_column(known::Column::Version)
                .action_and_where(newer)
                .to_owned(),
        )
        .exec_without_returning(db)
        .await
        .map(drop)
}

/// How an aggregate is kept in its table, which has the columns `id` and `revision`.
pub trait Persist: Aggregate {
    /// Its table.
    type Entity: EntityTrait<
            Model: IntoActiveModel<<Self::Entity as EntityTrait>::ActiveModel>
                       + Serialize
                       + DeserializeOwned
                       + Send
                       + Sync,
            ActiveModel: TryIntoModel<<Self::Entity as EntityTrait>::Model> + Send,
        >;

    /// Reads a row; an error is corrupt data.
    fn from_row(row: <Self::Entity as EntityTrait>::Model) -> Result<Recorded<Self>, CorruptRow>;
    /// Writes a row: every column is set.
    fn to_row(recorded: &Recorded<Self>) -> <Self::Entity as EntityTrait>::ActiveModel;
    /// Which rows an actor may see.
    fn visible_to(actor: &Actor) -> Condition;
    /// Whether an actor's commands may address it; the decision itself may still say no.
    fn open_to(&self, actor: &Actor) -> bool;
    /// Which rows a filter asks for.
    fn matching(filter: &Self::Filter) -> Condition;
    /// That there is none by this id which the actor may see.
    fn not_found(id: Uuid) -> Rejection;
    /// What a violated unique constraint means, by the database's words for it.
    fn conflict(constraint: &str) -> Option<Rejection>;
    /// The wire's words for an event.
    fn publication(recorded: &Recorded<Self>, event: &Self::Event) -> Publication;
    /// What else is put on record when this has happened: new rows, in the same transaction.
    fn beside(_recorded: &Recorded<Self>, _event: &Self::Event) -> Option<InsertStatement> {
        None
    }

    /// Which of these new aggregates may not be created, and why, by what else this database knows.
    /// Asked once for all of a transaction, within it, whenever there are new ones.
    fn obstacle(
        _db: &DatabaseTransaction,
        _new: &[&Self],
    ) -> impl Future<Output = Result<HashMap<Uuid, Rejection>, DbErr>> + Send {
        std::future::ready(Ok(HashMap::new()))
    }
}

/// A row that no version of this program can have written.
#[derive(Debug, thiserror::Error)]
#[error("corrupt row: {0}")]
pub struct CorruptRow(pub String);

/// How many commands may wait for their transaction; more wait before the queue.
const QUEUE: usize = 1024;

/// Aggregates of one kind in a context's database.
pub struct Store<A: Persist> {
    db: Db,
    pokes: Pokes,
    queue: mpsc::Sender<Command<A>>,
    changes: broadcast::Sender<Recorded<A>>,
}

impl<A: Persist> Clone for Store<A> {
    fn clone(&self) -> Self {
        Store {
            db: self.db.clone(),
            pokes: self.pokes.clone(),
            queue: self.queue.clone(),
            changes: self.changes.clone(),
        }
    }
}

impl<A: Persist> Store<A> {
    /// The aggregates in this database, and the task that commits their changes; `pokes` hears of
    /// every commit, `known` of every event that has had its effect.
    pub fn start(
        db: Db,
        clock: Arc<dyn Clock>,
        pokes: Pokes,
        known: Known,
        tasks: &Shutdown,
    ) -> Store<A> {
        let (queue, commands) = mpsc::channel(QUEUE);
        let changes = broadcast::channel(4096).0;
        let writer =
            Writer { db: db.clone(), clock, pokes: pokes.clone(), known, changes: changes.clone() };
        tasks.spawn("writer", writer.run(commands, tasks.clone()));
        Store { db, pokes, queue, changes }
    }

    /// Every change as it is committed, here or in another replica. A slow reader misses some.
    pub fn changes(&self) -> impl Stream<Item = Recorded<A>> + Send + use<A> {
        self.changes_of(None)
    }

    /// Every change of this aggregate, or of all.
    fn changes_of(&self, only: Option<Uuid>) -> impl Stream<Item = Recorded<A>> + Send + use<A> {
        let wanted = move |id: Uuid| only.is_none_or(|only| only == id);
        let elsewhere = self.pokes.elsewhere();
        let store = self.clone();
        let remote = tokio_stream::wrappers::BroadcastStream::new(elsewhere);
        let remote = remote.filter_map(move |id| {
            let store = store.clone();
            async move {
                let id = id.ok().filter(|id| wanted(*id))?;
                store.find(store.db.reader(), id_is(id).into()).await.ok()?
            }
        });
        let local = tokio_stream::wrappers::BroadcastStream::new(self.changes.subscribe())
            .filter_map(move |change| {
                let change = change.ok().filter(|change: &Recorded<A>| wanted(change.id()));
                std::future::ready(change)
            });
        futures::stream::select(local, remote)
    }

    /// Follows one aggregate that this actor may see, from after this revision on (0: from the
    /// present state on).
    pub fn watch(&self, actor: &Actor, id: Uuid, after: i64) -> Watch<A> {
        let changes = self.changes_of(Some(id)).boxed();
        Watch { store: self.clone(), actor: actor.clone(), id, changes, after, started: false }
    }

    async fn find(
        &self,
        db: &impl ConnectionTrait,
        condition: Condition,
    ) -> Result<Option<Recorded<A>>, Failure> {
        let row = A::Entity::find().filter(condition).one(db).await.map_err(failure)?;
        row.map(A::from_row).transpose().map_err(internal)
    }

    /// Queues a command and waits for what becomes of it.
    async fn submit(&self, cause: &Cause, wish: Wish<A>) -> Result<Recorded<A>, Failure> {
        let _span = Span::commit(self.db.backend(), A::Entity::default().table_name());
        let (reply, outcome) = oneshot::channel();
        let command = Command { cause: cause.clone(), wish, reply };
        let gone = || Failure::Unavailable("the store has stopped".into());
        self.queue.send(command).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}

impl<A: Persist> Repository<A> for Store<A> {
    async fn create(
        &self,
        cause: &Cause,
        aggregate: A,
        events: Vec<A::Event>,
    ) -> Result<Recorded<A>, Failure> {
        self.submit(cause, Wish::Create(aggregate, events)).await
    }

    async fn change(
        &self,
        cause: &Cause,
        id: Uuid,
        decision: impl Fn(&mut Recorded<A>) -> Result<Vec<A::Event>, Rejection> + Send + Sync + 'static,
    ) -> Result<Recorded<A>, Failure> {
        self.submit(cause, Wish::Change(id, Box::new(decision))).await
    }

    async fn get(&self, actor: &Actor, id: Uuid) -> Result<Recorded<A>, Failure> {
        let condition = Condition::all().add(A::visible_to(actor)).add(id_is(id));
        let found = self.find(self.db.reader(), condition).await?;
        found.ok_or_else(|| A::not_found(id).into())
    }

    async fn list(
        &self,
        actor: &Actor,
        filter: &A::Filter,
        page: &PageRequest,
    ) -> Result<Page<Recorded<A>>, Failure> {
        let mut query = A::Entity::find().filter(A::visible_to(actor)).filter(A::matching(filter));
        if let Some(after) = page.after {
            query = query.filter(Expr::col("id").lt(after));
        }
        // One more than asked for tells whether there is another page.
        let rows = query
            .order_by(Expr::col("id"), Order::Desc)
            .limit(page.size + 1)
            .all(self.db.reader())
            .await
            .map_err(failure)?;
        let more = rows.len() as u64 > page.size;
        let items = rows
            .into_iter()
            .take(page.size as usize)
            .map(A::from_row)
            .collect::<Result<Vec<_>, _>>()
            .map_err(internal)?;
        let next = items.last().filter(|_| more).map(|last| last.id());
        Ok(Page { items, next })
    }
}

/// Follows one aggregate: the present state first, then each change.
pub struct Watch<A: Persist> {
    store: Store<A>,
    actor: Actor,
    id: Uuid,
    changes: BoxStream<'static, Recorded<A>>,
    after: i64,
    started: bool,
}

impl<A: Persist> Watch<A> {
    /// How often a watch looks by itself, as the net below lost pokes.
    const POLL: Duration = Duration::from_secs(1);

    /// Waits for the next state.
    pub async fn next(&mut self) -> Result<Recorded<A>, Failure> {
        loop {
            let change = if self.started {
                tokio::time::timeout(Self::POLL, self.changes.next()).await.ok().flatten()
            } else {
                self.started = true;
                None
            };
            let state = match change {
                Some(change) => change,
                None => self.store.get(&self.actor, self.id).await?,
            };
            if state.revision > self.after {
                self.after = state.revision;
                return Ok(state);
            }
        }
    }
}

/// The token with which a watch of this resource goes on after this revision.
pub fn resume_token(name: &str, revision: i64) -> String {
    page::encode_token(name, &revision.to_string())
}

/// The revision after which a watch of this resource goes on; 0 from the present state on.
pub fn resumed_after(name: &str, token: &str) -> Result<i64, Rejection> {
    match page::resume_payload(name, token)? {
        None => Ok(0),
        Some(revision) => revision.parse().map_err(|_| page::invalid_resume_token()),
    }
}

/// A place as three columns: address, latitude, longitude.
pub struct PlaceColumns(pub Option<String>, pub Option<f64>, pub Option<f64>);

impl PlaceColumns {
    /// The columns of a place.
    pub fn of(place: Option<&Place>) -> PlaceColumns {
        let location = place.and_then(Place::location);
        PlaceColumns(
            place.map(|place| place.address().to_owned()),
            location.map(Location::latitude),
            location.map(Location::longitude),
        )
    }

    /// The place in the columns.
    pub fn place(self) -> Result<Option<Place>, CorruptRow> {
        let PlaceColumns(Some(address), latitude, longitude) = self else { return Ok(None) };
        let location =
            latitude.zip(longitude).map(|(north, east)| Location::parse("", north, east));
        let place = location.transpose().and_then(|at| Place::parse("", &address, at));
        place.map(Some).map_err(|no| CorruptRow(no.to_string()))
    }
}

fn actor_key(actor: &Actor) -> String {
    format!("{}:{}", actor.role.as_str(), actor.subject)
}
