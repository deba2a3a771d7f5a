//! Events on their way in, for views.
//!
//! An ordered consumer reads the stream from behind the view's checkpoints, one for each shard;
//! replicas share the shards. Each batch is one transaction: a compare-and-set of the checkpoints
//! first (whoever finds another value is a zombie and rolls back), then the view's rows. Order and
//! single effect come by construction; a view is rebuilt by folding everything again.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Failure, Timestamp};
use sea_orm::DatabaseTransaction;
use sea_orm::entity::prelude::*;
use tokio::sync::watch;

use self::session::Session;
use crate::broker::{Broker, BrokerError, Delivery};
use crate::consumer::Stalled;
use crate::db::{Db, failure};
use crate::lease::{RENEWAL, Shards};
use crate::metrics::{self, Reason};
use crate::outbox::{Backoff, chain};
use crate::shutdown::Shutdown;

mod place;
mod session;

pub(crate) use place::holds;

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
