//! What every test promises, and the end of a mesh.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::parts::helps;
use super::{Mesh, STOP_GRACE};
use crate::backlog::Backlog;
use crate::postgres::chain;

/// How long a mesh may take to drain, unless the test says otherwise.
pub(super) const DRAIN_DEADLINE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);
/// Set it to keep the files of a mesh, for a look at them afterwards.
const KEEP: &str = "TESTKIT_KEEP";

impl Mesh {
    /// The test parks events on purpose: as many are expected at the end, over all contexts.
    pub const fn expect_parked(&mut self, events: i64) {
        self.parked = events;
    }

    /// How long the mesh may take to drain at the end; 15 seconds when nothing is said.
    pub const fn drains_within(&mut self, deadline: Duration) {
        self.drain = deadline;
    }

    /// The test leaves the mesh broken on purpose: nothing is checked at the end.
    pub const fn unchecked(&mut self) {
        self.unchecked = true;
    }

    /// What is wrong with the promises.
    async fn broken_promises(&self) -> Vec<String> {
        let end = Instant::now() + self.drain;
        loop {
            let mut broken = Vec::new();
            let mut parked = 0;
            for (context, url) in &self.databases {
                match Backlog::of(url).await {
                    Ok(backlog) => {
                        parked += backlog.parked;
                        if backlog.unsent > 0 {
                            broken.push(format!("{context}: {} events unsent", backlog.unsent));
                        }
                    }
                    Err(error) => broken.push(format!("{context}: {}", chain(&error))),
                }
            }
            if parked != self.parked {
                broken.push(format!("{parked} events are parked, not {}", self.parked));
            }
            if broken.is_empty() || Instant::now() >= end {
                return broken;
            }
            sleep(POLL).await;
        }
    }

    /// The promises, then an orderly end: everybody is asked before anybody is waited for.
    async fn finish(&mut self) -> Vec<String> {
        let mut broken = Vec::new();
        if !self.unchecked {
            broken = self.broken_promises().await;
        }
        let mut asked = Vec::new();
        for (name, process) in self.processes.iter_mut().filter(|(name, _)| !helps(name)) {
            match process.ended() {
                // It has had its say when the test stopped it.
                Some(_) if process.let_go() => {}
                Some(status) => {
                    let tail = process.tail();
                    broken.push(format!("{name} ended by itself ({status}):\n{tail}"));
                }
                None => {
                    // One that is frozen would not hear the second.
                    let told = process.signal("CONT").and_then(|()| process.signal("TERM"));
                    broken.extend(told.err().map(|error| format!("{name}: {error}")));
                    asked.push(process);
                }
            }
        }
        for process in asked {
            broken.extend(process.end(STOP_GRACE).await.err());
        }
        broken
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let keep = std::env::var_os(KEEP).is_some();
        if std::thread::panicking() {
            for (name, process) in &self.processes {
                eprintln!("---- {name}, its last lines ----\n{}", process.tail());
            }
            self.processes.clear();
        } else {
            // Drop is not async, and the test's runtime must not be blocked on itself.
            let mut check = || {
                let finish = || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build();
                    match runtime {
                        Ok(runtime) => runtime.block_on(self.finish()),
                        Err(error) => vec![format!("no runtime for the checks: {error}")],
                    }
                };
                std::thread::scope(|scope| scope.spawn(finish).join())
            };
            // The test's own connections must go on meanwhile: the product says goodbye to them
            // and waits for the answer.
            let flavor = tokio::runtime::Handle::try_current().map(|it| it.runtime_flavor());
            let broken = match flavor {
                Ok(tokio::runtime::RuntimeFlavor::MultiThread) => {
                    tokio::task::block_in_place(check)
                }
                _ => check(),
            };
            self.processes.clear();
            match broken {
                Ok(broken) if broken.is_empty() => {}
                Ok(broken) => {
                    panic!("the mesh broke its promises at the end:\n{}", broken.join("\n"))
                }
                Err(_) => panic!("the checks at the end panicked"),
            }
        }
        if let Some(files) = self.files.take().filter(|_| keep) {
            eprintln!("the files of the mesh are in {}", files.keep().display());
        }
    }
}
