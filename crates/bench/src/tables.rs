//! A look into the database of a context.

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use sea_orm::{QueryResult, TryGetable};

use crate::Result;

/// Empties every table but the one that says which migrations were applied.
const EMPTY: &str = "DO $$ BEGIN EXECUTE (
    SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') FROM pg_tables
    WHERE schemaname = 'public' AND tablename <> 'seaql_migrations'); END $$";
/// The columns of some row, and what is in them as SQL literals.
const LITERALS: &str = "SELECT quote_ident(key), quote_nullable(value)
    FROM json_each_text((SELECT row_to_json(it) FROM {table} AS it LIMIT 1))";

/// The tables of one context.
#[derive(Debug)]
pub(crate) struct Tables(DatabaseConnection);

/// A row as text: the names of its columns, and what is in them as SQL literals.
pub(crate) type Row = Vec<(String, String)>;

impl Tables {
    /// Connects once.
    pub(crate) async fn connect(url: &str) -> Result<Tables> {
        let mut options = ConnectOptions::new(url);
        options.max_connections(1).sqlx_logging(false);
        Ok(Tables(Database::connect(options).await?))
    }

    /// Forgets everything, and lets Postgres write what it still has to: the next round starts as
    /// this one did.
    pub(crate) async fn empty(&self) -> Result<()> {
        self.run(EMPTY).await?;
        self.run("CHECKPOINT").await
    }

    /// Executes something.
    pub(crate) async fn run(&self, sql: &str) -> Result<()> {
        self.0.execute_unprepared(sql).await?;
        Ok(())
    }

    /// The one number that a query answers.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64> {
        let row = self.0.query_one_raw(self.statement(sql)).await?;
        get(&row.ok_or_else(|| format!("no row: {sql}"))?, 0)
    }

    /// Some row of a table.
    pub(crate) async fn some_row(&self, table: &str) -> Result<Row> {
        let columns = self.0.query_all_raw(self.statement(&LITERALS.replace("{table}", table)));
        columns.await?.iter().map(|column| Ok((get(column, 0)?, get(column, 1)?))).collect()
    }

    /// Transactions that were committed in this database so far.
    pub(crate) async fn transactions(&self) -> Result<i64> {
        let own = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        self.number(own).await
    }

    /// Bytes that Postgres has logged so far, for all databases.
    pub(crate) async fn logged(&self) -> Result<i64> {
        self.number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").await
    }

    fn statement(&self, sql: &str) -> Statement {
        Statement::from_string(self.0.get_database_backend(), sql)
    }
}

fn get<T: TryGetable>(row: &QueryResult, column: usize) -> Result<T> {
    Ok(row.try_get_by_index(column)?)
}
