//! What the composition root hands to a context, and the tables every context's database has.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Failure, Uuid};
use sea_orm_migration::prelude::*;

use crate::broker::Broker;
use crate::consumer::{Consumer, Known, Policies, SqlInbox};
use crate::db::{Db, failure, uuid_type};
use crate::lease::{Lease, Shards};
use crate::outbox::{self, Pokes, Relay, chain};
use crate::server::Faults;
use crate::shutdown::Shutdown;
use crate::store::{Persist, Store};

/// How often events that were sent long ago are deleted.
const PRUNE_PERIOD: Duration = Duration::from_secs(60);

/// One context's share of the house: its database, the broker, time, and where to run its tasks.
#[derive(Clone)]
pub struct Context {
    /// The context's name, the third word of its subjects.
    pub name: &'static str,
    /// Its own database; nobody else reads it.
    pub db: Db,
    /// Where events go and come from.
    pub broker: Broker,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where its tasks run, and how they learn that they must end.
    pub tasks: Shutdown,
    instance: Uuid,
    known: Known,
    faults: Faults,
}

impl Context {
    /// A context's share.
    pub fn new(
        name: &'static str,
        db: Db,
        broker: Broker,
        clock: Arc<dyn Clock>,
        tasks: Shutdown,
    ) -> Context {
        let instance = clock.new_id();
        let (known, faults) = (Known::default(), Faults::default());
        Context { name, db, broker, clock, tasks, instance, known, faults }
    }

    /// Lets it misbehave at the word of whoever keeps a clone of this handle: for development. While
    /// it is down on purpose it does nothing on its own account.
    pub fn with_faults(self, faults: Faults) -> Context {
        Context { faults, ..self }
    }

    /// Opens the store of the context's aggregates and starts the relay of its outbox.
    pub fn store<A: Persist>(&self) -> Store<A> {
        let pokes = Pokes::start(self.name, &self.broker, self.instance, &self.tasks);
        let relay = Relay::new(
            self.name,
            self.db.clone(),
            self.broker.clone(),
            pokes.clone(),
            self.clock.clone(),
            self.lease("relay"),
        );
        self.tasks.spawn("relay", relay.run(self.tasks.clone()));
        let (db, clock) = (self.db.clone(), self.clock.clone());
        self.every(PRUNE_PERIOD, "prune", move || {
            let (db, clock) = (db.clone(), clock.clone());
            async move { outbox::prune(&db, &*clock).await }
        });
        let (clock, known) = (self.clock.clone(), self.known.clone());
        Store::start(self.db.clone(), clock, pokes, known, &self.tasks)
    }

    /// Starts to feed the context's policies with the events of these contexts.
    pub fn consume(&self, listens_to: &'static [&'static str], policies: impl Policies) {
        let inbox = SqlInbox::start(
            self.db.clone(),
            self.clock.clone(),
            self.shards("consumer"),
            self.known.clone(),
            &self.tasks,
        );
        let consumer =
            Consumer { name: self.name, listens_to, broker: self.broker.clone(), policies, inbox };
        self.tasks.spawn("consumer", consumer.run(self.tasks.clone()));
    }

    /// Does something again and again, in one replica at a time.
    pub fn every<J>(
        &self,
        period: Duration,
        what: &'static str,
        job: impl Fn() -> J + Send + 'static,
    ) where
        J: Future<Output = Result<(), Failure>> + Send,
    {
        let (lease, tasks) = (self.lease(what), self.tasks.clone());
        let faults = self.faults.clone();
        self.tasks.spawn(what, async move {
            let mut tick = tokio::time::interval(period);
            while !tasks.is_triggered() {
                tokio::select! {
                    () = tasks.cancelled() => break,
                    _ = tick.tick() => {}
                }
                if faults.is_down() {
                    continue;
                }
                let outcome = match lease.hold().await.map_err(failure) {
                    Ok(true) => job().await,
                    Ok(false) => Ok(()),
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = outcome {
                    tracing::warn!(task = what, error = %chain(&failure), "next time");
                }
            }
            lease.release().await.ok();
        });
    }

    /// The wish for a fair share of the stream's shards, for some kind of work.
    pub fn shards(&self, what: &str) -> Shards {
        let name = format!("{}.{what}", self.name);
        Shards::new(self.db.clone(), name, self.instance, self.broker.shards())
    }

    /// The wish to be the only replica that does something.
    pub fn lease(&self, what: &str) -> Lease {
        Lease::new(self.db.clone(), format!("{}.{what}", self.name), self.instance)
    }
}

/// The migrations of this crate's tables, the first of every context.
pub fn house_migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(HouseTables), Box::new(ParkedHeaders)]
}

struct HouseTables;

impl MigrationName for HouseTables {
    fn name(&self) -> &str {
        "m0001_house_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for HouseTables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let uuid = uuid_type(manager);
        let (bytes, serial) = match manager.get_database_backend() {
            sea_orm::DbBackend::Sqlite => ("blob", "integer PRIMARY KEY AUTOINCREMENT"),
            _ => ("bytea", "bigserial PRIMARY KEY"),
        };
        db.execute_unprepared(&format!(
            "CREATE TABLE outbox (
                id {serial}, event {uuid} NOT NULL, aggregate {uuid} NOT NULL,
                version bigint NOT NULL, kind text NOT NULL, correlation {uuid} NOT NULL,
                causation {uuid} NOT NULL, trace text, time bigint NOT NULL,
                payload {bytes} NOT NULL, sent_at bigint, UNIQUE (aggregate, version));
            CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;
            CREATE TABLE cause (
                id {uuid} NOT NULL, actor text NOT NULL, fingerprint text NOT NULL,
                aggregate {uuid} NOT NULL, answer text, time bigint NOT NULL,
                PRIMARY KEY (id, actor));
            CREATE TABLE known (aggregate {uuid} PRIMARY KEY, version bigint NOT NULL);
            CREATE TABLE lease (
                name text PRIMARY KEY, holder {uuid} NOT NULL, until bigint NOT NULL);
            CREATE TABLE checkpoint (
                consumer text NOT NULL, shard integer NOT NULL, sequence bigint NOT NULL,
                complete_at bigint NOT NULL, PRIMARY KEY (consumer, shard));
            CREATE TABLE parked_event (
                event {uuid} PRIMARY KEY, aggregate {uuid} NOT NULL, version bigint NOT NULL,
                kind text NOT NULL, sequence bigint NOT NULL, reason text NOT NULL,
                payload {bytes} NOT NULL, time bigint NOT NULL);
            CREATE INDEX parked_event_aggregate ON parked_event (aggregate);"
        ))
        .await
        .map(drop)
    }
}

struct ParkedHeaders;

impl MigrationName for ParkedHeaders {
    fn name(&self) -> &str {
        "m0001_house_tables_2"
    }
}

/// What is parked can be tried again, and a checkpoint knows its event by its time, too.
#[async_trait::async_trait]
impl MigrationTrait for ParkedHeaders {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared(
                "ALTER TABLE parked_event ADD COLUMN headers text NOT NULL DEFAULT '{}';
                ALTER TABLE parked_event ADD COLUMN retry_at bigint;
                ALTER TABLE checkpoint ADD COLUMN stored_at bigint NOT NULL DEFAULT 0;",
            )
            .await
            .map(drop)
    }
}
