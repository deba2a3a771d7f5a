//! The ceiling: pgbench running the SQL of a context on the same Postgres, in a database of its own
//! with the same schema, with nothing around it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::NamedTempFile;
use testkit::Mesh;
use tokio::process::Command;

use crate::Result;

const THREADS: u32 = 2;
const OVERTIME: Duration = Duration::from_secs(30);

/// A pgbench that is ready to run.
#[derive(Debug)]
pub(crate) struct Pgbench {
    program: PathBuf,
    database: String,
    script: NamedTempFile,
}

/// What it tells of one run.
#[derive(Debug, PartialEq)]
pub(crate) struct Transactions {
    pub(crate) count: usize,
    pub(crate) per_second: f64,
    pub(crate) mean_ms: f64,
}

impl Pgbench {
    /// Makes a database with the tables of a context, to run a script on.
    pub(crate) async fn prepare(
        mesh: &mut Mesh,
        binary: &Path,
        context: &str,
        script: &str,
    ) -> Result<Pgbench> {
        let postgres = mesh.postgres();
        let program = postgres.program("pgbench").ok_or("this Postgres came without pgbench")?;
        let database = postgres.database("pgbench").await?;
        let mut migrate = Command::new(binary);
        let url = format!("TAXI_DATABASE__{}__URL", context.to_uppercase());
        migrate.args(["migrate", context]).env(url, &database);
        let migrated = migrate.output().await?;
        if !migrated.status.success() {
            return Err(String::from_utf8_lossy(&migrated.stderr).into());
        }
        let file = NamedTempFile::with_suffix(".sql")?;
        std::fs::write(file.path(), script)?;
        Ok(Pgbench { program, database, script: file })
    }

    /// The address of its database.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Runs for a while, with so many connections.
    pub(crate) async fn run(&self, length: Duration, clients: u32) -> Result<Transactions> {
        let mut pgbench = command(&self.program);
        pgbench.args(["--no-vacuum", "--protocol", "prepared"]);
        pgbench.arg("--client").arg(clients.to_string());
        pgbench.arg("--jobs").arg(THREADS.min(clients).to_string());
        pgbench.arg("--time").arg(length.as_secs().to_string());
        pgbench.arg("--file").arg(self.script.path()).arg(&self.database);
        let output = tokio::time::timeout(length + OVERTIME, pgbench.output()).await??;
        let told = String::from_utf8_lossy(&output.stdout);
        let parsed = parse(&told).filter(|_| output.status.success());
        parsed.ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            format!("pgbench ({}): {told}{complaint}", output.status).into()
        })
    }
}

/// Without the settings of the person who runs it.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_str().is_some_and(|name| name.starts_with("PG"))) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn parse(told: &str) -> Option<Transactions> {
    let after = |start: &str| {
        let rest = told.lines().find_map(|line| line.strip_prefix(start))?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some(Transactions {
        count: after("number of transactions actually processed: ")? as usize,
        per_second: after("tps = ")?,
        mean_ms: after("latency average = ")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_tells_is_understood() {
        let told = "scaling factor: 1\nquery mode: prepared\nnumber of clients: 16\n\
                    number of transactions actually processed: 4711\n\
                    number of failed transactions: 0 (0.000%)\nlatency average = 3.395 ms\n\
                    initial connection time = 21.3 ms\n\
                    tps = 4712.5 (without initial connection time)\n";
        let transactions = Transactions { count: 4711, per_second: 4712.5, mean_ms: 3.395 };
        assert_eq!(parse(told), Some(transactions));
        assert_eq!(parse("pgbench: error"), None);
    }
}
