//! A real Postgres as a child process.
//!
//! The programs are looked for in `$PG_BIN`, `PATH`, and Debian's `/usr/lib/postgresql/*/bin` (the
//! highest version). Postgres refuses to run as root, so root runs it as `postgres` or `nobody`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use platform::leash::Leash;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::process::{free_port, signal, tail};

const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
const PORT_TRIES: u32 = 5;
const SUPERUSER: &str = "taxi";

/// Whether an acknowledged commit must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Postgres' own defaults: every commit waits for the disk.
    #[default]
    Durable,
    /// No waiting for the disk: for tests that do not measure and do not pull plugs. A crash of
    /// the server process itself still loses nothing.
    Fast,
}

/// Why there is no Postgres.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The programs are not installed.
    #[error(
        "no initdb and postgres were found in $PG_BIN, PATH or /usr/lib/postgresql/*/bin: \
         `apt-get install postgresql`, or run `make test`, which does"
    )]
    Missing,
    /// Root without a user to become.
    #[error(
        "Postgres refuses to run as root, and there is neither a user `postgres` nor `nobody`: \
         run the tests as an ordinary user"
    )]
    NoUser,
    /// The operating system said no.
    #[error("Postgres: {what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed:\n{output}")]
    Failed {
        /// The program.
        program: &'static str,
        /// What it printed.
        output: String,
    },
    /// A statement failed.
    #[error("Postgres does not take a statement")]
    Sql(#[from] DbErr),
}

fn io(what: &'static str) -> impl FnOnce(io::Error) -> PostgresError {
    move |source| PostgresError::Io { what, source }
}

/// A server of its own on 127.0.0.1, on a port chosen by the kernel. Dropping it stops it.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    user: Option<(u32, u32)>,
    durability: Durability,
    port: u16,
    server: Option<Server>,
    // Last, so that the files go after the process.
    dir: TempDir,
}

/// The process of a server that runs.
#[derive(Debug)]
struct Server {
    child: Child,
    _leash: Leash,
}

static SHARED: OnceCell<Postgres> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

impl Postgres {
    /// Makes a cluster and starts a server on it.
    ///
    /// # Errors
    /// When Postgres is not installed or does not come up.
    pub async fn start(durability: Durability) -> Result<Self, PostgresError> {
        let programs = programs().ok_or(PostgresError::Missing)?;
        let dir = tempfile::Builder::new()
            .prefix("postgres-")
            .tempdir()
            .map_err(io("no temporary directory"))?;
        let owner = dir.path().metadata().map_err(io("no temporary directory"))?;
        let user = if owner.uid() == 0 {
            let user = unprivileged().ok_or(PostgresError::NoUser)?;
            std::os::unix::fs::chown(dir.path(), Some(user.0), Some(user.1))
                .map_err(io("the temporary directory cannot be handed over"))?;
            Some(user)
        } else {
            None
        };
        let mut postgres = Self { programs, user, durability, port: 0, server: None, dir };
        postgres.initdb().await?;
        let mut tries = 0;
        loop {
            // Somebody may take the port between our look and the server's bind.
            postgres.port = free_port().map_err(io("no free port"))?;
            match postgres.launch().await {
                Ok(()) => return Ok(postgres),
                Err(PostgresError::Failed { output, .. })
                    if output.contains("could not bind") && tries < PORT_TRIES =>
                {
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The one server of this test process, started by the first who asks. A static is never
    /// dropped, but the server ends with the process all the same: see [`Leash`].
    ///
    /// # Panics
    /// When there is no Postgres: a test without its database has nothing to say.
    pub async fn shared() -> &'static Self {
        let start = || async {
            match Self::start(Durability::Fast).await {
                Ok(postgres) => postgres,
                Err(error) => panic!("{}", chain(&error)),
            }
        };
        SHARED.get_or_init(start).await
    }

    /// A fresh, empty database, for one context of one test.
    ///
    /// # Errors
    /// When the server does not make one.
    pub async fn database(&self, prefix: &str) -> Result<String, PostgresError> {
        let n = DATABASES.fetch_add(1, Ordering::Relaxed);
        let prefix: String =
            prefix.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let name = format!("{}_{n}", prefix.to_ascii_lowercase());
        let admin = connect(&self.url("postgres")).await?;
        admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
        admin.close().await?;
        Ok(self.url(&name))
    }

    /// The address of a database of this server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Another program of the same installation, such as `pgbench`. The server that was found may be
    /// a link to it.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let server = self.programs.join("postgres").canonicalize().ok()?;
        Some(server.with_file_name(name)).filter(|path| path.is_file())
    }

    /// The process id of the server, while it runs: the parent of all its backends.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.child.id())
    }

    /// The port it listens on, also across [`Postgres::restart`] as long as nobody else takes it.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server (SIGKILL), as a crash would. The files stay.
    ///
    /// # Errors
    /// When the process cannot be killed.
    pub fn kill(&mut self) -> Result<(), PostgresError> {
        if let Some(mut server) = self.server.take() {
            server.child.kill().map_err(io("the server cannot be killed"))?;
            server.child.wait().map_err(io("the server cannot be awaited"))?;
        }
        Ok(())
    }

    /// Stops the server in an orderly way, disconnecting everybody. The files stay.
    ///
    /// # Errors
    /// When the process does not end.
    pub async fn stop(&mut self) -> Result<(), PostgresError> {
        // SIGINT is Postgres' "fast shutdown".
        self.end("INT").await
    }

    /// Stops the server and all its backends at once, without a word to anybody: the next start
    /// recovers from the log. The files stay.
    ///
    /// # Errors
    /// When the process does not end.
    pub async fn abort(&mut self) -> Result<(), PostgresError> {
        // SIGQUIT is Postgres' "immediate shutdown".
        self.end("QUIT").await
    }

    async fn end(&mut self, how: &str) -> Result<(), PostgresError> {
        let Some(server) = &mut self.server else { return Ok(()) };
        signal(how, &server.child.id().to_string()).map_err(io("the server takes no signal"))?;
        let end = Instant::now() + STOP_DEADLINE;
        while server.child.try_wait().map_err(io("the server cannot be awaited"))?.is_none() {
            if Instant::now() >= end {
                return Err(self.failed("postgres"));
            }
            sleep(POLL).await;
        }
        self.server = None;
        Ok(())
    }

    /// Starts the server again, on the same files, and on the same port unless somebody else has
    /// taken it meanwhile.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<(), PostgresError> {
        self.stop().await?;
        let end = Instant::now() + START_DEADLINE;
        loop {
            match self.launch().await {
                Err(PostgresError::Failed { output, .. }) if Instant::now() < end => {
                    if output.contains("could not bind") {
                        self.port = free_port().map_err(io("no free port"))?;
                    } else if !output.contains("is still in use") {
                        // Backends of a killed postmaster hold the shared memory for a moment.
                        return Err(PostgresError::Failed { program: "postgres", output });
                    }
                    sleep(POLL).await;
                }
                result => return result,
            }
        }
    }

    async fn initdb(&self) -> Result<(), PostgresError> {
        let log = self.log_file()?;
        let mut child = self
            .command("initdb")
            .args(["--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8"])
            .args(["--locale", "C", "--no-sync", "--no-instructions", "--pgdata"])
            .arg(self.data())
            .stdout(log.try_clone().map_err(io("no log"))?)
            .stderr(log)
            .spawn()
            .map_err(io("initdb cannot be started"))?;
        loop {
            match child.try_wait().map_err(io("initdb cannot be awaited"))? {
                Some(status) if status.success() => return Ok(()),
                Some(_) => return Err(self.failed("initdb")),
                None => sleep(POLL).await,
            }
        }
    }

    async fn launch(&mut self) -> Result<(), PostgresError> {
        let log = self.log_file()?;
        let pid_file = self.data().join("postmaster.pid");
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        for setting in
            ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=400"]
        {
            command.args(["-c", setting]);
        }
        if self.durability == Durability::Fast {
            for setting in ["fsync=off", "synchronous_commit=off", "full_page_writes=off"] {
                command.args(["-c", setting]);
            }
        }
        let mut child = command
            .stdout(log.try_clone().map_err(io("no log"))?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(io("postgres cannot be started"))?;
        // SIGQUIT is Postgres' "immediate shutdown": it takes its backends and its shared memory
        // along, which SIGKILL would not.
        let leash = Leash::on_process_and_dir(child.id(), "QUIT", self.dir.path());
        let leash = match leash {
            Ok(leash) => leash,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(io("no shell")(error));
            }
        };
        let pid = child.id();
        let mut server = Server { child, _leash: leash };
        let end = Instant::now() + START_DEADLINE;
        while !says_ready(&pid_file, pid) {
            let ended = server.child.try_wait().map_err(io("postgres cannot be awaited"))?;
            if ended.is_some() || Instant::now() >= end {
                return Err(self.failed("postgres"));
            }
            sleep(POLL).await;
        }
        self.server = Some(server);
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        // Settings of the person who runs the tests are not ours.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.gid(gid).uid(uid);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log_file(&self) -> Result<std::fs::File, PostgresError> {
        std::fs::File::create(self.dir.path().join("postgres.log")).map_err(io("no log"))
    }

    fn failed(&self, program: &'static str) -> PostgresError {
        PostgresError::Failed { program, output: tail(&self.dir.path().join("postgres.log")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The data is thrown away: the quickest end is the best.
            let asked = signal("QUIT", &self.child.id().to_string());
            if asked.is_err() {
                let _ = self.child.kill();
            }
            let _ = self.child.wait();
        }
    }
}

/// A connection for tests: one, and quiet.
pub(crate) async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false).connect_timeout(Duration::from_secs(5));
    Database::connect(options).await
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The directory with both programs.
fn programs() -> Option<PathBuf> {
    let usable = |dir: &PathBuf| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    if let Some(dir) = std::env::var_os("PG_BIN").filter(|dir| !dir.is_empty()) {
        return Some(PathBuf::from(dir)).filter(usable);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(dir) = std::env::split_paths(&path).find(usable) {
        return Some(dir);
    }
    let versions = Path::new("/usr/lib/postgresql").read_dir().ok()?;
    let mut versions: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, dir)| usable(dir))
        .collect();
    versions.sort();
    versions.pop().map(|(_, dir)| dir)
}

/// User and group id of somebody who may run Postgres.
fn unprivileged() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].iter().find_map(|name| in_passwd(&users, name))
}

fn in_passwd(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The lock file has the process id in its first line and its state in the eighth.
fn says_ready(pid_file: &Path, pid: u32) -> bool {
    let text = std::fs::read(pid_file).unwrap_or_default();
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.next() == Some(pid.to_string().as_bytes())
        && lines.nth(6) == Some(OsStr::new("ready").as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::Statement;

    async fn one(url: &str, sql: &str) -> i64 {
        let database = connect(url).await.expect("connects");
        let row = database
            .query_one_raw(Statement::from_string(database.get_database_backend(), sql))
            .await
            .expect("answers")
            .expect("a row");
        row.try_get_by_index(0).expect("a number")
    }

    #[tokio::test]
    async fn every_test_has_its_own_database() {
        let postgres = Postgres::shared().await;
        let first = postgres.database("allocation").await.expect("made");
        let second = postgres.database("allocation").await.expect("made");
        assert_ne!(first, second);
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
        assert_eq!(one(&first, tables).await, 0);
    }

    #[tokio::test]
    async fn a_killed_server_comes_back_with_what_it_acknowledged() {
        let mut postgres = Postgres::start(Durability::Durable).await.expect("starts");
        let url = postgres.database("crash").await.expect("made");
        let database = connect(&url).await.expect("connects");
        database.execute_unprepared("CREATE TABLE t AS SELECT 7::bigint AS n").await.expect("made");
        postgres.kill().expect("killed");
        postgres.restart().await.expect("comes back");
        assert_eq!(one(&url, "SELECT n FROM t").await, 7);
    }

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users = "postgres-x:x:1:2::/:/bin/sh\npostgres:x:101:104:,,,:/:/bin/bash\n";
        assert_eq!(in_passwd(users, "postgres"), Some((101, 104)));
        assert_eq!(in_passwd(users, "nobody"), None);
    }
}
