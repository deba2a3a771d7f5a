//! One leader among replicas: a row in the context's own database, by the database's own clock.
//!
//! Two leaders for a moment (a process that was stopped and wakes up) are harmless by design:
//! publishing is deduplicated by message id (within the broker's window of two minutes; what comes
//! twice after that, consumers ignore), a projection is fenced by its checkpoint, a policy by its
//! cause.

use std::time::Duration;

use kernel::Uuid;
use sea_orm::{ConnectionTrait, DbErr, Statement};

use crate::db::Db;

/// How long a leader is leader without saying so again.
const TERM: Duration = Duration::from_secs(5);
/// How often a leader says so again, and how often the others ask.
pub(crate) const RENEWAL: Duration = Duration::from_secs(1);

/// The wish to be the one that does something.
#[derive(Clone)]
pub struct Lease {
    db: Db,
    name: String,
    holder: Uuid,
}

impl Lease {
    /// A lease by this name; `holder` tells this process from all others.
    pub fn new(db: Db, name: impl Into<String>, holder: Uuid) -> Lease {
        Lease { db, name: name.into(), holder }
    }

    /// Takes or renews the lease; false while another process holds it.
    pub async fn hold(&self) -> Result<bool, DbErr> {
        let now = self.db.now_sql();
        let term = TERM.as_micros();
        let sql = format!(
            "INSERT INTO lease (name, holder, until) VALUES ($1, $2, {now} + {term}) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until \
             WHERE lease.holder = excluded.holder OR lease.until < {now}"
        );
        let values = [self.name.as_str().into(), self.holder.into()];
        let statement = Statement::from_sql_and_values(self.db.backend(), sql, values);
        Ok(self.db.writer().execute_raw(statement).await?.rows_affected() == 1)
    }

    /// Gives the lease up, so that another process need not wait for its term to end.
    pub async fn release(&self) -> Result<(), DbErr> {
        let sql = "DELETE FROM lease WHERE name = $1 AND holder = $2";
        let values = [self.name.as_str().into(), self.holder.into()];
        let statement = Statement::from_sql_and_values(self.db.backend(), sql, values);
        self.db.writer().execute_raw(statement).await.map(|_| ())
    }
}
