//! Statements that end: a database that has vanished without a word must not hold anybody for ever.
//!
//! Neither TCP nor sqlx notices before a quarter of an hour that a host is gone, a statement that
//! waits for it would wait as long, and so would its connection.

use std::ops::Deref;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use sea_orm::sqlx::postgres::{PgConnection, Postgres};
use sea_orm::sqlx::{self, Connection as _, pool::PoolOptions};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    Statement,
};

/// How long a statement may take: longer than waiting for a connection and for a lock.
pub(super) const PATIENCE: Duration = Duration::from_secs(6);
/// How long a connection may take to say that it is there, when it is given back.
const FAREWELL: Duration = Duration::from_secs(1);

/// Connections whose single statements end. In a transaction it is for its owner to look at the
/// clock.
#[derive(Clone)]
pub struct Patient(pub(super) DatabaseConnection);

async fn patiently<T>(statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
    let silent = || DbErr::Conn(RuntimeErr::Internal("the database is silent".to_owned()));
    tokio::time::timeout(PATIENCE, statement).await.unwrap_or_else(|_| Err(silent()))
}

#[async_trait]
impl ConnectionTrait for Patient {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        patiently(self.0.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        patiently(self.0.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        patiently(self.0.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        patiently(self.0.query_all_raw(statement)).await
    }
}

impl Deref for Patient {
    type Target = DatabaseConnection;

    fn deref(&self) -> &DatabaseConnection {
        &self.0
    }
}

/// Lets go of connections that do not answer when they are given back, instead of waiting for them.
pub(super) fn let_go(pool: PoolOptions<Postgres>) -> PoolOptions<Postgres> {
    pool.after_release(|connection, _| answers(connection).boxed())
}

async fn answers(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(FAREWELL, connection.ping()).await {
        Ok(answer) => answer.map(|()| true),
        Err(elapsed) => Err(sqlx::Error::Io(elapsed.into())),
    }
}
