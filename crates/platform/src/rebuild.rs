//! A view folded once more from the beginning, beside the one that is read.
//!
//! The same code folds the same events into a scratch database, up to the place in the stream where
//! the live view stands, and then the rows of both are compared. They differ when somebody has
//! written into the view by hand, or when an older program has folded otherwise. [`Rebuild::run`]
//! says where they differ, and puts it right when it is asked to.
//!
//! Nobody has to stop for it. What takes long is done beside the live view: it is folded until it
//! has almost caught up, then compared with a snapshot. To put it right, one transaction keeps the
//! projections of all replicas out, folds the few events that have come since the snapshot, and
//! replaces the rows that differed or that those events have touched. So it takes as long as there
//! are differences, however large the view is. Readers see the old rows until it commits, and the
//! projections go on by themselves. Whoever is interrupted has changed nothing, and the next run
//! begins with an empty scratch.
//!
//! What the live view has parked is left out here, too: an operator decides on that elsewhere.

mod fold;
mod rows;
mod scratch;
mod source;

use std::time::Duration;

use kernel::{Clock, Failure, Uuid};
use sea_orm::entity::prelude::*;
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, DbBackend, IsolationLevel, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use serde::Serialize;
use tokio::time::Instant;

use self::fold::{Count, Fold, Place};
use self::rows::Comparison;
pub use self::rows::Difference;
use self::scratch::Scratch;
use crate::broker::{Broker, BrokerError, Delivery};
use crate::db::{Db, DbConfig, failure};
use crate::lease::{Lease, RENEWAL};
use crate::projection::View;

/// A view of one row for each thing it shows.
pub trait Rebuildable: View {
    /// The table of the rows.
    type Table: EntityTrait;
    /// Their key, a UUID.
    const KEY: <Self::Table as EntityTrait>::Column;
    /// The key of the row that an event changes.
    fn row(event: &Delivery) -> Uuid;
}

/// What is to be rebuilt.
pub struct Rebuild<'a, V> {
    /// The view's name in its checkpoints.
    pub name: &'static str,
    /// How to fold.
    pub view: V,
    /// Where its events are.
    pub broker: &'a Broker,
    /// The live view.
    pub db: &'a Db,
    /// Where that is; the scratch is made beside it.
    pub config: &'a DbConfig,
    /// For ids and times.
    pub clock: &'a dyn Clock,
}

/// What has come of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many events were folded.
    pub events: u64,
    /// How many rows they make.
    pub rows: u64,
    /// Rows with other values.
    pub differing: u64,
    /// Rows that the view should have and has not.
    pub missing: u64,
    /// Rows that the view should not have.
    pub superfluous: u64,
    /// The first of the differences.
    pub differences: Vec<Difference>,
    /// Events that the live view has parked, and that are left out here as well.
    pub parked: u64,
    /// Other events that this version cannot fold.
    pub unfoldable: u64,
    /// In how many places a history lacks events in the stream.
    pub gaps: u64,
    /// How many rows were replaced; nothing when nobody asked for it.
    pub replaced: Option<u64>,
}

impl Report {
    fn new(count: Count, place: &Place, compared: &Comparison) -> Report {
        Report {
            events: count.events,
            rows: compared.rows,
            differing: compared.differing,
            missing: compared.missing,
            superfluous: compared.superfluous,
            differences: compared.first.clone(),
            parked: place.parked(),
            unfoldable: count.unfoldable,
            gaps: count.gaps,
            replaced: None,
        }
    }

    /// How many rows are not what their events make of them.
    pub fn wrong(&self) -> u64 {
        self.differing + self.missing + self.superfluous
    }

    /// Refuses to throw away what the stream no longer knows.
    fn may_be_applied(&self, lost_its_beginning: bool) -> Result<(), RebuildError> {
        let lost = if self.gaps > 0 {
            format!("events of histories, {} times", self.gaps)
        } else if self.superfluous > 0 && lost_its_beginning {
            format!("its beginning, and with it perhaps all of {} rows", self.superfluous)
        } else {
            return Ok(());
        };
        let why =
            format!("the stream has lost {lost}: nothing but the view knows of them any more");
        Err(RebuildError::Refused(why))
    }
}

/// Why a view could not be rebuilt. The live one is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The events could not be read.
    #[error("the broker does not answer")]
    Broker(#[source] BrokerError),
    /// A database could not be used, or a defect.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// It would not come to anything good; says why.
    #[error("{0}")]
    Refused(String),
}

impl From<DbErr> for RebuildError {
    fn from(error: DbErr) -> RebuildError {
        RebuildError::Failed(failure(error))
    }
}

/// How long another run is waited for: one that was killed holds its lease for a moment longer.
const PATIENCE: Duration = Duration::from_secs(6);
/// So few events that they can be folded while a transaction waits.
const FEW: u64 = 1_000;

impl<V: Rebuildable> Rebuild<'_, V> {
    /// Folds all events beside the live view, compares, and replaces what differs if `apply`. `M`
    /// are the migrations of the view's database.
    pub async fn run<M: MigratorTrait>(&self, apply: bool) -> Result<Report, RebuildError> {
        let name = format!("{}.rebuild", self.name);
        let lease = Lease::new(self.db.clone(), name, self.clock.new_id());
        wait_for(&lease).await?;
        let outcome = tokio::select! {
            biased;
            outcome = self.alone::<M>(apply) => outcome,
            () = lost(&lease) => Err(another_run()),
        };
        // Whoever comes next waits for the end of its term otherwise.
        lease.release().await.ok();
        outcome
    }

    /// Does it while nobody else does.
    async fn alone<M: MigratorTrait>(&self, apply: bool) -> Result<Report, RebuildError> {
        let scratch = Scratch::make::<M>(self.name, self.db, self.config).await?;
        let outcome = self.beside(&scratch, apply).await;
        // What stays behind is dropped by the next run.
        scratch.remove().await.ok();
        outcome
    }

    async fn beside(&self, scratch: &Scratch, apply: bool) -> Result<Report, RebuildError> {
        let mut fold = Fold::begin(self, scratch.db()).await?;
        loop {
            let place = Place::of(self.name, self.db.reader()).await?;
            if fold.catch_up(&place, |_| ()).await? < FEW {
                break;
            }
        }
        let snapshot = snapshot(self.db).await?;
        let place = Place::of(self.name, &snapshot).await?;
        fold.catch_up(&place, |_| ()).await?;
        let compared = rows::compare::<V>(&snapshot, scratch.db().reader()).await?;
        snapshot.rollback().await?;

        let mut report = Report::new(fold.count(), &place, &compared);
        if apply && report.wrong() > 0 {
            report.may_be_applied(fold.has_lost_its_beginning())?;
            report.replaced = Some(self.swap(fold, scratch.db(), compared).await?);
        }
        Ok(report)
    }

    /// Replaces what differs, at a moment when nothing moves; answers how many rows.
    async fn swap(
        &self,
        mut fold: Fold<'_, V>,
        scratch: &Db,
        compared: Comparison,
    ) -> Result<u64, RebuildError> {
        let tx = self.db.begin().await?;
        keep_projections_out::<V>(&tx).await?;
        let mut suspects = compared.wrong;
        let place = Place::of(self.name, &tx).await?;
        let touched = |event: &Delivery| {
            suspects.insert(V::row(event));
        };
        fold.catch_up(&place, touched).await?;
        let replaced = rows::replace::<V>(&tx, scratch.reader(), &suspects).await?;
        fold.park(&tx, &replaced).await?;
        tx.commit().await?;
        Ok(replaced.len() as u64)
    }
}

/// A transaction in which the live view stands still, and others go on.
async fn snapshot(db: &Db) -> Result<DatabaseTransaction, DbErr> {
    match db.backend() {
        DbBackend::Postgres => {
            let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
            let tx = db.reader().begin_with_config(Some(isolation), Some(access)).await?;
            tx.execute_unprepared(MAY_BE_IDLE).await?;
            Ok(tx)
        }
        // What it reads first makes the snapshot.
        _ => db.reader().begin().await,
    }
}

/// For transactions that wait for the scratch to catch up.
const MAY_BE_IDLE: &str =
    "SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL lock_timeout = '10s'";

/// Holds all that would change the view until the end of this transaction; who reads goes on. On
/// SQLite the transaction does that by itself.
async fn keep_projections_out<V: Rebuildable>(tx: &DatabaseTransaction) -> Result<(), DbErr> {
    if tx.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    tx.execute_unprepared(MAY_BE_IDLE).await?;
    // In the order in which a projection uses them, or each would wait for the other.
    let table = V::Table::default();
    let lock =
        format!("LOCK TABLE checkpoint, {}, parked_event IN EXCLUSIVE MODE", table.table_name());
    tx.execute_unprepared(&lock).await.map(drop)
}

async fn wait_for(lease: &Lease) -> Result<(), RebuildError> {
    let end = Instant::now() + PATIENCE;
    while !lease.hold().await? {
        if Instant::now() >= end {
            return Err(another_run());
        }
        tokio::time::sleep(RENEWAL / 2).await;
    }
    Ok(())
}

/// Renews the lease; ends when another has it. A database that does not answer is met elsewhere.
async fn lost(lease: &Lease) {
    while !matches!(lease.hold().await, Ok(false)) {
        tokio::time::sleep(RENEWAL).await;
    }
}

fn another_run() -> RebuildError {
    RebuildError::Refused(
        "the view is being rebuilt by another process: wait for its end, and see whether there is \
         anything left to do"
            .to_owned(),
    )
}
