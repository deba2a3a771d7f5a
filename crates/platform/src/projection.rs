//! Events on their way in, for views.
//!
//! An ordered consumer reads the stream from behind the view's checkpoint. Each batch is one
//! transaction: a compare-and-set of the checkpoint first (whoever finds another value is a zombie
//! and rolls back), then the view's rows. Order and single effect come by construction; a view is
//! rebuilt by emptying it and starting at zero.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures::StreamExt;
use kernel::{Clock, Failure, Timestamp};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{DatabaseTransaction, Set};
use tokio::sync::watch;

use crate::broker::{Broker, BrokerError, Delivery};
use crate::consumer::{parked, parse};
use crate::db::{Db, failure};
use crate::lease::{Lease, RENEWAL};
use crate::outbox::{Backoff, chain};
use crate::shutdown::Shutdown;

/// The table of checkpoints.
pub mod checkpoint {
    use sea_orm::entity::prelude::*;

    /// How far a view has been folded.
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
}

/// How fresh a view is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsOf {
    /// The last place in the stream that the view contains.
    pub sequence: i64,
    /// The time up to which it is known to contain everything.
    pub complete_at: Timestamp,
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
        let row = checkpoint::Entity::find_by_id((self.name.to_owned(), 0))
            .one(self.db.reader())
            .await
            .map_err(failure)?;
        Ok(row.map_or_else(AsOf::default, |row| AsOf {
            sequence: row.sequence,
            complete_at: Timestamp::from_micros(row.complete_at),
        }))
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
const BATCH: usize = 200;

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
    /// Who folds.
    pub lease: Lease,
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
        lease: Lease,
        view: V,
    ) -> Self {
        Projection { name, broker, db, clock, lease, view, folded: watch::channel(0).0 }
    }

    /// For those who read the view.
    pub fn freshness(&self) -> Freshness {
        Freshness { name: self.name, db: self.db.clone(), folded: self.folded.subscribe() }
    }

    /// Runs until shutdown; rebuilds itself after every failure.
    pub async fn run(self, tasks: Shutdown) {
        let mut backoff = Backoff::default();
        while !tasks.is_triggered() {
            tokio::select! {
                () = tasks.cancelled() => break,
                outcome = self.follow() => match outcome {
                    Ok(()) => backoff = Backoff::default(),
                    Err(error) => {
                        tracing::warn!(view = self.name, error = %chain(&*error), "rebuilding");
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
            }
        }
        self.lease.release().await.ok();
    }

    /// One session with the broker: until leadership or the connection is lost.
    async fn follow(&self) -> Result<(), BrokerError> {
        if !self.lease.hold().await? {
            tokio::time::sleep(RENEWAL).await;
            return Ok(());
        }
        let mut checkpoint = self.checkpoint().await?;
        let config = pull::OrderedConfig {
            filter_subject: self.broker.all_subjects(),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: u64::try_from(checkpoint)? + 1,
            },
            ..Default::default()
        };
        let consumer = self.broker.stream().await?.create_consumer(config).await?;
        let mut pending = consumer.cached_info().num_pending;
        let mut batches = consumer.messages().await?.ready_chunks(BATCH);
        let mut renewal = tokio::time::interval(RENEWAL);
        loop {
            tokio::select! {
                _ = renewal.tick() => {
                    if !self.lease.hold().await? { return Ok(()) }
                    // Nothing to fold is news too: the view is complete up to now.
                    if pending == 0 && self.broker.is_connected() {
                        self.advance(self.db.writer(), checkpoint, checkpoint, true).await?;
                    }
                }
                batch = batches.next() => {
                    let batch = batch.ok_or("the broker closed")?;
                    let messages = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
                    let Some(last) = messages.last() else { continue };
                    pending = last.info()?.pending;
                    let next = i64::try_from(last.info()?.stream_sequence)?;
                    let events = messages.iter().filter_map(|message| match parse(message) {
                        Ok(event) => Some(event),
                        Err(error) => {
                            tracing::error!(view = self.name, %error, subject = %message.subject, "no event");
                            None
                        }
                    });
                    let events: Vec<_> = events.collect();
                    self.fold(checkpoint, next, pending == 0, &events).await?;
                    checkpoint = next;
                    self.folded.send_replace(next);
                }
            }
        }
    }

    async fn fold(
        &self,
        from: i64,
        to: i64,
        complete: bool,
        events: &[Delivery],
    ) -> Result<(), BrokerError> {
        let tx = self.db.begin().await?;
        self.advance(&tx, from, to, complete).await?;
        match self.view.fold(&tx, events).await {
            Ok(()) => return Ok(tx.commit().await?),
            Err(Failure::Unavailable(error)) => return Err(error),
            Err(_) => tx.rollback().await?,
        }
        // Something in the batch is poison: one by one, so that only the poison is put aside.
        let mut from = from;
        for event in events {
            let tx = self.db.begin().await?;
            let to = i64::try_from(event.sequence)?;
            self.advance(&tx, from, to, false).await?;
            match self.view.fold(&tx, std::slice::from_ref(event)).await {
                Ok(()) => tx.commit().await?,
                Err(Failure::Unavailable(error)) => return Err(error),
                Err(poison) => {
                    tx.rollback().await?;
                    let tx = self.db.begin().await?;
                    self.advance(&tx, from, to, false).await?;
                    self.park(&tx, event, &chain(&poison)).await?;
                    tx.commit().await?;
                }
            }
            from = to;
        }
        self.advance(self.db.writer(), from, to, complete).await
    }

    /// The compare-and-set that makes a zombie harmless.
    async fn advance(
        &self,
        db: &impl sea_orm::ConnectionTrait,
        from: i64,
        to: i64,
        complete: bool,
    ) -> Result<(), BrokerError> {
        let mut update = checkpoint::Entity::update_many()
            .col_expr(checkpoint::Column::Sequence, Expr::value(to))
            .filter(checkpoint::Column::Consumer.eq(self.name))
            .filter(checkpoint::Column::Shard.eq(0))
            .filter(checkpoint::Column::Sequence.eq(from));
        if complete {
            let now = self.clock.now().micros();
            update = update.col_expr(checkpoint::Column::CompleteAt, Expr::value(now));
        }
        match update.exec(db).await?.rows_affected {
            1 => Ok(()),
            _ => Err("another replica has moved the checkpoint".into()),
        }
    }

    async fn checkpoint(&self) -> Result<i64, BrokerError> {
        let fresh = checkpoint::ActiveModel {
            consumer: Set(self.name.to_owned()),
            shard: Set(0),
            sequence: Set(0),
            complete_at: Set(0),
        };
        let key = [checkpoint::Column::Consumer, checkpoint::Column::Shard];
        checkpoint::Entity::insert(fresh)
            .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
            .exec_without_returning(self.db.writer())
            .await?;
        let row =
            checkpoint::Entity::find_by_id((self.name.to_owned(), 0)).one(self.db.writer()).await?;
        Ok(row.ok_or("the checkpoint has vanished")?.sequence)
    }

    async fn park(
        &self,
        tx: &DatabaseTransaction,
        event: &Delivery,
        why: &str,
    ) -> Result<(), BrokerError> {
        tracing::error!(view = self.name, event = %event.id, kind = %event.kind, why, "parked");
        parked::insert(tx, event, why, self.clock.now()).await?;
        Ok(())
    }
}
