//! The whole product under test: the real binary, the real broker, a real database.
//!
//! * [`Mesh::start`]: one `taxi dev` process, what a developer runs;
//! * [`Mesh::serve`]: the production shape, a process for each context, which can be stopped,
//!   killed and started one by one, also as another release ([`Mesh::install`]).
//!
//! A mesh that is dropped by a test that passed checks what every test promises: all outboxes are
//! drained, nothing is parked, and every process ends with 0 on SIGTERM. A test that breaks one of
//! these on purpose says so with [`Mesh::expect_parked`] or [`Mesh::unchecked`].

mod clients;
mod parts;
mod processes;
mod promises;
mod replicas;
mod start;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use platform::nats_server::NatsServer;
use serde::Deserialize;
use tempfile::TempDir;

pub use self::clients::access_token;
pub use self::parts::nats_server_binary;
use crate::postgres::Postgres;
use crate::process::Process;

/// All contexts.
pub const CONTEXTS: [&str; 5] = ["allocation", "driving", "payment", "dashboard", "message"];
/// Those with a relational database. Messages live in the broker's key-value store.
pub const RELATIONAL: [&str; 4] = ["allocation", "driving", "payment", "dashboard"];

/// How long a process may take to be ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How long it may take to end after SIGTERM.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Where the relational contexts keep their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// A file for each context.
    Sqlite,
    /// A fresh database for each context in [`Postgres::shared`].
    Postgres,
}

/// What `taxi dev --ready-file` writes once everything answers.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// Base address of REST, gRPC and gRPC-Web.
    pub gateway: String,
    /// Host and port of each context.
    pub grpc: BTreeMap<String, String>,
    /// The broker.
    pub nats: String,
    /// Base address of the simulated payment provider.
    #[serde(default)]
    pub provider: String,
    /// The data directory.
    pub data: PathBuf,
}

/// A running mesh.
#[derive(Debug)]
pub struct Mesh {
    // Dropped in this order: those who use a thing go before the thing.
    processes: BTreeMap<String, Process>,
    nats: Option<NatsServer>,
    nats_port: u16,
    postgres: Option<Postgres>,
    bin: PathBuf,
    ready: Ready,
    databases: BTreeMap<String, String>,
    settings: BTreeMap<String, BTreeMap<String, String>>,
    http: reqwest::Client,
    parked: i64,
    drain: Duration,
    unchecked: bool,
    files: Option<TempDir>,
}

impl Mesh {
    /// A setting that a context gets when it is started the next time.
    pub fn set(&mut self, context: &str, name: &str, value: &str) {
        let settings = self.settings.entry(context.to_owned()).or_default();
        settings.insert(name.to_owned(), value.to_owned());
    }

    /// Base address of the gateway, such as `http://127.0.0.1:8088`.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.ready.gateway
    }

    /// All addresses.
    #[must_use]
    pub const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Where a context listens: the upstream of a [`Proxy`](crate::Proxy).
    ///
    /// # Panics
    /// When there is no such context.
    #[must_use]
    pub fn address(&self, context: &str) -> SocketAddr {
        match self.ready.grpc.get(context).map(|address| address.parse()) {
            Some(Ok(address)) => address,
            other => panic!("no address for {context}: {other:?}"),
        }
    }

    /// The database of a context.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn database_url(&self, context: &str) -> &str {
        match self.databases.get(context) {
            Some(url) => url,
            None => panic!("{context} has no database"),
        }
    }

    /// The Postgres of a mesh from [`Mesh::serve`], to be killed and restarted.
    ///
    /// # Panics
    /// When the mesh has none of its own.
    pub fn postgres(&mut self) -> &mut Postgres {
        match &mut self.postgres {
            Some(postgres) => postgres,
            None => panic!("only a mesh from Mesh::serve has a Postgres of its own"),
        }
    }

    /// An HTTP client for the gateway.
    #[must_use]
    pub const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Installs another release of the product: what is started from now on is this program.
    pub fn install(&mut self, bin: impl AsRef<Path>) {
        self.bin = bin.as_ref().to_owned();
    }

    fn process(&mut self, name: &str) -> &mut Process {
        match self.processes.get_mut(name) {
            Some(process) => process,
            None => panic!("{name} was never started in this mesh"),
        }
    }

    fn dir(&self) -> &Path {
        // Only Drop takes it.
        self.files.as_ref().map_or(Path::new("."), TempDir::path)
    }
}

/// The binary, without the settings of the person who runs it.
#[must_use]
pub fn program(bin: &Path) -> Command {
    let mut command = Command::new(bin);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("TAXI_")) {
            command.env_remove(name);
        }
    }
    command
}

/// A file that is written as a whole, once it is there; half of it does not parse.
#[must_use]
pub fn read_json<T: for<'de> Deserialize<'de>>(file: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// A test whose mesh does not stand has nothing to say.
#[track_caller]
fn orderly<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
