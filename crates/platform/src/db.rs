//! A context's own database: Postgres, or SQLite with one writer, behind the same code.

mod patient;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use kernel::Failure;
use sea_orm::sqlx::Connection as _;
use sea_orm::sqlx::sqlite::{SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseTransaction, DbBackend, DbErr, ExprTrait,
    RuntimeErr, SqlErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
    Value, sqlx,
};
use sea_orm_migration::{MigratorTrait, SchemaManager};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

pub use self::patient::Patient;

/// Where a context keeps its rows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DbConfig {
    /// `postgres://user:password@host/database` or `sqlite://path/to/file.db`.
    pub url: String,
    /// Connections to Postgres for reading; those that write are few and prepared.
    #[serde(default = "default_connections")]
    pub max_connections: u32,
}

fn default_connections() -> u32 {
    32
}

/// The database of one context. SQLite has one writing connection, so that writers queue in the pool
/// instead of failing with "database is locked". Postgres has a few: commands share transactions
/// anyway, and the statements of few connections stay prepared.
#[derive(Clone)]
pub struct Db {
    write: Patient,
    read: Patient,
    refused: Arc<AtomicBool>,
}

impl Db {
    /// Prepares to connect. Only a malformed URL fails: a database that is away is waited for.
    pub async fn connect(config: &DbConfig) -> Result<Db, DbErr> {
        let sqlite = config.url.starts_with("sqlite:");
        let (writers, readers) = if sqlite { (1, 4) } else { (4, config.max_connections) };
        // Writers of SQLite queue here, behind one that may wait for the lock of another process.
        let patience = Duration::from_secs(if sqlite { 5 } else { 3 });
        let write = Database::connect(options(config, writers, patience)).await?;
        let read = Database::connect(options(config, readers, patience)).await?;
        Ok(Db { write: Patient(write), read: Patient(read), refused: Arc::default() })
    }

    /// For queries outside a transaction.
    pub fn reader(&self) -> &Patient {
        &self.read
    }

    /// For single statements that write.
    pub fn writer(&self) -> &Patient {
        &self.write
    }

    /// Starts a transaction that will write.
    pub async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        let sqlite_transaction_mode =
            (self.backend() == DbBackend::Sqlite).then_some(SqliteTransactionMode::Immediate);
        self.write
            .begin_with_options(TransactionOptions {
                sqlite_transaction_mode,
                ..Default::default()
            })
            .await
    }

    /// Which database it is.
    pub fn backend(&self) -> DbBackend {
        self.write.get_database_backend()
    }

    /// Brings the schema up to date, all of it or nothing; says which migrations it applied. Whoever
    /// does the same at that moment waits, and finds nothing left to do; so does a program that is
    /// older than the schema.
    pub async fn migrate<M: MigratorTrait>(&self) -> Result<Vec<String>, DbErr> {
        let transaction = self.begin().await?;
        if self.backend() == DbBackend::Postgres {
            transaction.execute_unprepared(ONE_AT_A_TIME).await?;
        }
        // The library refuses to count what is pending beside migrations that it does not know.
        if all_applied::<M>(&transaction).await? {
            transaction.commit().await?;
            return Ok(Vec::new());
        }
        let pending = M::get_pending_migrations(&transaction).await?;
        M::up(&transaction, None).await?;
        transaction.commit().await?;
        Ok(pending.iter().map(|migration| migration.name().to_owned()).collect())
    }

    /// Whether the database answers and its schema is at least as new as this program.
    pub async fn ready<M: MigratorTrait>(&self) -> Result<bool, DbErr> {
        all_applied::<M>(&self.read).await
    }

    /// Notes that a write has failed for reasons of the database: its disk is full, say.
    pub(crate) fn refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether the database takes writes. After one has failed this tries a real one, which needs
    /// room on the disk.
    pub async fn writable(&self) -> Result<(), DbErr> {
        if !self.refused.load(Ordering::Relaxed) {
            return Ok(());
        }
        let nil = || Value::from(kernel::Uuid::nil());
        let insert = "INSERT INTO cause (id, actor, fingerprint, aggregate, answer, time) \
                      VALUES ($1, 'probe', '', $2, $3, 0) \
                      ON CONFLICT (id, actor) DO UPDATE SET answer = excluded.answer";
        let probe = [nil(), nil(), incompressible(ROOM).into()];
        let insert = Statement::from_sql_and_values(self.backend(), insert, probe);
        self.write.execute_raw(insert).await?;
        let delete = "DELETE FROM cause WHERE id = $1 AND actor = 'probe'";
        let delete = Statement::from_sql_and_values(self.backend(), delete, [nil()]);
        self.write.execute_raw(delete).await?;
        self.refused.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// The database's own clock in microseconds since the epoch, as an SQL expression.
    pub fn now_sql(&self) -> &'static str {
        match self.backend() {
            DbBackend::Sqlite => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            _ => "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
        }
    }
}

/// Whether all migrations that this program knows are applied; makes their table when there is none.
async fn all_applied<M: MigratorTrait>(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let applied = M::get_migration_models(db).await?;
    let is_applied = |name: &str| applied.iter().any(|row| row.version == name);
    Ok(M::migrations().iter().all(|migration| is_applied(migration.name())))
}

/// Makes those who migrate wait for each other: for long. For the lock of a table in use they wait
/// only briefly, for whoever comes after waits behind them; but how long they then hold it, nothing
/// limits. So a migration does nothing that takes long on a big table in use: its index is built with
/// `CREATE INDEX CONCURRENTLY` before, and the migration says `IF NOT EXISTS`.
const ONE_AT_A_TIME: &str = "SET LOCAL lock_timeout = '10min'; \
                             SELECT pg_advisory_xact_lock(7461786900); \
                             SET LOCAL lock_timeout = '2s'";

/// How many bytes are written to see whether there is room.
const ROOM: usize = 64 * 1024;

/// A text that takes as much room as it has characters.
fn incompressible(length: usize) -> String {
    let digest = |n: usize| format!("{:x}", Sha256::digest(n.to_be_bytes()));
    (0..length.div_ceil(64)).map(digest).collect()
}

/// Prepared statements a connection keeps: one for each size of a batch.
const STATEMENTS: usize = 512;

fn options(config: &DbConfig, connections: u32, patience: Duration) -> ConnectOptions {
    let mut options = ConnectOptions::new(&config.url);
    options
        .max_connections(connections)
        .connect_lazy(true)
        .acquire_timeout(patience)
        .test_before_acquire_if_idle_for(Duration::from_secs(1))
        .sqlx_logging(false)
        .map_sqlx_postgres_pool_opts(patient::let_go)
        .map_sqlx_postgres_opts(|options| {
            // A replica that is frozen in the middle of a transaction must not freeze the others.
            options
                .statement_cache_capacity(STATEMENTS)
                .options([("lock_timeout", "2s"), ("idle_in_transaction_session_timeout", "5s")])
        })
        .map_sqlx_sqlite_pool_opts(|pool| {
            pool.after_release(|connection, _| is_clean(connection).boxed())
        })
        .map_sqlx_sqlite_opts(|options| {
            options
                .statement_cache_capacity(STATEMENTS)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(5))
        });
    options
}

/// Whether a connection may be used again. SQLite ends a transaction by itself when its disk is full,
/// and sqlx still counts it: all that came next would be answered, seen by this connection alone, and
/// never committed. Closing it is the only cure.
async fn is_clean(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // A rollback that was queued is done before the answer.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// The column type of a UUID.
pub fn uuid_type(manager: &SchemaManager<'_>) -> &'static str {
    match manager.get_database_backend() {
        DbBackend::Sqlite => "blob",
        _ => "uuid",
    }
}

/// What a write ran into.
pub(crate) enum WriteError {
    /// A unique constraint, by the database's own words, which name the index or its columns.
    Unique(String),
    /// Another replica wanted the same rows, and this transaction had to give way.
    Overtaken,
    /// The database, which cannot be reached or says nothing.
    Away(Failure),
    /// Anything else.
    Failed(Failure),
}

impl WriteError {
    /// What it means that a transaction could not even begin.
    pub(crate) fn at_the_begin(error: DbErr) -> WriteError {
        match WriteError::from(error) {
            WriteError::Failed(failure @ Failure::Unavailable(_)) => WriteError::Away(failure),
            other => other,
        }
    }
}

impl From<DbErr> for WriteError {
    fn from(error: DbErr) -> WriteError {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(words)) => WriteError::Unique(words),
            _ if code(&error).is_some_and(|code| code.len() == 5 && code.starts_with("40")) => {
                WriteError::Overtaken
            }
            _ => WriteError::Failed(failure(error)),
        }
    }
}

/// Tells a database that is away or overloaded from a defect.
pub fn failure(error: DbErr) -> Failure {
    if is_transient(&error) { Failure::Unavailable(error.into()) } else { internal(error) }
}

/// A defect, with its chain for the log.
pub fn internal(error: impl Error + Send + Sync + 'static) -> Failure {
    Failure::Internal(error.into())
}

fn is_transient(error: &DbErr) -> bool {
    match sqlx_error(error) {
        None => matches!(error, DbErr::Conn(_) | DbErr::ConnectionAcquire(_)),
        Some(sqlx::Error::Database(_)) => {
            let code = code(error).unwrap_or_default();
            // Postgres: connection, resources, operator intervention, giving way; a lock that is not
            // to be had, a transaction that was idle, a primary that is none any more.
            let postgres = matches!(code.get(..2), Some("08" | "53" | "57" | "40"))
                || matches!(code.as_str(), "55P03" | "25P03" | "25006");
            // SQLite, the low byte of the extended code: busy, locked, I/O, full, cannot open.
            let sqlite = code.parse::<i32>().map(|code| code & 0xff);
            code.len() == 5 && postgres
                || code.len() < 5 && matches!(sqlite, Ok(5 | 6 | 10 | 13 | 14))
        }
        Some(error) => matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        ),
    }
}

/// The database's own code: SQLSTATE on Postgres, the extended result code on SQLite.
fn code(error: &DbErr) -> Option<String> {
    let code = sqlx_error(error)?.as_database_error()?.code()?;
    Some(code.into_owned())
}

fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

/// Compares the column `id`, which every aggregate's table has.
pub(crate) fn id_is(id: kernel::Uuid) -> sea_orm::sea_query::SimpleExpr {
    sea_orm::sea_query::Expr::col("id").eq(id)
}

#[cfg(test)]
mod tests {
    use sea_orm_migration::{MigrationName, MigrationTrait};

    use super::*;

    /// One more table.
    struct Table(&'static str);

    impl MigrationName for Table {
        fn name(&self) -> &str {
            self.0
        }
    }

    #[async_trait::async_trait]
    impl MigrationTrait for Table {
        async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
            let sql = format!("CREATE TABLE {} (n integer)", self.0);
            manager.get_connection().execute_unprepared(&sql).await.map(drop)
        }
    }

    struct Old;
    struct New;

    impl MigratorTrait for Old {
        fn migrations() -> Vec<Box<dyn MigrationTrait>> {
            vec![Box::new(Table("first"))]
        }
    }

    impl MigratorTrait for New {
        fn migrations() -> Vec<Box<dyn MigrationTrait>> {
            vec![Box::new(Table("first")), Box::new(Table("second"))]
        }
    }

    #[tokio::test]
    async fn an_older_program_leaves_a_newer_schema_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}/test.db", dir.path().display());
        let db = Db::connect(&DbConfig { url, max_connections: 1 }).await.expect("a URL");
        assert_eq!(db.migrate::<Old>().await.expect("new"), ["first"]);
        assert_eq!(db.migrate::<New>().await.expect("upgraded"), ["second"]);
        assert_eq!(db.migrate::<New>().await.expect("the same"), [""; 0]);
        assert_eq!(db.migrate::<Old>().await.expect("rolled back"), [""; 0]);
        assert_eq!(db.ready::<Old>().await, Ok(true));
    }

    #[tokio::test]
    async fn what_is_committed_after_sqlite_has_rolled_back_by_itself_is_on_record() {
        let dir = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}/test.db", dir.path().display());
        let db = Db::connect(&DbConfig { url, max_connections: 1 }).await.expect("a URL");
        let table = "CREATE TABLE t (n integer PRIMARY KEY); INSERT INTO t VALUES (1)";
        db.writer().execute_unprepared(table).await.expect("made");
        // The first one rolls back by itself, as SQLite does when its disk is full.
        for insert in ["INSERT OR ROLLBACK INTO t VALUES (1)", "INSERT INTO t VALUES (1)"] {
            let tx = db.begin().await.expect("begins");
            tx.execute_unprepared(insert).await.expect_err("a conflict");
        }
        let tx = db.begin().await.expect("begins");
        tx.execute_unprepared("INSERT INTO t VALUES (2)").await.expect("no conflict");
        tx.commit().await.expect("committed");
        let count = Statement::from_string(db.backend(), "SELECT count(*) FROM t");
        let row = db.reader().query_one_raw(count).await.expect("counted").expect("a row");
        assert_eq!(row.try_get_by_index::<i64>(0), Ok(2));
    }
}
