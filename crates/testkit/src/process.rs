//! A child process whose output is kept, and which cannot outlive the process that started it.
//!
//! Built on `std::process`, not tokio's: a child may be shared by tests with a runtime each, and is
//! stopped in `Drop`.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use platform::leash::Leash;
use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(10);

/// A running (or ended) program in its own process group. Dropping it kills the group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
    let_go: bool,
    _leash: Leash,
}

impl Process {
    /// Starts a program; what it prints goes to `<dir>/<name>.log`, after what it printed before.
    ///
    /// # Errors
    /// When the program or its log cannot be opened.
    pub fn spawn(name: &str, command: &mut Command, dir: &Path) -> io::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let err = out.try_clone()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // Ctrl-C is for the tests; they decide in which order the mesh goes down.
            .process_group(0)
            .spawn()?;
        match Leash::on_group(child.id()) {
            Ok(leash) => {
                let name = name.to_owned();
                Ok(Self { name, child, log, status: None, let_go: false, _leash: leash })
            }
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or nothing while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Waits for `check` to have an answer.
    ///
    /// # Errors
    /// When it ended or was too slow; with what it printed.
    pub async fn until<T>(
        &mut self,
        deadline: Duration,
        mut check: impl FnMut() -> Option<T>,
    ) -> Result<T, String> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(answer) = check() {
                return Ok(answer);
            }
            if let Some(status) = self.ended() {
                return Err(format!("{} ended too early ({status}):\n{}", self.name, self.tail()));
            }
            if Instant::now() >= end {
                let tail = self.tail();
                return Err(format!("{} was not ready after {deadline:?}:\n{tail}", self.name));
            }
            sleep(POLL).await;
        }
    }

    /// Waits for its end.
    pub async fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + deadline;
        while self.ended().is_none() && Instant::now() < end {
            sleep(POLL).await;
        }
        self.status
    }

    /// Sends a signal (by name, such as `STOP`) to the process itself; one that has ended gets none.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, name: &str) -> io::Result<()> {
        match self.ended() {
            Some(_) => Ok(()),
            // Not reaped, so the id is still its own.
            None => signal(name, &self.id().to_string()),
        }
    }

    /// SIGTERM, then [`Process::end`].
    ///
    /// # Errors
    /// As [`Process::end`].
    pub async fn terminate(&mut self, grace: Duration) -> Result<(), String> {
        self.let_go = true;
        self.signal("TERM").map_err(|error| format!("{}: no SIGTERM: {error}", self.name))?;
        self.end(grace).await
    }

    /// Waits after SIGTERM.
    ///
    /// # Errors
    /// When the exit code is not 0, or there is no end at all (it is killed then).
    pub async fn end(&mut self, grace: Duration) -> Result<(), String> {
        match self.wait(grace).await {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                let tail = self.tail();
                Err(format!("{} ended with {status} on SIGTERM:\n{tail}", self.name))
            }
            None => {
                self.kill();
                let tail = self.tail();
                Err(format!("{} was still there {grace:?} after SIGTERM:\n{tail}", self.name))
            }
        }
    }

    /// Whether its end was asked for.
    #[must_use]
    pub const fn let_go(&self) -> bool {
        self.let_go
    }

    /// SIGKILL, to everything it started, too.
    pub fn kill(&mut self) {
        self.let_go = true;
        if self.ended().is_none() {
            // A group that is gone already needs no killing.
            let _ = signal("KILL", &format!("-{}", self.id()));
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }

    /// The last lines that it printed.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a file.
pub(crate) fn tail(file: &Path) -> String {
    const LINES: usize = 30;
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Through a shell: the standard library cannot, and unsafe code is forbidden.
pub(crate) fn signal(name: &str, target: &str) -> io::Result<()> {
    let output = Command::new("sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "signal", name, target])
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// A port nobody else is given: its server may stop and come back there.
///
/// From 32768 up the kernel gives ports to whoever asks, outgoing connections too, so one that is let go
/// there is soon somebody else's. Below, each is handed out once in this process, and processes begin
/// at different places.
///
/// # Errors
/// When every one of them is in use.
pub fn free_port() -> io::Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static HANDED_OUT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    let begin = u16::try_from(begin).unwrap_or_default();
    for _ in 0..COUNT {
        let port = FIRST + (begin + HANDED_OUT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "every port is in use"))
}
