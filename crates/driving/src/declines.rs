//! Which drivings a driver does not want to see again.

use kernel::{DriverId, DrivingId, Failure, Timestamp};
use platform::db::{Db, failure};
use sea_orm::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{OnConflict, Query, SelectStatement};

/// The table of declines.
pub mod row {
    use sea_orm::entity::prelude::*;

    /// One driver does not want to see one driving.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "driving_decline")]
    pub struct Model {
        /// The token's subject of who declined.
        #[sea_orm(primary_key, auto_increment = false)]
        pub driver: String,
        /// What they declined.
        #[sea_orm(primary_key, auto_increment = false)]
        pub driving: Uuid,
        /// Why, in their words.
        pub reason: String,
        /// When, microseconds.
        pub time: i64,
    }

    /// No relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The declines of all drivers.
#[derive(Clone)]
pub(crate) struct Declines {
    db: Db,
}

impl Declines {
    /// The declines in this database.
    pub(crate) fn new(db: Db) -> Declines {
        Declines { db }
    }

    /// Remembers that a driver has declined; once is enough.
    pub(crate) async fn note(
        &self,
        driver: &DriverId,
        driving: DrivingId,
        reason: String,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let row = row::ActiveModel {
            driver: Set(driver.subject().to_owned()),
            driving: Set(driving.0),
            reason: Set(reason),
            time: Set(now.micros()),
        };
        let key = [row::Column::Driver, row::Column::Driving];
        row::Entity::insert(row)
            .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
            .exec_without_returning(self.db.writer())
            .await
            .map(drop)
            .map_err(failure)
    }

    /// Whether a driver has declined.
    pub(crate) async fn contains(
        &self,
        driver: &DriverId,
        driving: DrivingId,
    ) -> Result<bool, Failure> {
        let key = (driver.subject().to_owned(), driving.0);
        let found = row::Entity::find_by_id(key).one(self.db.reader()).await.map_err(failure)?;
        Ok(found.is_some())
    }
}

/// The ids of all that a driver has declined.
pub(crate) fn declined_by(subject: &str) -> SelectStatement {
    Query::select()
        .column(row::Column::Driving)
        .from(row::Entity)
        .and_where(row::Column::Driver.eq(subject))
        .take()
}
