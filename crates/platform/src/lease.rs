//! Who does what among replicas: rows in the context's own database, by the database's own clock.
//!
//! A [`Lease`] has one holder: the relay, a periodic task. [`Shards`] are many leases of one kind,
//! which the replicas share evenly: each says every second that it is there, renews what it holds,
//! takes what nobody holds and gives up what is more than its share.
//!
//! Leases are for order and economy, not for safety. Two holders for a moment (a process that was
//! stopped and wakes up) are harmless by design: the broker refuses a second copy of an event, a
//! projection is fenced by its checkpoint, a policy by its cause.

use std::collections::BTreeSet;
use std::time::Duration;

use kernel::Uuid;
use sea_orm::{ConnectionTrait, DbErr, ExecResult, Statement, Value};

use crate::db::Db;
use crate::metrics;

/// How long a holder is holder without saying so again.
const TERM: Duration = Duration::from_secs(4);
/// How often a holder says so again, and how often the others ask.
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
        let held = self.take().await?;
        metrics::lease_changed(&self.name, held);
        Ok(held)
    }

    async fn take(&self) -> Result<bool, DbErr> {
        let (now, term) = (self.db.now_sql(), TERM.as_micros());
        let sql = format!(
            "INSERT INTO lease (name, holder, until) VALUES ($1, $2, {now} + {term}) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until \
             WHERE lease.holder = excluded.holder OR lease.until < {now}"
        );
        let values = [self.name.as_str().into(), self.holder.into()];
        Ok(execute(&self.db, &sql, values).await?.rows_affected() == 1)
    }

    /// Gives the lease up, so that another process need not wait for its term to end.
    pub async fn release(&self) -> Result<(), DbErr> {
        let sql = "DELETE FROM lease WHERE name = $1 AND holder = $2";
        let values = [self.name.as_str().into(), self.holder.into()];
        execute(&self.db, sql, values).await.map(drop)
    }
}

/// The wish for a fair share of the shards of one kind of work.
#[derive(Clone)]
pub struct Shards {
    db: Db,
    name: String,
    holder: Uuid,
    count: u64,
}

/// What one round has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// The shards that are this replica's.
    pub(crate) held: BTreeSet<u64>,
    /// Those among them that others wait for: to be released when the work in hand is done.
    pub(crate) surplus: BTreeSet<u64>,
}

/// Who holds what, as one replica sees it.
#[derive(Debug, Default)]
struct Present {
    members: BTreeSet<Uuid>,
    taken: BTreeSet<u64>,
    own: BTreeSet<u64>,
}

impl Shards {
    /// The shards `0..count` of this kind of work.
    pub fn new(db: Db, name: impl Into<String>, holder: Uuid, count: u64) -> Shards {
        Shards { db, name: name.into(), holder, count }
    }

    /// Says that this replica is there, renews what it holds, and takes what is free.
    pub(crate) async fn round(&self) -> Result<Share, DbErr> {
        self.renew().await?;
        let mut present = self.look().await?;
        if present.members.insert(self.holder) {
            self.forget_the_dead().await?;
            self.take(&self.member(self.holder)).await?;
        }
        let share = fair_share(&present.members, self.holder, self.count);
        for shard in (0..self.count).filter(|shard| !present.taken.contains(shard)) {
            if present.own.len() < share && self.take(&self.shard(shard)).await? {
                present.own.insert(shard);
            }
        }
        for shard in 0..self.count {
            metrics::lease_changed(&self.shard(shard), present.own.contains(&shard));
        }
        let surplus = present.own.iter().skip(share).copied().collect();
        Ok(Share { held: present.own, surplus })
    }

    /// Gives one shard up.
    pub(crate) async fn release(&self, shard: u64) -> Result<(), DbErr> {
        Lease::new(self.db.clone(), self.shard(shard), self.holder).release().await
    }

    /// Gives everything up: this replica will not be there any more.
    pub(crate) async fn leave(&self) -> Result<(), DbErr> {
        let sql = "DELETE FROM lease WHERE holder = $1 AND name LIKE $2";
        execute(&self.db, sql, [self.holder.into(), self.all().into()]).await.map(drop)
    }

    async fn renew(&self) -> Result<(), DbErr> {
        let (now, term) = (self.db.now_sql(), TERM.as_micros());
        let sql =
            format!("UPDATE lease SET until = {now} + {term} WHERE holder = $1 AND name LIKE $2");
        execute(&self.db, &sql, [self.holder.into(), self.all().into()]).await.map(drop)
    }

    async fn look(&self) -> Result<Present, DbErr> {
        let now = self.db.now_sql();
        let sql = format!("SELECT name, holder FROM lease WHERE name LIKE $1 AND until >= {now}");
        let statement = Statement::from_sql_and_values(self.db.backend(), sql, [self.all().into()]);
        let mut present = Present::default();
        for row in self.db.writer().query_all_raw(statement).await? {
            let (name, holder): (String, Uuid) = (row.try_get_by(0)?, row.try_get_by(1)?);
            match name.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('.')) {
                None => drop(present.members.insert(holder)),
                Some(shard) => {
                    let shard = shard.parse().unwrap_or(u64::MAX);
                    present.taken.insert(shard);
                    if holder == self.holder {
                        present.own.insert(shard);
                    }
                }
            }
        }
        Ok(present)
    }

    /// Removes members that have not been heard of for long.
    async fn forget_the_dead(&self) -> Result<(), DbErr> {
        let (now, long_ago) = (self.db.now_sql(), (TERM * 100).as_micros());
        let sql = format!("DELETE FROM lease WHERE name LIKE $1 AND until < {now} - {long_ago}");
        execute(&self.db, &sql, [self.all().into()]).await.map(drop)
    }

    /// Takes one name, unless another holds it.
    async fn take(&self, name: &str) -> Result<bool, DbErr> {
        Lease::new(self.db.clone(), name, self.holder).take().await
    }

    fn shard(&self, shard: u64) -> String {
        format!("{}.{shard}", self.name)
    }

    fn member(&self, holder: Uuid) -> String {
        format!("{}@{holder}", self.name)
    }

    fn all(&self) -> String {
        format!("{}%", self.name)
    }
}

/// How many of the shards are this member's: as many as everybody's, the odd ones in order.
fn fair_share(members: &BTreeSet<Uuid>, member: Uuid, count: u64) -> usize {
    let (count, all) = (count as usize, members.len().max(1));
    let rank = members.iter().position(|other| *other == member).unwrap_or(all);
    count / all + usize::from(rank < count % all)
}

async fn execute(
    db: &Db,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<ExecResult, DbErr> {
    let statement = Statement::from_sql_and_values(db.backend(), sql, values);
    // The one write that never ceases: it tells first that there can be none.
    db.writer().execute_raw(statement).await.inspect_err(|_| db.refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_fair_and_complete() {
        for count in [0, 1, 3, 8, 64] {
            for replicas in 1..=9u128 {
                let members: BTreeSet<Uuid> = (1..=replicas).map(Uuid::from_u128).collect();
                let shares: Vec<usize> =
                    members.iter().map(|member| fair_share(&members, *member, count)).collect();
                assert_eq!(shares.iter().sum::<usize>() as u64, count);
                let (most, least) = (shares.iter().max(), shares.iter().min());
                assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1));
            }
        }
    }
}
