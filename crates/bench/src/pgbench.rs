//! The ceiling: pgbench running the SQL of RequestAllocation on the same Postgres, in a database of
//! its own with the same schema, with nothing around it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use prost::Message as _;
use prost_types::Timestamp;
use proto::allocation::v1::AllocationRequested;
use proto::r#type::v1::Place;
use tempfile::NamedTempFile;
use testkit::Mesh;
use tokio::process::Command;

use crate::Result;
use crate::city::{destination, pickup};

/// With so many connections this machine's Postgres shares its commits well.
const CLIENTS: &str = "16";
const THREADS: &str = "2";
const OVERTIME: Duration = Duration::from_secs(30);

/// Any time and any id are as good as any other.
const MICROS: i64 = 1_767_225_600_000_000;
const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A pgbench that is ready to run.
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
    /// Makes the database and the script.
    pub(crate) async fn prepare(mesh: &mut Mesh, binary: &Path) -> Result<Pgbench> {
        let postgres = mesh.postgres();
        let program = postgres.program("pgbench").ok_or("this Postgres came without pgbench")?;
        let database = postgres.database("pgbench").await?;
        let mut migrate = Command::new(binary);
        migrate.args(["migrate", "allocation"]).env("TAXI_DATABASE__ALLOCATION__URL", &database);
        let migrated = migrate.output().await?;
        if !migrated.status.success() {
            return Err(String::from_utf8_lossy(&migrated.stderr).into());
        }
        let script = NamedTempFile::with_suffix(".sql")?;
        std::fs::write(script.path(), script_text())?;
        Ok(Pgbench { program, database, script })
    }

    /// Runs for a while.
    pub(crate) async fn run(&self, length: Duration) -> Result<Transactions> {
        let mut pgbench = command(&self.program);
        pgbench.args(["--no-vacuum", "--protocol", "prepared"]);
        pgbench.args(["--client", CLIENTS, "--jobs", THREADS]);
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

/// The statements of `Store::create` for an allocation, as sea-orm writes them. Only a customer has
/// to be another one each time, and the database makes the ids. pgbench sees a variable in every
/// colon before a letter, in a string too.
fn script_text() -> String {
    let (from, to) = (columns(&pickup()), columns(&destination()));
    let payload = hex(&event().encode_to_vec());
    let fingerprint = "0".repeat(64);
    format!(
        r#"\set n random(1, 1000000000000000)
BEGIN;
INSERT INTO "allocation" ("id", "revision", "version", "customer", "state", "language", "pickup_address", "pickup_latitude", "pickup_longitude", "destination_address", "destination_latitude", "destination_longitude", "slot", "open_slot", "expire_time", "expiring", "driving", "driver", "cancel_reason", "create_time", "update_time") VALUES (gen_random_uuid(), 1, 1, 'bench-' || :n::text, 'REQUESTED', 'ko', {from}, {to}, 0, 'customers/bench-' || :n::text || '#0', {MICROS}, FALSE, NULL, NULL, '', {MICROS}, {MICROS});
INSERT INTO "outbox" ("event", "aggregate", "version", "kind", "correlation", "causation", "trace", "time", "payload", "sent_at") VALUES (gen_random_uuid(), gen_random_uuid(), 1, 'taxi.allocation.v1.AllocationRequested', gen_random_uuid(), gen_random_uuid(), '{TRACE}', {MICROS}, '\x{payload}'::bytea, NULL);
INSERT INTO "cause" ("id", "actor", "fingerprint", "aggregate", "time") VALUES (gen_random_uuid(), 'operator bench', '{fingerprint}', gen_random_uuid(), {MICROS});
COMMIT;
"#
    )
}

fn columns(place: &Place) -> String {
    let at = place.location.unwrap_or_default();
    format!("'{}', {:?}, {:?}", place.address, at.latitude, at.longitude)
}

/// An event of the right size.
fn event() -> AllocationRequested {
    let time = Timestamp { seconds: MICROS / 1_000_000, nanos: 1_000 };
    AllocationRequested {
        allocation: format!("allocations/{ID}"),
        customer: "customers/bench-123456".to_owned(),
        driving: String::new(),
        pickup: Some(pickup()),
        destination: Some(destination()),
        language: "ko".to_owned(),
        request_time: Some(time),
        expire_time: Some(time),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

    #[test]
    fn the_script_has_one_statement_a_line() {
        let script = script_text();
        let statements = script.lines().skip(1);
        assert!(statements.clone().all(|line| line.ends_with(';')), "{script}");
        assert_eq!(statements.count(), 5);
    }
}
