//! The provider's own log: what it was asked, what it has charged, what it has given back.
//!
//! Each request goes on record in one transaction with what came of it, so whoever is killed has
//! either done all of it or nothing. A key is good for one charge, or one refund, for ever.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use kernel::{Clock, Uuid};
use platform::clock::SystemClock;
use platform::db::{Db, DbConfig};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, FromQueryResult, Statement, Value,
};
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::config::sqlite_url;
use crate::exit::Exit;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS charge (
    number integer PRIMARY KEY AUTOINCREMENT, id text NOT NULL UNIQUE,
    idempotency_key text NOT NULL UNIQUE, amount bigint NOT NULL, currency text NOT NULL,
    customer text NOT NULL, driving text NOT NULL, status text NOT NULL, decline_reason text);
CREATE TABLE IF NOT EXISTS refund (
    number integer PRIMARY KEY AUTOINCREMENT, id text NOT NULL UNIQUE,
    idempotency_key text NOT NULL UNIQUE, charge text NOT NULL, amount bigint NOT NULL,
    currency text NOT NULL, driving text NOT NULL, status text NOT NULL);
CREATE INDEX IF NOT EXISTS refund_charge ON refund (charge);
CREATE TABLE IF NOT EXISTS request (
    number integer PRIMARY KEY AUTOINCREMENT, operation text NOT NULL,
    idempotency_key text NOT NULL);";
const CHARGE: &str =
    "id, idempotency_key, amount, currency, customer, driving, status, decline_reason";
const REFUND: &str = "id, idempotency_key, charge, amount, currency, driving, status";

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Charge,
    LookUp,
    Refund,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Charge => "charge",
            Operation::LookUp => "look_up",
            Operation::Refund => "refund",
        }
    }
}

/// Who is to pay how much.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ChargeWish {
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) customer: String,
    pub(super) driving: String,
}

/// How much is to be given back.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RefundWish {
    pub(super) amount: i64,
    pub(super) currency: String,
}

/// One charge in the log.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize)]
pub(super) struct Charge {
    pub(super) id: String,
    pub(super) idempotency_key: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) customer: String,
    pub(super) driving: String,
    pub(super) status: String,
    pub(super) decline_reason: Option<String>,
}

/// One refund in the log; `charge` is the charge's idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) idempotency_key: String,
    pub(super) charge: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) driving: String,
    pub(super) status: String,
}

/// One request in the log.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize)]
pub(super) struct Request {
    pub(super) operation: String,
    pub(super) idempotency_key: String,
}

impl Charge {
    fn is_of(&self, wish: &ChargeWish) -> bool {
        self.amount == wish.amount
            && self.currency == wish.currency
            && self.customer == wish.customer
            && self.driving == wish.driving
    }
}

impl Refund {
    fn is_of(&self, charge: &str, wish: &RefundWish) -> bool {
        self.charge == charge && self.amount == wish.amount && self.currency == wish.currency
    }
}

/// The log. Clones share it.
#[derive(Clone)]
pub(super) struct Log {
    db: Db,
    clock: Arc<dyn Clock>,
}

impl Log {
    /// Opens the log in this file.
    pub(super) async fn open(file: &Path) -> Result<Log, Exit> {
        let db = connect(file).await.map_err(|error| {
            let file = file.display();
            Exit::cannot_create(format!("the provider's log {file} cannot be used: {error}"))
        })?;
        Ok(Log { db, clock: Arc::new(SystemClock) })
    }

    /// Puts a request on record that comes to nothing.
    pub(super) async fn note(&self, operation: Operation, key: Uuid) -> Result<(), DbErr> {
        note(self.db.writer(), operation, key).await
    }

    /// Charges at most once, and says whether this was the time: whoever comes later with a key gets
    /// what came of the first.
    pub(super) async fn charge(
        &self,
        key: Uuid,
        wish: &ChargeWish,
        decline_reason: Option<&str>,
    ) -> Result<(Charge, bool), Refusal> {
        let status = if decline_reason.is_some() { "declined" } else { "approved" };
        let values: [Value; 8] = [
            format!("ch_{}", self.clock.new_id()).into(),
            key.to_string().into(),
            wish.amount.into(),
            wish.currency.as_str().into(),
            wish.customer.as_str().into(),
            wish.driving.as_str().into(),
            status.into(),
            decline_reason.into(),
        ];
        let insert = format!(
            "INSERT INTO charge ({CHARGE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (idempotency_key) DO NOTHING"
        );
        let transaction = self.begin(Operation::Charge, key).await?;
        let new = insert_one(&transaction, insert, values).await?;
        let charge = charge_of(&transaction, key).await?;
        transaction.commit().await?;
        let charge = charge.ok_or(Refusal::UnknownCharge)?;
        if charge.is_of(wish) { Ok((charge, new)) } else { Err(Refusal::KeyReused) }
    }

    /// Gives back at most once, never more than was taken, and says whether this was the time.
    pub(super) async fn refund(
        &self,
        key: Uuid,
        of: Uuid,
        wish: &RefundWish,
    ) -> Result<(Refund, bool), Refusal> {
        let values: [Value; 6] = [
            format!("re_{}", self.clock.new_id()).into(),
            key.to_string().into(),
            wish.amount.into(),
            wish.currency.as_str().into(),
            of.to_string().into(),
            wish.amount.into(),
        ];
        let insert = format!(
            "INSERT INTO refund ({REFUND}) \
             SELECT ?, ?, idempotency_key, ?, ?, driving, 'succeeded' FROM charge \
             WHERE idempotency_key = ? AND status = 'approved' AND amount >= ? + \
             (SELECT coalesce(sum(amount), 0) FROM refund \
              WHERE refund.charge = charge.idempotency_key) \
             ON CONFLICT (idempotency_key) DO NOTHING"
        );
        let transaction = self.begin(Operation::Refund, key).await?;
        let new = insert_one(&transaction, insert, values).await?;
        let refund = refund_of(&transaction, key).await?;
        let charge = charge_of(&transaction, of).await?;
        transaction.commit().await?;
        match refund {
            Some(refund) if refund.is_of(&of.to_string(), wish) => Ok((refund, new)),
            Some(_) => Err(Refusal::KeyReused),
            None => Err(if charge.is_some() { Refusal::TooMuch } else { Refusal::UnknownCharge }),
        }
    }

    /// The charge under this key.
    pub(super) async fn find(&self, key: Uuid) -> Result<Charge, Refusal> {
        let transaction = self.begin(Operation::LookUp, key).await?;
        let charge = charge_of(&transaction, key).await?;
        transaction.commit().await?;
        charge.ok_or(Refusal::UnknownCharge)
    }

    /// All charges, oldest first.
    pub(super) async fn charges(&self) -> Result<Vec<Charge>, DbErr> {
        let select = format!("SELECT {CHARGE} FROM charge ORDER BY number");
        Charge::find_by_statement(statement(select, [])).all(self.db.reader()).await
    }

    /// All refunds, oldest first.
    pub(super) async fn refunds(&self) -> Result<Vec<Refund>, DbErr> {
        let select = format!("SELECT {REFUND} FROM refund ORDER BY number");
        Refund::find_by_statement(statement(select, [])).all(self.db.reader()).await
    }

    /// All requests, oldest first, whatever came of them.
    pub(super) async fn requests(&self) -> Result<Vec<Request>, DbErr> {
        let select = "SELECT operation, idempotency_key FROM request ORDER BY number".to_owned();
        Request::find_by_statement(statement(select, [])).all(self.db.reader()).await
    }

    /// A transaction that has this request on record.
    async fn begin(&self, operation: Operation, key: Uuid) -> Result<DatabaseTransaction, DbErr> {
        let transaction = self.db.begin().await?;
        note(&transaction, operation, key).await?;
        Ok(transaction)
    }
}

async fn connect(file: &Path) -> Result<Db, Box<dyn Error>> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let db = Db::connect(&DbConfig { url: sqlite_url(file), max_connections: 1 }).await?;
    db.writer().execute_unprepared(TABLES).await?;
    Ok(db)
}

async fn note(on: &impl ConnectionTrait, operation: Operation, key: Uuid) -> Result<(), DbErr> {
    let insert = "INSERT INTO request (operation, idempotency_key) VALUES (?, ?)".to_owned();
    let values: [Value; 2] = [operation.as_str().into(), key.to_string().into()];
    on.execute_raw(statement(insert, values)).await.map(drop)
}

/// Whether there is a new row.
async fn insert_one<const N: usize>(
    on: &DatabaseTransaction,
    insert: String,
    values: [Value; N],
) -> Result<bool, DbErr> {
    Ok(on.execute_raw(statement(insert, values)).await?.rows_affected() == 1)
}

async fn charge_of(on: &DatabaseTransaction, key: Uuid) -> Result<Option<Charge>, DbErr> {
    let select = format!("SELECT {CHARGE} FROM charge WHERE idempotency_key = ?");
    Charge::find_by_statement(statement(select, [key.to_string().into()])).one(on).await
}

async fn refund_of(on: &DatabaseTransaction, key: Uuid) -> Result<Option<Refund>, DbErr> {
    let select = format!("SELECT {REFUND} FROM refund WHERE idempotency_key = ?");
    Refund::find_by_statement(statement(select, [key.to_string().into()])).one(on).await
}

fn statement(sql: String, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}
