//! What stands around the contexts: the broker, tokens, and the payment provider's stand-in.

use std::path::{Path, PathBuf};

use platform::nats_server::{self, NatsServer};
use serde::Deserialize;

use super::processes::spawned;
use super::{Mesh, READY_DEADLINE, orderly, program, read_json};
use crate::postgres::chain;
use crate::provider::Provider;

/// The token issuer.
pub(super) const ISSUER: &str = "issuer";
const PROVIDER: &str = "provider-sim";
/// The setting of the payment context that names the payment provider.
pub(super) const PROVIDER_URL: &str = "TAXI_PAYMENT__PROVIDER_URL";
/// And the one that says what its webhooks are signed with.
pub(super) const WEBHOOK_SECRET: &str = "TAXI_PAYMENT__WEBHOOK_SECRET";
pub(super) const SECRET: &str = "whsec_ZGV2ZWxvcG1lbnQgb25seTogbm8gc2VjcmV0";

/// Not part of the product in production: killed at the end, whatever they do.
pub(super) fn helps(name: &str) -> bool {
    name == ISSUER || name == PROVIDER
}

/// What they write to their ready file.
#[derive(Debug, Clone, Deserialize)]
struct Started {
    url: String,
}

impl Mesh {
    /// The payment provider's stand-in.
    #[must_use]
    pub fn provider(&self) -> Provider {
        Provider::at(&self.ready.provider)
    }

    /// Kills the payment provider's stand-in with SIGKILL.
    ///
    /// # Panics
    /// When it is none of this mesh's own processes: `taxi dev` looks after its own.
    pub fn kill_provider(&mut self) {
        self.kill(PROVIDER);
    }

    /// Starts the payment provider's stand-in of [`Mesh::serve`] (again), on its port and log, without
    /// faults.
    ///
    /// # Panics
    /// When it does not come up; with what it printed.
    pub async fn start_provider(&mut self) {
        let listen = self.ready.provider.trim_start_matches("http://").to_owned();
        let webhooks = format!("http://{}/webhooks/provider", self.address("payment"));
        let arguments =
            ["--listen", &listen, "--webhook-url", &webhooks, "--webhook-secret", SECRET];
        self.helper(PROVIDER, &arguments).await;
    }

    /// Kills the broker of [`Mesh::serve`] with SIGKILL.
    ///
    /// # Panics
    /// When there is none that runs.
    pub async fn kill_nats(&mut self) {
        match self.nats.take() {
            Some(nats) => orderly(nats.kill().await),
            None => panic!("no broker of this mesh runs"),
        }
    }

    /// Starts the broker of [`Mesh::serve`] again, on its port and files.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_nats(&mut self) {
        self.nats = None;
        self.nats = Some(orderly(broker(self.dir(), self.nats_port).await));
    }

    /// Starts `taxi issuer` or `taxi provider-sim`; its address.
    pub(super) async fn helper(&mut self, name: &str, arguments: &[&str]) -> String {
        // A predecessor that still runs would keep the port.
        self.processes.remove(name);
        let ready_file = self.dir().join(format!("{name}.json"));
        let _ = std::fs::remove_file(&ready_file);
        let mut command = program(&self.bin);
        command.args([name, "--ready-file"]).arg(&ready_file);
        command.arg("--data").arg(self.dir().join(format!("{name}.data"))).args(arguments);
        command.envs(self.settings.get(name).cloned().unwrap_or_default());
        let process = spawned(name, &mut command, self.dir());
        let process = self.processes.entry(name.to_owned()).or_insert(process);
        let started: Started =
            orderly(process.until(READY_DEADLINE, || read_json(&ready_file)).await);
        started.url
    }
}

/// A nats-server for tests: `$NATS_SERVER`, or `.taxi/bin` of this directory or one above it (tests
/// run in the directory of their crate), or nothing: then `PATH` decides.
#[must_use]
pub fn nats_server_binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("NATS_SERVER").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|dir| dir.join(".taxi/bin/nats-server")).find(|path| path.is_file())
}

pub(super) async fn broker(dir: &Path, port: u16) -> Result<NatsServer, String> {
    let options = nats_server::Options {
        binary: nats_server_binary(),
        search: Vec::new(),
        store_dir: dir.join("nats"),
        port: Some(port),
    };
    NatsServer::start(options).await.map_err(|error| chain(&error))
}
