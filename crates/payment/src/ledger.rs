//! The ledger: every movement of money, once and for ever.
//!
//! | movement | key | debit | credit |
//! |---|---|---|---|
//! | CHARGE | of the charge | `provider_receivable` | `fares_earned` |
//! | REFUND | of the refund | `fares_earned` | `provider_receivable` |
//!
//! A row is one movement with both of its sides, so it cannot be out of balance; the view
//! `ledger_entry` shows the two as entries of their accounts, a debit above zero and a credit below,
//! and their sum is zero whatever is in it. A movement is written in the transaction that records
//! what the provider has said, it is unique by key and kind, and the database itself refuses to
//! change or delete it. What the provider owes us is the balance of `provider_receivable`: all
//! approved payments less all that has been given back.

use kernel::{Failure, Money, Recorded, Uuid};
use platform::db::{Db, failure};
use sea_orm::sea_query::InsertStatement;
use sea_orm::{ConnectionTrait, EntityTrait, QueryTrait, Set, Statement};

use crate::domain::{Event, Payment};

/// The account of what the provider has taken for us and owes us.
pub const PROVIDER_RECEIVABLE: &str = "provider_receivable";
/// The account of what rides have earned.
pub const FARES_EARNED: &str = "fares_earned";

const CHARGE: &str = "CHARGE";
const REFUND: &str = "REFUND";

/// The table of movements.
pub(crate) mod row {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "ledger")]
    pub(crate) struct Model {
        /// The key under which the provider was asked for it.
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) charge: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) kind: String,
        pub(crate) payment: Uuid,
        pub(crate) debit: String,
        pub(crate) credit: String,
        pub(crate) amount: i64,
        /// Why, in the operator's own words; empty for a charge.
        pub(crate) reason: String,
        pub(crate) time: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The movement that this event is, if it is one.
pub(crate) fn entry(payment: &Recorded<Payment>, event: &Event) -> Option<InsertStatement> {
    let now = payment.update_time.micros();
    let row = match event {
        Event::PaymentApproved => {
            charged(payment.charge_key(), payment.id.0, payment.fee.amount.as_won(), now)
        }
        Event::PaymentRefunded(refund) => row::ActiveModel {
            charge: Set(refund.key),
            kind: Set(REFUND.to_owned()),
            payment: Set(payment.id.0),
            debit: Set(FARES_EARNED.to_owned()),
            credit: Set(PROVIDER_RECEIVABLE.to_owned()),
            amount: Set(refund.amount.as_won()),
            reason: Set(refund.reason.clone()),
            time: Set(now),
        },
        Event::PaymentDeferred | Event::PaymentDeclined => return None,
    };
    Some(row::Entity::insert(row).into_query())
}

/// The movement of a charge that the provider has approved.
pub(crate) fn charged(key: Uuid, payment: Uuid, won: i64, time: i64) -> row::ActiveModel {
    row::ActiveModel {
        charge: Set(key),
        kind: Set(CHARGE.to_owned()),
        payment: Set(payment),
        debit: Set(PROVIDER_RECEIVABLE.to_owned()),
        credit: Set(FARES_EARNED.to_owned()),
        amount: Set(won),
        reason: Set(String::new()),
        time: Set(time),
    }
}

/// Whether the refund under this key has been given.
pub(crate) async fn has_refund(db: &Db, key: Uuid) -> Result<bool, Failure> {
    let found = row::Entity::find_by_id((key, REFUND.to_owned())).one(db.reader()).await;
    Ok(found.map_err(failure)?.is_some())
}

/// What an account comes to: debits less credits. Without a name, all of them together: zero.
pub async fn balance(db: &Db, account: Option<&str>) -> Result<Money, Failure> {
    let sql = "SELECT CAST(coalesce(sum(amount), 0) AS bigint) AS balance FROM ledger_entry \
               WHERE account = $1 OR $1 = ''";
    let values = [account.unwrap_or_default().into()];
    let statement = Statement::from_sql_and_values(db.backend(), sql, values);
    let row = db.reader().query_one_raw(statement).await.map_err(failure)?;
    let balance = row.map(|row| row.try_get("", "balance")).transpose().map_err(failure)?;
    Ok(Money::won(balance.unwrap_or_default()))
}
