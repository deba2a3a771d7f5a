//! The processes of a mesh: what they are told, how they begin and end.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::{Mesh, READY_DEADLINE, STOP_GRACE, orderly, program, read_json, replicas};
use crate::process::Process;

const MIGRATE: &str = "migrate";
const MIGRATE_DEADLINE: Duration = Duration::from_secs(60);

impl Mesh {
    /// Stops a context (or `dev`, the whole of [`Mesh::start`]) with SIGTERM.
    ///
    /// # Panics
    /// When it does not end with 0.
    pub async fn stop(&mut self, context: &str) {
        orderly(self.process(context).terminate(STOP_GRACE).await);
    }

    /// Kills a context with SIGKILL, as a crash would.
    ///
    /// # Panics
    /// When it was never started.
    pub fn kill(&mut self, context: &str) {
        self.process(context).kill();
    }

    /// Freezes a context with SIGSTOP: it keeps its connections and says nothing.
    ///
    /// # Panics
    /// When it was never started, or has ended.
    pub fn freeze(&mut self, context: &str) {
        orderly(self.process(context).signal("STOP"));
    }

    /// Lets a frozen context go on.
    ///
    /// # Panics
    /// When it was never started, or has ended.
    pub fn thaw(&mut self, context: &str) {
        orderly(self.process(context).signal("CONT"));
    }

    /// The process id of a context, for a look into `/proc`.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn pid(&self, context: &str) -> u32 {
        match self.processes.get(context) {
            Some(process) => process.id(),
            None => panic!("{context} was never started in this mesh"),
        }
    }

    /// How a context ended, or nothing while it runs.
    ///
    /// # Panics
    /// When it was never started.
    pub fn ended(&mut self, context: &str) -> Option<ExitStatus> {
        self.process(context).ended()
    }

    /// Starts a context of [`Mesh::serve`] (again) and waits until it is ready.
    ///
    /// # Panics
    /// When it does not come up; with what it printed.
    pub async fn start_context(&mut self, context: &str) {
        // A predecessor that still runs would keep the port.
        self.processes.remove(context);
        let ready_file = self.dir().join(format!("{context}.json"));
        let _ = std::fs::remove_file(&ready_file);
        let mut command = program(&self.bin);
        command.args(["serve", replicas::part(context), "--ready-file"]).arg(&ready_file);
        command.envs(self.environment(context));
        let process = spawned(context, &mut command, self.dir());
        let process = self.processes.entry(context.to_owned()).or_insert(process);
        let seen = || read_json::<serde_json::Value>(&ready_file);
        orderly(process.until(READY_DEADLINE, seen).await);
    }

    /// Brings the schemas up to date, with the release that is installed, while whatever runs runs on.
    ///
    /// # Panics
    /// When it does not end with 0; with what it printed.
    pub async fn migrate(&mut self) {
        let mut command = program(&self.bin);
        command.arg(MIGRATE).envs(self.environment(MIGRATE));
        let mut process = spawned(MIGRATE, &mut command, self.dir());
        match process.wait(MIGRATE_DEADLINE).await {
            Some(status) if status.success() => {}
            status => panic!("taxi migrate: {status:?}\n{}", process.tail()),
        }
    }

    /// The environment of one process of [`Mesh::serve`].
    ///
    /// The only place of the testkit that knows the names of the configuration.
    fn environment(&self, process: &str) -> BTreeMap<String, String> {
        let context = replicas::part(process);
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: &str| {
            environment.insert(format!("TAXI_{name}"), value.to_owned());
        };
        set("BROKER__URL", &self.ready.nats);
        set("AUTH__ISSUER", &self.ready.gateway);
        set("SERVICE__CLIENT_ID", context);
        set("SERVICE__CLIENT_SECRET", "dev");
        set("LISTEN__ADMIN", "0");
        for (name, url) in &self.databases {
            // A context never learns its neighbour's database; `migrate` sees all.
            if name == context || context == MIGRATE {
                set(&format!("DATABASE__{}__URL", name.to_uppercase()), url);
            }
        }
        for (name, address) in &self.ready.grpc {
            let (_, port) = address.rsplit_once(':').unwrap_or_default();
            set(&format!("LISTEN__{}", name.to_uppercase()), port);
            set(&format!("UPSTREAM__{}", name.to_uppercase()), address);
        }
        for name in [context, process] {
            environment.extend(self.settings.get(name).cloned().unwrap_or_default());
        }
        environment
    }
}

pub(super) fn spawned(name: &str, command: &mut Command, dir: &Path) -> Process {
    orderly(Process::spawn(name, command, dir).map_err(|error| format!("{command:?}: {error}")))
}
