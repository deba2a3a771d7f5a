//! How a mesh begins.

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;

use super::parts::{ISSUER, PROVIDER_URL, SECRET, WEBHOOK_SECRET, broker};
use super::processes::spawned;
use super::promises::DRAIN_DEADLINE;
use super::{
    Backing, CONTEXTS, Mesh, READY_DEADLINE, RELATIONAL, Ready, nats_server_binary, orderly,
    program, read_json,
};
use crate::postgres::{Durability, Postgres, chain};
use crate::process::free_port;

const DEV: &str = "dev";

impl Mesh {
    /// Starts `taxi dev`. `bin` is `env!("CARGO_BIN_EXE_taxi")`.
    ///
    /// # Panics
    /// When it does not come up; with what it printed.
    pub async fn start(bin: impl AsRef<Path>, backing: Backing) -> Self {
        Self::start_with(bin, backing, &[]).await
    }

    /// Starts `taxi dev` with further arguments.
    ///
    /// # Panics
    /// When it does not come up; with what it printed.
    pub async fn start_with(bin: impl AsRef<Path>, backing: Backing, arguments: &[&str]) -> Self {
        let files = temporary();
        let data = files.path().join("data");
        let ready_file = files.path().join("ready.json");
        let mut databases = BTreeMap::new();
        if backing == Backing::Postgres {
            databases = databases_in(Postgres::shared().await).await;
        }
        let mut command = program(bin.as_ref());
        command.args([DEV, "--random-ports", "--ephemeral"]);
        command.arg("--data").arg(&data).arg("--ready-file").arg(&ready_file);
        for (context, url) in &databases {
            command.arg(format!("--database-url-{context}")).arg(url);
        }
        if let Some(nats) = nats_server_binary() {
            command.arg("--nats-server").arg(nats);
        }
        command.args(arguments);
        let mut process = spawned(DEV, &mut command, files.path());
        let ready: Ready = orderly(process.until(READY_DEADLINE, || read_json(&ready_file)).await);
        if backing == Backing::Sqlite {
            let file = |context| ready.data.join(format!("{context}.db")).display().to_string();
            databases = RELATIONAL
                .into_iter()
                .map(|context| (context.to_owned(), format!("sqlite://{}?mode=ro", file(context))))
                .collect();
        }
        Self {
            processes: BTreeMap::from([(DEV.to_owned(), process)]),
            nats: None,
            nats_port: 0,
            postgres: None,
            bin: bin.as_ref().to_owned(),
            ready,
            databases,
            settings: BTreeMap::new(),
            http: reqwest::Client::new(),
            parked: 0,
            drain: DRAIN_DEADLINE,
            unchecked: false,
            files: Some(files),
        }
    }

    /// Starts the production shape: all of [`Mesh::prepare`], and a process for each context.
    ///
    /// # Panics
    /// When something does not come up; with what it printed.
    pub async fn serve(bin: impl AsRef<Path>) -> Self {
        Self::serve_with(bin, &[]).await
    }

    /// As [`Mesh::serve`], with further settings: (context, name, value). They last for the life of
    /// the mesh; a context sees a proxy in front of its neighbour in this way.
    ///
    /// # Panics
    /// When something does not come up; with what it printed.
    pub async fn serve_with(bin: impl AsRef<Path>, settings: &[(&str, &str, &str)]) -> Self {
        let mut mesh = Self::prepare(bin).await;
        for (context, name, value) in settings {
            mesh.set(context, name, value);
        }
        for context in CONTEXTS {
            mesh.start_context(context).await;
        }
        mesh
    }

    /// Starts what contexts need: a broker and a Postgres of its own with the schema in it, the token
    /// issuer, and the payment provider's stand-in. The issuer stands where the gateway will: tokens
    /// come from there.
    ///
    /// # Panics
    /// When something does not come up; with what it printed.
    pub async fn prepare(bin: impl AsRef<Path>) -> Self {
        let files = temporary();
        let postgres =
            orderly(Postgres::start(Durability::Durable).await.map_err(|error| chain(&error)));
        let databases = databases_in(&postgres).await;
        let port = || orderly(free_port());
        let nats = orderly(broker(files.path(), port()).await);
        // Fixed for the life of the mesh: a context comes back where its neighbours expect it.
        let grpc = CONTEXTS
            .into_iter()
            .map(|context| (context.to_owned(), format!("127.0.0.1:{}", port())))
            .collect();
        let ready = Ready {
            gateway: String::new(),
            grpc,
            nats: nats.url(),
            provider: format!("http://127.0.0.1:{}", port()),
            data: files.path().to_owned(),
        };
        let mut mesh = Self {
            processes: BTreeMap::new(),
            nats_port: nats.port(),
            nats: Some(nats),
            postgres: Some(postgres),
            bin: bin.as_ref().to_owned(),
            ready,
            databases,
            settings: BTreeMap::new(),
            http: reqwest::Client::new(),
            parked: 0,
            drain: DRAIN_DEADLINE,
            unchecked: false,
            files: Some(files),
        };
        mesh.ready.gateway = mesh.helper(ISSUER, &[]).await;
        mesh.start_provider().await;
        let provider = mesh.ready.provider.clone();
        mesh.set("payment", PROVIDER_URL, &provider);
        mesh.set("payment", WEBHOOK_SECRET, SECRET);
        mesh.migrate().await;
        mesh
    }
}

async fn databases_in(postgres: &Postgres) -> BTreeMap<String, String> {
    let mut databases = BTreeMap::new();
    for context in RELATIONAL {
        let url = postgres.database(context).await.map_err(|error| chain(&error));
        databases.insert(context.to_owned(), orderly(url));
    }
    databases
}

fn temporary() -> TempDir {
    orderly(tempfile::Builder::new().prefix("taxi-mesh-").tempdir())
}
