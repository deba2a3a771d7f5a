//! The rows of the contexts, read by SQL.
//!
//! Each database is read in one transaction that sees one moment. People are kept by their names
//! (`customers/C1`), as clients and events call them.

use std::collections::BTreeMap;

use kernel::{CustomerId, DriverId, Uuid};
use sea_orm::{
    AccessMode, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend,
    DbErr, FromQueryResult, IsolationLevel, Statement, TransactionOptions, TransactionTrait,
};

use super::{Evidence, Records};

/// The row of an allocation.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct Allocation {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) customer: String,
    pub(crate) state: String,
    pub(crate) expiring: bool,
    pub(crate) driving: Option<Uuid>,
    pub(crate) driver: Option<String>,
    pub(crate) cancel_reason: String,
}

/// The row of a driving.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct Driving {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) allocation: Uuid,
    pub(crate) customer: String,
    pub(crate) driver: Option<String>,
    pub(crate) active_driver: Option<String>,
    pub(crate) state: String,
    pub(crate) start_time: Option<i64>,
    pub(crate) finish_time: Option<i64>,
    pub(crate) fare: Option<i64>,
    pub(crate) payment: Option<Uuid>,
    pub(crate) payment_state: Option<String>,
}

/// The row of a payment.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct Payment {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) driving: Uuid,
    pub(crate) allocation: Uuid,
    pub(crate) customer: String,
    pub(crate) amount: i64,
    pub(crate) state: String,
    pub(crate) attempt_count: i32,
    /// How many keys it was charged under: a refused one is followed by a new one.
    pub(crate) charge_number: i32,
    pub(crate) provider_reference: String,
    pub(crate) refunded_amount: i64,
    /// The key of a refund that is under way.
    pub(crate) refund: Option<Uuid>,
}

/// A ride as the dashboard shows it.
#[derive(Clone, Debug, Default, PartialEq, FromQueryResult)]
pub(crate) struct View {
    pub(crate) id: Uuid,
    pub(crate) customer: String,
    pub(crate) alloc_status: i32,
    pub(crate) driving: Option<Uuid>,
    pub(crate) driver: String,
    pub(crate) driving_status: i32,
    pub(crate) start_time: Option<i64>,
    pub(crate) finish_time: Option<i64>,
    pub(crate) fee: Option<i64>,
    pub(crate) payment: Option<Uuid>,
    pub(crate) payment_status: i32,
    pub(crate) refunded: i64,
    pub(crate) cancel_reason: String,
    /// The ids of the events folded, as JSON.
    pub(crate) timeline: String,
    pub(crate) allocation_version: i64,
    pub(crate) driving_version: i64,
    pub(crate) payment_version: i64,
    pub(crate) sequence: i64,
}

/// An event that a change has brought about.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct OutboxRow {
    pub(crate) id: i64,
    pub(crate) event: Uuid,
    pub(crate) aggregate: Uuid,
    pub(crate) version: i64,
    pub(crate) kind: String,
    pub(crate) correlation: Uuid,
    pub(crate) causation: Uuid,
    /// When it happened, microseconds.
    pub(crate) time: i64,
    pub(crate) payload: Vec<u8>,
    pub(crate) sent_at: Option<i64>,
}

impl OutboxRow {
    /// The last word of its kind.
    pub(crate) fn name(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or(&self.kind)
    }
}

/// A cause that has had its effect.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct Spent {
    pub(crate) id: Uuid,
    /// `<role>:<subject>`.
    pub(crate) actor: String,
    pub(crate) aggregate: Uuid,
}

/// An event that was put aside.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct Parked {
    pub(crate) event: Uuid,
    pub(crate) aggregate: Uuid,
    pub(crate) version: i64,
    pub(crate) kind: String,
    pub(crate) reason: String,
}

#[derive(FromQueryResult)]
struct Known {
    aggregate: Uuid,
    version: i64,
}

#[derive(FromQueryResult)]
struct Checkpoint {
    shard: i32,
    sequence: i64,
}

/// Reads all databases.
pub(super) async fn collect(
    databases: &BTreeMap<String, String>,
    evidence: &mut Evidence,
) -> Result<(), String> {
    for (context, url) in databases {
        let read = async {
            let snapshot = Snapshot::of(url).await?;
            snapshot.read(context, evidence).await?;
            snapshot.close().await
        };
        read.await.map_err(|error| format!("the database of {context}: {error}"))?;
    }
    Ok(())
}

/// One moment of one database.
pub(super) struct Snapshot {
    connection: DatabaseConnection,
    tx: DatabaseTransaction,
}

impl Snapshot {
    pub(super) async fn of(url: &str) -> Result<Snapshot, DbErr> {
        let connection = Database::connect(url).await?;
        // A transaction of SQLite sees one moment anyway.
        let postgres = connection.get_database_backend() == DbBackend::Postgres;
        let tx = connection
            .begin_with_options(TransactionOptions {
                isolation_level: postgres.then_some(IsolationLevel::RepeatableRead),
                access_mode: postgres.then_some(AccessMode::ReadOnly),
                ..Default::default()
            })
            .await?;
        Ok(Snapshot { connection, tx })
    }

    pub(super) async fn close(self) -> Result<(), DbErr> {
        self.tx.rollback().await?;
        self.connection.close().await
    }

    pub(super) async fn all<T: FromQueryResult>(&self, sql: &str) -> Result<Vec<T>, DbErr> {
        let statement = Statement::from_string(self.tx.get_database_backend(), sql);
        T::find_by_statement(statement).all(&self.tx).await
    }

    /// The ids that a query selects.
    pub(super) async fn ids(&self, sql: &str) -> Result<Vec<Uuid>, DbErr> {
        let statement = Statement::from_string(self.tx.get_database_backend(), sql);
        let rows = self.tx.query_all_raw(statement).await?;
        rows.iter().map(|row| row.try_get_by_index(0)).collect()
    }

    async fn read(&self, context: &str, evidence: &mut Evidence) -> Result<(), DbErr> {
        evidence.records.insert(context.to_owned(), self.records().await?);
        match context {
            "allocation" => {
                evidence.allocations = self.allocations().await?;
                evidence.dues = self.dues().await?;
            }
            "driving" => evidence.drivings = self.drivings().await?,
            "payment" => {
                evidence.payments = self.payments().await?;
                evidence.ledger = self.movements().await?;
                evidence.balances = self.balances().await?;
            }
            "dashboard" => {
                evidence.view = self.view().await?;
                evidence.checkpoints = self.checkpoints().await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn records(&self) -> Result<Records, DbErr> {
        let known: Vec<Known> = self.all("SELECT aggregate, version FROM known").await?;
        let parked: Vec<Parked> =
            self.all("SELECT event, aggregate, version, kind, reason FROM parked_event").await?;
        Ok(Records {
            outbox: self
                .all(
                    "SELECT id, event, aggregate, version, kind, correlation, causation, time, \
                     payload, sent_at FROM outbox ORDER BY id",
                )
                .await?,
            causes: self.all("SELECT id, actor, aggregate FROM cause").await?,
            known: known.into_iter().map(|known| (known.aggregate, known.version)).collect(),
            parked: parked.into_iter().map(|parked| (parked.event, parked)).collect(),
        })
    }

    async fn allocations(&self) -> Result<BTreeMap<Uuid, Allocation>, DbErr> {
        let rows: Vec<Allocation> = self
            .all(
                "SELECT id, version, customer, state, expiring, driving, driver, cancel_reason \
                 FROM allocation",
            )
            .await?;
        let named = rows.into_iter().map(|row| Allocation {
            customer: customer(row.customer),
            driver: row.driver.map(driver),
            ..row
        });
        Ok(named.map(|row| (row.id, row)).collect())
    }

    async fn drivings(&self) -> Result<BTreeMap<Uuid, Driving>, DbErr> {
        let rows: Vec<Driving> = self
            .all(
                "SELECT id, version, allocation, customer, driver, active_driver, state, \
                 start_time, finish_time, fare, payment, payment_state FROM driving",
            )
            .await?;
        let named = rows.into_iter().map(|row| Driving {
            customer: customer(row.customer),
            driver: row.driver.map(driver),
            active_driver: row.active_driver.map(driver),
            ..row
        });
        Ok(named.map(|row| (row.id, row)).collect())
    }

    async fn payments(&self) -> Result<BTreeMap<Uuid, Payment>, DbErr> {
        let rows: Vec<Payment> = self
            .all(
                "SELECT id, version, driving, allocation, customer, amount, state, \
                 attempt_count, charge_number, provider_reference, refunded_amount, refund \
                 FROM payment",
            )
            .await?;
        let named = rows.into_iter().map(|row| Payment { customer: customer(row.customer), ..row });
        Ok(named.map(|row| (row.id, row)).collect())
    }

    async fn view(&self) -> Result<BTreeMap<Uuid, View>, DbErr> {
        let rows: Vec<View> = self
            .all(
                "SELECT id, customer, alloc_status, driving, driver, driving_status, start_time, \
                 finish_time, fee, payment, payment_status, refunded, cancel_reason, timeline, \
                 allocation_version, driving_version, payment_version, sequence FROM driving_info",
            )
            .await?;
        Ok(rows.into_iter().map(|row| (row.id, row)).collect())
    }

    pub(super) async fn checkpoints(&self) -> Result<BTreeMap<i32, i64>, DbErr> {
        let rows: Vec<Checkpoint> =
            self.all("SELECT shard, sequence FROM checkpoint WHERE consumer = 'dashboard'").await?;
        Ok(rows.into_iter().map(|row| (row.shard, row.sequence)).collect())
    }
}

pub(super) fn customer(subject: String) -> String {
    CustomerId::from_subject(subject).to_string()
}

fn driver(subject: String) -> String {
    DriverId::from_subject(subject).to_string()
}
