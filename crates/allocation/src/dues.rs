//! Which customers owe a fee: what payment says of it, kept where the next request is decided.
//!
//! A row per payment that was ever declined. It has the version of the payment's last word, and only
//! a later word changes it: whoever repeats an event, or comes late with one, changes nothing.

use std::collections::HashMap;

use kernel::{Cause, CustomerId, Failure, PaymentId, Timestamp};
use platform::db::{Db, failure};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{DatabaseTransaction, ExprTrait, QueryOrder, QuerySelect, Set};

/// The table of dues.
pub mod row {
    use sea_orm::entity::prelude::*;

    /// One fee that was declined.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "due")]
    pub struct Model {
        /// The payment of the fee.
        #[sea_orm(primary_key, auto_increment = false)]
        pub payment: Uuid,
        /// The number of the last event of the payment that counted.
        pub version: i64,
        /// The token's subject of the customer, for as long as they owe it.
        pub debtor: Option<String>,
        /// The last event that counted.
        pub cause: Uuid,
        /// When it did, microseconds.
        pub time: i64,
    }

    /// No relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

use row::{Column, Entity};

/// The dues of all customers.
#[derive(Clone)]
pub struct Dues {
    db: Db,
}

impl Dues {
    /// The dues in this database.
    pub fn new(db: Db) -> Dues {
        Dues { db }
    }

    /// The customer owes this fee.
    pub(crate) async fn open(
        &self,
        by: &Cause,
        payment: PaymentId,
        customer: &CustomerId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let row = row::ActiveModel {
            payment: Set(payment.0),
            version: Set(version(by)),
            debtor: Set(Some(customer.subject().to_owned())),
            cause: Set(by.id),
            time: Set(now.micros()),
        };
        let later =
            Expr::col((Entity, Column::Version)).lt(Expr::col(("excluded", Column::Version)));
        let upsert = OnConflict::column(Column::Payment)
            .update_columns([Column::Version, Column::Debtor, Column::Cause, Column::Time])
            .action_and_where(later)
            .to_owned();
        Entity::insert(row)
            .on_conflict(upsert)
            .exec_without_returning(self.db.writer())
            .await
            .map(drop)
            .map_err(failure)
    }

    /// Nobody owes this fee any more.
    pub(crate) async fn close(
        &self,
        by: &Cause,
        payment: PaymentId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        // The usual case: paid at once, so it was never owed.
        if version(by) == 1 {
            return Ok(());
        }
        Entity::update_many()
            .col_expr(Column::Version, Expr::value(version(by)))
            .col_expr(Column::Debtor, Expr::value(None::<String>))
            .col_expr(Column::Cause, Expr::value(by.id))
            .col_expr(Column::Time, Expr::value(now.micros()))
            .filter(Column::Payment.eq(payment.0))
            .filter(Column::Version.lt(version(by)))
            .exec(self.db.writer())
            .await
            .map(drop)
            .map_err(failure)
    }
}

/// Where the event stands in the history of its payment.
fn version(by: &Cause) -> i64 {
    by.origin.map_or(0, |origin| origin.version)
}

/// The oldest fee that each of these customers owes, by the token's subject.
pub(crate) async fn owed_by(
    db: &DatabaseTransaction,
    customers: impl Iterator<Item = &CustomerId>,
) -> Result<HashMap<String, PaymentId>, DbErr> {
    let customers: Vec<&str> = customers.map(CustomerId::subject).collect();
    if customers.is_empty() {
        return Ok(HashMap::new());
    }
    let owed: Vec<(String, Uuid)> = Entity::find()
        .select_only()
        .columns([Column::Debtor, Column::Payment])
        .filter(Column::Debtor.is_in(customers))
        .order_by_desc(Column::Payment)
        .into_tuple()
        .all(db)
        .await?;
    // Of several the last one stays: the oldest.
    Ok(owed.into_iter().map(|(debtor, payment)| (debtor, PaymentId(payment))).collect())
}
