//! Payment's ledger, and what allocation knows of fees that are owed.

use kernel::Uuid;
use sea_orm::{DbErr, FromQueryResult};

use super::rows::{Snapshot, customer};

/// A row of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, FromQueryResult)]
pub(crate) struct Movement {
    /// Under which key the provider was asked for it.
    pub(crate) charge: Uuid,
    /// CHARGE or REFUND.
    pub(crate) kind: String,
    pub(crate) payment: Uuid,
    pub(crate) debit: String,
    pub(crate) credit: String,
    pub(crate) amount: i64,
    pub(crate) reason: String,
    pub(crate) time: i64,
}

/// What an account comes to, by the view of both sides.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub(crate) struct Balance {
    pub(crate) account: String,
    pub(crate) amount: i64,
}

/// A fee that was declined.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub(crate) struct Due {
    pub(crate) payment: Uuid,
    /// The last event of the payment that counted.
    pub(crate) version: i64,
    /// Who owes it, by name; nobody, when it was taken or put off since.
    pub(crate) debtor: Option<String>,
}

/// The ledger in this database of payment.
pub(crate) async fn movements(url: &str) -> Result<Vec<Movement>, DbErr> {
    let snapshot = Snapshot::of(url).await?;
    let ledger = snapshot.movements().await?;
    snapshot.close().await?;
    Ok(ledger)
}

impl Snapshot {
    pub(super) async fn movements(&self) -> Result<Vec<Movement>, DbErr> {
        self.all("SELECT charge, kind, payment, debit, credit, amount, reason, time FROM ledger")
            .await
    }

    pub(super) async fn balances(&self) -> Result<Vec<Balance>, DbErr> {
        self.all(
            "SELECT account, CAST(sum(amount) AS bigint) AS amount FROM ledger_entry \
             GROUP BY account",
        )
        .await
    }

    pub(super) async fn dues(&self) -> Result<Vec<Due>, DbErr> {
        let rows: Vec<Due> = self.all("SELECT payment, version, debtor FROM due").await?;
        let named = rows.into_iter().map(|row| Due { debtor: row.debtor.map(customer), ..row });
        Ok(named.collect())
    }
}
