//! The database of one run: a schema beside the live tables, or a file beside the live file.

use std::io::ErrorKind;
use std::path::PathBuf;

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::MigratorTrait;

use crate::db::{Db, DbConfig};

/// An empty database with the schema of the live one.
pub(super) struct Scratch {
    db: Db,
    home: Home,
}

/// Where it is kept.
enum Home {
    Schema { live: Db, name: String },
    File(PathBuf),
}

impl Scratch {
    /// Makes it, and drops what an interrupted run has left behind.
    pub(super) async fn make<M: MigratorTrait>(
        view: &str,
        live: &Db,
        config: &DbConfig,
    ) -> Result<Scratch, DbErr> {
        let (url, home) = match live.backend() {
            DbBackend::Postgres => {
                let name = format!("{view}_rebuild");
                (in_schema(&config.url, &name), Home::Schema { live: live.clone(), name })
            }
            _ => {
                let url = beside(&config.url);
                let file = file_of(&url)?;
                (url, Home::File(file))
            }
        };
        home.clear().await?;
        home.prepare().await?;
        let db = Db::connect(&DbConfig { url, ..config.clone() }).await?;
        db.migrate::<M>().await?;
        Ok(Scratch { db, home })
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Leaves nothing behind.
    pub(super) async fn remove(self) -> Result<(), DbErr> {
        self.db.reader().close_by_ref().await?;
        self.db.writer().close_by_ref().await?;
        self.home.clear().await
    }
}

impl Home {
    async fn clear(&self) -> Result<(), DbErr> {
        match self {
            Home::Schema { live, name } => {
                let sql = format!("DROP SCHEMA IF EXISTS {name} CASCADE");
                live.writer().execute_unprepared(&sql).await.map(drop)
            }
            Home::File(file) => ["", "-wal", "-shm"].iter().try_for_each(|suffix| {
                let mut path = file.clone().into_os_string();
                path.push(suffix);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        let path = path.display();
                        Err(DbErr::Custom(format!("{path} cannot be removed: {error}")))
                    }
                    _ => Ok(()),
                }
            }),
        }
    }

    async fn prepare(&self) -> Result<(), DbErr> {
        if let Home::Schema { live, name } = self {
            live.writer().execute_unprepared(&format!("CREATE SCHEMA {name}")).await?;
        }
        Ok(())
    }
}

/// The same Postgres database, in another schema.
fn in_schema(url: &str, schema: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options[search_path]={schema}")
}

/// An SQLite file beside this one.
fn beside(url: &str) -> String {
    let (file, parameters) = url.split_at(url.find('?').unwrap_or(url.len()));
    format!("{file}.rebuild{parameters}")
}

fn file_of(url: &str) -> Result<PathBuf, DbErr> {
    let options: SqliteConnectOptions =
        url.parse().map_err(|_| DbErr::Custom("no URL of an SQLite file".to_owned()))?;
    Ok(options.get_filename().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scratch_is_beside_the_live_database() {
        let schema = |url| in_schema(url, "menu_rebuild");
        assert_eq!(schema("postgres://h/d"), "postgres://h/d?options[search_path]=menu_rebuild");
        assert_eq!(
            schema("postgres://h/d?sslmode=require"),
            "postgres://h/d?sslmode=require&options[search_path]=menu_rebuild"
        );
        let url = beside("sqlite:///a%20b/menu.db?cache=private");
        assert_eq!(url, "sqlite:///a%20b/menu.db.rebuild?cache=private");
        assert_eq!(file_of(&url).expect("a file"), PathBuf::from("/a b/menu.db.rebuild"));
    }
}
