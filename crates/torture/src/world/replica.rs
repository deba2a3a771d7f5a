//! One replica of a context, and its connections to those that it needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use serde::Deserialize;
use testkit::{Fault, Process, Proxy, program, read_json};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::block_in_place;

use crate::Result;
use crate::plan::Name;

/// How long a replica may take to be ready: Postgres or the broker may be away meanwhile.
const READY: Duration = Duration::from_secs(45);

/// The place of a replica; the process comes and goes.
///
/// Who does something to the process has it in custody for as long: two faults never mean the same
/// process at the same time.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) name: Name,
    pub(crate) to_broker: Link,
    pub(crate) to_database: Option<Link>,
    pub(crate) to_neighbour: Option<Link>,
    running: Mutex<Running>,
}

/// The process of a replica, while there is one.
#[derive(Debug, Default)]
pub(crate) struct Running {
    process: Option<Process>,
    address: Option<SocketAddr>,
    launches: usize,
}

/// What `taxi serve --ready-file` writes once everything answers.
#[derive(Deserialize)]
struct Ready {
    grpc: BTreeMap<String, SocketAddr>,
}

impl Replica {
    /// A place where nothing runs yet.
    pub(crate) fn new(
        name: Name,
        broker: SocketAddr,
        database: Option<SocketAddr>,
        neighbour: Option<SocketAddr>,
    ) -> Result<Replica> {
        Ok(Replica {
            name,
            to_broker: Link::to(broker)?,
            to_database: database.map(Link::to).transpose()?,
            to_neighbour: neighbour.map(Link::to).transpose()?,
            running: Mutex::default(),
        })
    }

    /// Takes the process into custody.
    pub(crate) async fn custody(&self) -> MutexGuard<'_, Running> {
        self.running.lock().await
    }

    /// As [`Replica::custody`], unless somebody else has it.
    pub(super) fn try_custody(&self) -> Option<MutexGuard<'_, Running>> {
        self.running.try_lock().ok()
    }

    /// Starts a process and waits until it is ready.
    pub(super) async fn launch(
        &self,
        running: &mut Running,
        binary: &Path,
        environment: BTreeMap<String, String>,
        dir: &Path,
    ) -> Result<()> {
        running.launches += 1;
        let ready_file = dir.join(format!("{}.{}.json", self.name, running.launches));
        let mut command = program(binary);
        command.args(["serve", self.name.context, "--ready-file"]).arg(&ready_file);
        command.envs(environment);
        let process = Process::spawn(&self.name.to_string(), &mut command, dir)?;
        let process = running.process.insert(process);
        let ready: Ready = process.until(READY, || read_json(&ready_file)).await?;
        running.address = ready.grpc.get(self.name.context).copied();
        Ok(())
    }
}

impl Running {
    /// Whether there is a process.
    pub(crate) const fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&mut self, name: &str) -> Result<()> {
        match &mut self.process {
            Some(process) => Ok(process.signal(name)?),
            None => Ok(()),
        }
    }

    pub(super) const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    pub(super) const fn take_address(&mut self) -> Option<SocketAddr> {
        self.address.take()
    }

    pub(super) fn kill(&mut self) {
        // Dropped, it is killed.
        self.process = None;
    }

    pub(super) async fn terminate(&mut self, grace: Duration) -> Result<(), String> {
        match self.process.take() {
            Some(mut process) => process.terminate(grace).await,
            None => Ok(()),
        }
    }

    /// How it ended when nobody asked for it, and its last words; from then on there is none.
    pub(super) fn ended_by_itself(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        let status = process.ended()?;
        let how = format!("{status}):\n{}\n(end of its log", process.tail());
        self.process = None;
        Some(how)
    }
}

/// A connection that can be broken. Whoever breaks it holds it for as long, so that nobody else
/// heals it too early.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    proxy: std::sync::Mutex<Proxy>,
    custody: Mutex<()>,
}

impl Link {
    fn to(upstream: SocketAddr) -> Result<Link> {
        let proxy = Proxy::start(upstream)?;
        let address = proxy.address();
        Ok(Link { address, proxy: std::sync::Mutex::new(proxy), custody: Mutex::default() })
    }

    /// Where the replica connects.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the connection for oneself.
    pub(crate) async fn custody(&self) -> MutexGuard<'_, ()> {
        self.custody.lock().await
    }

    /// What is wrong with it from now on.
    pub(crate) fn set(&self, fault: Fault) {
        // It waits for the proxy's thread to obey.
        block_in_place(|| self.proxy().set(fault));
    }

    /// New connections go there.
    pub(crate) fn redirect(&self, upstream: SocketAddr) {
        self.proxy().redirect(upstream);
    }

    fn proxy(&self) -> std::sync::MutexGuard<'_, Proxy> {
        self.proxy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
