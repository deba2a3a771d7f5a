//! What a context has still to do, by its own tables.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};

use crate::postgres::connect;

/// What is left when a mesh should have drained.
pub(crate) struct Backlog {
    /// Events that the broker has not acknowledged.
    pub(crate) unsent: i64,
    /// Events that could not be applied.
    pub(crate) parked: i64,
}

impl Backlog {
    /// Counts in the database of one context.
    pub(crate) async fn of(url: &str) -> Result<Self, DbErr> {
        let database = connect(url).await?;
        let unsent = count(&database, "SELECT count(*) FROM outbox WHERE sent_at IS NULL").await?;
        let parked = count(&database, "SELECT count(*) FROM parked_event").await?;
        database.close().await?;
        Ok(Self { unsent, parked })
    }
}

async fn count(database: &DatabaseConnection, sql: &str) -> Result<i64, DbErr> {
    let statement = Statement::from_string(database.get_database_backend(), sql);
    match database.query_one_raw(statement).await? {
        Some(row) => row.try_get_by_index(0),
        None => Err(DbErr::RecordNotFound(sql.to_owned())),
    }
}
