//! The simulated payment provider of `taxi dev`: a process of its own, as a real one is.
//!
//! It can be killed as a real one can be away: it comes back on its port, with its log and without
//! its faults. It never outlives us ([`Leash`]).

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use platform::leash::Leash;
use platform::shutdown::Shutdown;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpSocket;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::exit::Exit;

/// What its webhooks are signed with on this machine, where there is nothing to gain.
pub(super) const WEBHOOK_SECRET: &str = "whsec_ZGV2ZWxvcG1lbnQgb25seTogbm8gc2VjcmV0";

/// How long it may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// The pause before it is started again; it doubles,
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// up to this,
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// and begins anew after one that has lived so long.
const LONG_LIFE: Duration = Duration::from_secs(10);

/// How it is started.
pub(super) struct Provider {
    /// Its port: ours to keep, so that nobody else is given it while the provider is away.
    pub(super) port: TcpSocket,
    /// The file of its log.
    pub(super) log: PathBuf,
    /// Where its webhooks go.
    pub(super) webhook_url: String,
}

/// One that runs.
struct Running {
    child: Child,
    // Kept open: one that cannot print would end.
    _stdout: Lines<BufReader<ChildStdout>>,
    _leash: Leash,
}

impl Provider {
    /// Starts it and waits until it listens; then looks after it until the end of `work`.
    pub(super) async fn start(self, work: &Shutdown) -> Result<(), Exit> {
        let failed = |error: io::Error| {
            Exit::failed(format!("the payment provider cannot be started: {error}"))
        };
        let running = self.run().await.map_err(failed)?;
        let stop = work.clone();
        work.spawn("provider", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.look_after(running) => {}
            }
        });
        Ok(())
    }

    /// Starts it again whenever it ends.
    async fn look_after(&self, mut running: Running) {
        let mut pause = FIRST_PAUSE;
        let mut since = Instant::now();
        loop {
            let how = running.child.wait().await;
            if since.elapsed() >= LONG_LIFE {
                pause = FIRST_PAUSE;
            }
            let how = how.map_or_else(|error| error.to_string(), |status| status.to_string());
            tracing::warn!(how, again_in = ?pause, "the payment provider ended by itself");
            running = loop {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                match self.run().await {
                    Ok(running) => break running,
                    Err(error) => {
                        tracing::warn!(%error, again_in = ?pause, "the payment provider does not start");
                    }
                }
            };
            since = Instant::now();
            tracing::warn!("the payment provider is back, without its faults");
        }
    }

    async fn run(&self) -> io::Result<Running> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("provider-sim")
            .arg("--listen")
            .arg(self.port.local_addr()?.to_string())
            .arg("--data")
            .arg(&self.log)
            .arg("--webhook-url")
            .arg(&self.webhook_url)
            .args(["--webhook-secret", WEBHOOK_SECRET])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C is for us: it is needed until what is in flight has been answered.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let ended = || io::Error::other("it ended at once");
        let leash = Leash::on_process(child.id().ok_or_else(ended)?)?;
        let stdout = child.stdout.take().ok_or_else(ended)?;
        let mut lines = BufReader::new(stdout).lines();
        // It says where it listens as soon as it does.
        match timeout(START_DEADLINE, lines.next_line()).await {
            Ok(Ok(Some(_))) => Ok(Running { child, _stdout: lines, _leash: leash }),
            Ok(Ok(None)) => Err(ended()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
