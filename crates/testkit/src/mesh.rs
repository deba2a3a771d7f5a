//! The whole product under test: the real binary, the real broker, a real database.
//!
//! * [`Mesh::start`]: one `taxi dev` process, what a developer runs;
//! * [`Mesh::serve`]: the production shape, a process for each context, which can be stopped,
//!   killed and started one by one.
//!
//! A mesh that is dropped by a test that passed checks what every test promises: all outboxes are
//! drained, nothing is parked, and every process ends with 0 on SIGTERM. A test that breaks one of
//! these on purpose says so with [`Mesh::expect_parked`] or [`Mesh::unchecked`].

mod replicas;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use platform::nats_server::{self, NatsServer};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

use crate::backlog::Backlog;
use crate::client::{
    AllocationClient, Bearer, DashboardClient, DrivingClient, Known, MessageClient, PaymentClient,
};
use kernel::Role;

use crate::postgres::{Durability, Postgres, chain};
use crate::process::{Process, free_port};
use crate::provider::Provider;

/// All contexts.
pub const CONTEXTS: [&str; 5] = ["allocation", "driving", "payment", "dashboard", "message"];
/// Those with a relational database. Messages live in the broker's key-value store.
pub const RELATIONAL: [&str; 4] = ["allocation", "driving", "payment", "dashboard"];

const READY_DEADLINE: Duration = Duration::from_secs(30);
const MIGRATE_DEADLINE: Duration = Duration::from_secs(60);
const DRAIN_DEADLINE: Duration = Duration::from_secs(15);
const STOP_GRACE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Set it to keep the files of a mesh, for a look at them afterwards.
const KEEP: &str = "TESTKIT_KEEP";
const DEV: &str = "dev";
const ISSUER: &str = "issuer";
const PROVIDER: &str = "provider-sim";

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

/// What the other subcommands write to their ready file.
#[derive(Debug, Clone, Deserialize)]
struct Started {
    url: String,
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

    /// Starts the production shape: a broker and a Postgres of its own, the token issuer, the
    /// payment provider's stand-in, and a process for each context. The issuer stands where the
    /// gateway will: tokens come from there.
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
        for (context, name, value) in settings {
            mesh.set(context, name, value);
        }
        mesh.ready.gateway = mesh.helper(ISSUER, &[]).await;
        mesh.start_provider().await;
        let provider = mesh.ready.provider.clone();
        mesh.set("payment", PROVIDER_URL, &provider);
        mesh.set("payment", WEBHOOK_SECRET, SECRET);
        mesh.migrate().await;
        for context in CONTEXTS {
            mesh.start_context(context).await;
        }
        mesh
    }

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

    /// A token for somebody.
    ///
    /// # Panics
    /// When the issuer gives none.
    pub async fn token(&self, role: Role, subject: &str) -> String {
        let granted = access_token(&self.http, &self.ready.gateway, role, subject).await;
        orderly(granted.map_err(|error| format!("no token: {}", chain(&error))))
    }

    /// A client of the allocation context, with a token from [`Mesh::token`].
    #[must_use]
    pub fn allocation(&self, token: &str) -> AllocationClient {
        AllocationClient::new(self.known("allocation", token))
    }

    /// A client of the driving context, with a token from [`Mesh::token`].
    #[must_use]
    pub fn driving(&self, token: &str) -> DrivingClient {
        DrivingClient::new(self.known("driving", token))
    }

    /// A client of the payment context, with a token from [`Mesh::token`].
    #[must_use]
    pub fn payment(&self, token: &str) -> PaymentClient {
        PaymentClient::new(self.known("payment", token))
    }

    /// A client of the dashboard context, with a token from [`Mesh::token`].
    #[must_use]
    pub fn dashboard(&self, token: &str) -> DashboardClient {
        DashboardClient::new(self.known("dashboard", token))
    }

    /// A client of the message context, with a token from [`Mesh::token`].
    #[must_use]
    pub fn message(&self, token: &str) -> MessageClient {
        MessageClient::new(self.known("message", token))
    }

    /// A connection to a context that is made when it is first used.
    ///
    /// # Panics
    /// When there is no such context.
    #[must_use]
    pub fn channel(&self, context: &str) -> Channel {
        lazy(&format!("http://{}", self.address(context)))
    }

    fn known(&self, context: &str, token: &str) -> Known {
        Known::new(self.channel(context), Bearer::new(token))
    }

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

    /// Starts `taxi issuer` or `taxi provider-sim`; its address.
    async fn helper(&mut self, name: &str, arguments: &[&str]) -> String {
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

    async fn migrate(&mut self) {
        let mut command = program(&self.bin);
        command.arg(MIGRATE).envs(self.environment(MIGRATE));
        let mut process = spawned(MIGRATE, &mut command, self.dir());
        match process.wait(MIGRATE_DEADLINE).await {
            Some(status) if status.success() => {}
            status => panic!("taxi migrate: {status:?}\n{}", process.tail()),
        }
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

const MIGRATE: &str = "migrate";
/// The setting of the payment context that names the payment provider.
const PROVIDER_URL: &str = "TAXI_PAYMENT__PROVIDER_URL";
/// And the one that says what its webhooks are signed with.
const WEBHOOK_SECRET: &str = "TAXI_PAYMENT__WEBHOOK_SECRET";
const SECRET: &str = "whsec_ZGV2ZWxvcG1lbnQgb25seTogbm8gc2VjcmV0";

/// Not part of the product in production: killed at the end, whatever they do.
fn helps(name: &str) -> bool {
    name == ISSUER || name == PROVIDER
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

async fn broker(dir: &Path, port: u16) -> Result<NatsServer, String> {
    let options = nats_server::Options {
        binary: nats_server_binary(),
        search: Vec::new(),
        store_dir: dir.join("nats"),
        port: Some(port),
    };
    NatsServer::start(options).await.map_err(|error| chain(&error))
}

async fn databases_in(postgres: &Postgres) -> BTreeMap<String, String> {
    let mut databases = BTreeMap::new();
    for context in RELATIONAL {
        let url = postgres.database(context).await.map_err(|error| chain(&error));
        databases.insert(context.to_owned(), orderly(url));
    }
    databases
}

/// A token for somebody from the development issuer at this address.
///
/// # Errors
/// When the issuer gives none.
pub async fn access_token(
    http: &reqwest::Client,
    issuer: &str,
    role: Role,
    subject: &str,
) -> Result<String, reqwest::Error> {
    #[derive(Deserialize)]
    struct Granted {
        access_token: String,
    }
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", subject),
        ("client_secret", "dev"),
        ("scope", role.as_str()),
    ];
    let response = http.post(format!("{issuer}/oauth2/token")).form(&form).send().await?;
    Ok(response.error_for_status()?.json::<Granted>().await?.access_token)
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

fn spawned(name: &str, command: &mut Command, dir: &Path) -> Process {
    orderly(Process::spawn(name, command, dir).map_err(|error| format!("{command:?}: {error}")))
}

fn temporary() -> TempDir {
    orderly(tempfile::Builder::new().prefix("taxi-mesh-").tempdir())
}

fn lazy(url: &str) -> Channel {
    orderly(Endpoint::from_shared(url.to_owned())).connect_lazy()
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
