//! The world of a run: the whole product as real processes, in the shape of production.
//!
//! ```text
//! people ─> service address (balancer) ─> replicas ─> fault proxy ─> broker
//!                                         of each  ─> fault proxy ─> Postgres
//!                                         context  ─> fault proxy ─> its neighbour's address
//! ```
//!
//! Driving's neighbour is payment, payment's is the provider, whose webhooks come to payment's service
//! address. Each replica has fault proxies of its
//! own, so one of two can be cut off. Whatever restarts may
//! come back on another port: those in front of it are told.
//!
//! A process that ends by itself is an *incident*, and is started again, as an orchestrator would.

mod part;
mod provider;
mod replica;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kernel::Role;
use platform::nats_server::{NatsServer, Options};
use tempfile::TempDir;
use testkit::{
    Backing, Balancer, Bearer, CONTEXTS, Durability, Postgres, Process, RELATIONAL, access_token,
    nats_server_binary, program,
};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use part::Part;
use provider::{PaymentProvider, WEBHOOK_SECRET};
pub(crate) use replica::{Link, Replica, Running};

use crate::Result;
use crate::evidence::Sources;
use crate::findings::Findings;
use crate::plan::{MOST_REPLICAS, Name, Whim, replicas};

/// An allocation that no driver accepts expires after this time: it is to happen in a run.
const EXPIRE_AFTER: &str = "12s";
/// The longest pause before a fee is asked for again: a run is not to wait a minute for its end.
const RETRY_MAX: &str = "4s";
/// Connections of a pool: fifteen replicas share one Postgres.
const POOL: &str = "10";
/// How long a command of an operator may take.
const OPERATION: Duration = Duration::from_secs(60);
/// How often processes are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a process may take to end.
const GRACE: Duration = Duration::from_secs(30);

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct World {
    // Dropped in this order: those who use a thing go before the thing.
    replicas: Vec<Replica>,
    provider: PaymentProvider,
    issuer: Mutex<Part>,
    services: BTreeMap<&'static str, Balancer>,
    broker: Mutex<Option<NatsServer>>,
    postgres: Option<Mutex<Postgres>>,
    databases: BTreeMap<&'static str, String>,
    issuer_url: String,
    incidents: Findings,
    backing: Backing,
    binary: PathBuf,
    http: reqwest::Client,
    files: TempDir,
}

impl World {
    /// Starts everything, and waits until it is ready. What the payment provider does by chance
    /// follows from the seed.
    pub(crate) async fn start(binary: &Path, backing: Backing, seed: u64) -> Result<World> {
        let files = tempfile::Builder::new().prefix("taxi-torture-").tempdir()?;
        let dir = files.path();
        let broker = broker(dir).await?;
        let postgres = match backing {
            Backing::Postgres => Some(Postgres::start(Durability::Durable).await?),
            Backing::Sqlite => None,
        };
        let databases = databases(postgres.as_ref(), dir).await?;
        let issuer = Part::start("issuer", binary, dir, &[]).await?;
        let mut services = BTreeMap::new();
        for context in CONTEXTS {
            services.insert(context, Balancer::start()?);
        }
        let payment = services["payment"].address();
        let provider = PaymentProvider::start(binary, dir, seed, payment).await?;
        let mut world = World {
            replicas: Vec::new(),
            issuer_url: issuer.url().to_owned(),
            issuer: Mutex::new(issuer),
            provider,
            services,
            broker: Mutex::new(Some(broker)),
            postgres: postgres.map(Mutex::new),
            databases,
            incidents: Findings::default(),
            backing,
            binary: binary.to_owned(),
            http: reqwest::Client::new(),
            files,
        };
        world.operate("migrate", &["migrate"]).await?;
        world.make_replicas().await?;
        let first = world.replicas.iter().filter(|it| it.name.number <= replicas(backing));
        futures::future::try_join_all(first.map(|replica| async {
            let mut running = replica.custody().await;
            world.launch(replica, &mut running).await
        }))
        .await?;
        Ok(world)
    }

    /// Where the people find a context.
    pub(crate) fn service(&self, context: &str) -> SocketAddr {
        self.services[context].address()
    }

    /// Who somebody is, for the product to believe.
    pub(crate) async fn bearer(&self, role: Role, subject: &str) -> Result<Bearer> {
        let token = access_token(&self.http, &self.issuer_url, role, subject).await?;
        Ok(Bearer::new(&token))
    }

    /// Where the contexts keep their rows.
    pub(crate) const fn backing(&self) -> Backing {
        self.backing
    }

    /// Where the broker is, as soon as it is there.
    pub(crate) async fn nats(&self) -> String {
        self.broker.lock().await.as_ref().map(NatsServer::url).unwrap_or_default()
    }

    /// Processes that were started, and what never may happen to one.
    pub(crate) const fn incidents(&self) -> &Findings {
        &self.incidents
    }

    /// Where everything keeps its files and its log.
    pub(crate) fn dir(&self) -> &Path {
        self.files.path()
    }

    /// Keeps the files, and says where.
    pub(crate) fn keep(self) -> PathBuf {
        self.files.keep()
    }

    /// Where the evidence is, as long as nothing is restarted.
    pub(crate) async fn sources(&self) -> Sources {
        let mut databases = BTreeMap::new();
        for context in self.databases.keys() {
            databases.insert((*context).to_owned(), self.database(context).await);
        }
        Sources { databases, nats: self.nats().await, provider: self.provider.url().await }
    }

    /// A context's database, for somebody who only reads.
    pub(crate) async fn database(&self, context: &str) -> String {
        let database = &self.databases[context];
        match &self.postgres {
            Some(postgres) => postgres.lock().await.url(database),
            None => format!("sqlite://{database}?mode=ro"),
        }
    }

    /// All places for replicas, occupied or not.
    pub(crate) fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The place of a replica.
    pub(crate) fn replica(&self, name: Name) -> Result<&Replica> {
        let found = self.replicas.iter().find(|replica| replica.name == name);
        found.ok_or_else(|| format!("there is no {name}").into())
    }

    /// Starts a replica and takes it into service once it is ready.
    pub(crate) async fn launch(&self, replica: &Replica, running: &mut Running) -> Result<()> {
        let context = replica.name.context;
        self.incidents.look();
        replica.launch(running, &self.binary, self.environment(replica), self.dir()).await?;
        if let Some(address) = running.address() {
            self.services[context].add(address);
        }
        Ok(())
    }

    /// Kills a replica.
    pub(crate) fn kill(&self, replica: &Replica, running: &mut Running) {
        self.look_at(replica, running);
        running.kill();
        self.out_of_service(replica, running);
    }

    /// Asks a replica to end; one that does not do so in an orderly way is an incident.
    pub(crate) async fn terminate(&self, replica: &Replica, running: &mut Running) {
        self.look_at(replica, running);
        // As Kubernetes does it: out of the service and SIGTERM at the same time.
        self.out_of_service(replica, running);
        if let Err(error) = running.terminate(GRACE).await {
            self.incidents.report(error);
        }
    }

    fn out_of_service(&self, replica: &Replica, running: &mut Running) {
        if let Some(address) = running.take_address() {
            self.services[replica.name.context].remove(address);
        }
    }

    /// Whether it runs; an end that nobody asked for is an incident.
    fn look_at(&self, replica: &Replica, running: &mut Running) -> bool {
        if let Some(how) = running.ended_by_itself() {
            self.incidents.report(format!("{} ended by itself ({how})", replica.name));
            self.out_of_service(replica, running);
            return false;
        }
        true
    }

    /// Looks after all processes until dropped: starts those again that ended by themselves.
    pub(crate) async fn watch(&self) {
        loop {
            for replica in &self.replicas {
                // Somebody else's business for the moment.
                let Some(mut running) = replica.try_custody() else { continue };
                if !self.look_at(replica, &mut running)
                    && let Err(error) = self.launch(replica, &mut running).await
                {
                    self.incidents.report(error.to_string());
                }
            }
            let issuer = self.issuer.try_lock().ok().and_then(|mut it| it.ended_by_itself());
            for how in issuer.into_iter().chain(self.provider.ended_by_itself()) {
                self.incidents.report(how);
            }
            sleep(LOOK).await;
        }
    }

    /// Kills the broker and starts it again after a while.
    pub(crate) async fn restart_broker(&self, away: Duration) -> Result<()> {
        let mut broker = self.broker.lock().await;
        if let Some(broker) = broker.take() {
            broker.kill().await?;
        }
        sleep(away).await;
        let started = self::broker(self.dir()).await?;
        let address = local(started.port());
        for replica in &self.replicas {
            replica.to_broker.redirect(address);
        }
        *broker = Some(started);
        Ok(())
    }

    /// Postgres, for whoever wants to do something to it.
    pub(crate) async fn postgres(&self) -> Result<MutexGuard<'_, Postgres>> {
        match &self.postgres {
            Some(postgres) => Ok(postgres.lock().await),
            None => Err("there is no Postgres".into()),
        }
    }

    /// Starts Postgres again.
    pub(crate) async fn restart_postgres(&self, postgres: &mut Postgres) -> Result<()> {
        postgres.restart().await?;
        let address = local(postgres.port());
        for link in self.replicas.iter().filter_map(|replica| replica.to_database.as_ref()) {
            link.redirect(address);
        }
        Ok(())
    }

    /// Kills the payment provider and starts it again after a while.
    pub(crate) async fn restart_provider(&self, away: Duration) -> Result<()> {
        self.provider.restart(&self.binary, self.dir(), away).await
    }

    /// Lets the payment provider do something wrong for a while.
    pub(crate) async fn provider_misbehaves(&self, whim: Whim, time: Duration) -> Result<()> {
        self.provider.misbehave(whim, time).await
    }

    /// Asks all replicas to end, all at once.
    pub(crate) async fn end(&self) {
        futures::future::join_all(self.replicas.iter().map(|replica| async {
            let mut running = replica.custody().await;
            self.terminate(replica, &mut running).await;
        }))
        .await;
    }

    /// Runs a command of an operator, who needs no proxy.
    pub(crate) async fn operate(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let mut command = program(&self.binary);
        command.args(arguments);
        for (context, database) in &self.databases {
            let url = match &self.postgres {
                Some(postgres) => postgres.lock().await.url(database),
                None => format!("sqlite://{database}"),
            };
            command.env(format!("TAXI_DATABASE__{}__URL", context.to_uppercase()), url);
        }
        let mut process = Process::spawn(name, &mut command, self.dir())?;
        match process.wait(OPERATION).await {
            Some(status) if status.success() => Ok(()),
            status => Err(format!("{arguments:?}: {status:?}\n{}", process.tail()).into()),
        }
    }

    async fn make_replicas(&mut self) -> Result<()> {
        let broker = self.broker.lock().await.as_ref().map_or(0, NatsServer::port);
        let postgres = match &self.postgres {
            Some(postgres) => Some(local(postgres.lock().await.port())),
            None => None,
        };
        for context in CONTEXTS {
            let database = postgres.filter(|_| RELATIONAL.contains(&context));
            let neighbour = match context {
                "driving" => Some(self.service("payment")),
                "payment" => Some(self.provider.door()),
                _ => None,
            };
            for number in 1..=MOST_REPLICAS {
                let name = Name { context, number };
                self.replicas.push(Replica::new(name, local(broker), database, neighbour)?);
            }
        }
        Ok(())
    }

    /// The settings of a replica.
    fn environment(&self, replica: &Replica) -> BTreeMap<String, String> {
        let context = replica.name.context;
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: String| {
            environment.insert(format!("TAXI_{name}"), value);
        };
        set("BROKER__URL", format!("nats://{}", replica.to_broker.address()));
        set("AUTH__ISSUER", self.issuer_url.clone());
        set("SERVICE__CLIENT_ID", context.to_owned());
        set("SERVICE__CLIENT_SECRET", "dev".to_owned());
        set("LISTEN__ADMIN", "0".to_owned());
        let upper = context.to_uppercase();
        set(&format!("LISTEN__{upper}"), "0".to_owned());
        if let Some(database) = self.databases.get(context) {
            let url = match &replica.to_database {
                Some(link) => format!("postgres://taxi@{}/{database}", link.address()),
                None => format!("sqlite://{database}"),
            };
            set(&format!("DATABASE__{upper}__URL"), url);
            set(&format!("DATABASE__{upper}__MAX_CONNECTIONS"), POOL.to_owned());
        }
        let neighbour = replica.to_neighbour.as_ref().map(Link::address);
        match (context, neighbour) {
            ("allocation", _) => set("ALLOCATION__EXPIRE_AFTER", EXPIRE_AFTER.to_owned()),
            ("driving", Some(payment)) => set("UPSTREAM__PAYMENT", payment.to_string()),
            ("payment", Some(provider)) => {
                set("PAYMENT__PROVIDER_URL", format!("http://{provider}"));
                set("PAYMENT__WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned());
                set("PAYMENT__RETRY_MAX", RETRY_MAX.to_owned());
            }
            _ => {}
        }
        environment
    }
}

/// By context: the name of a database, or a file.
async fn databases(
    postgres: Option<&Postgres>,
    dir: &Path,
) -> Result<BTreeMap<&'static str, String>> {
    let mut databases = BTreeMap::new();
    for context in RELATIONAL {
        let database = match postgres {
            Some(postgres) => {
                let url = postgres.database(context).await?;
                url.rsplit('/').next().unwrap_or_default().to_owned()
            }
            None => dir.join(format!("{context}.db")).display().to_string(),
        };
        databases.insert(context, database);
    }
    Ok(databases)
}

async fn broker(dir: &Path) -> Result<NatsServer> {
    let options = Options {
        binary: nats_server_binary(),
        search: Vec::new(),
        store_dir: dir.join("nats"),
        port: None,
    };
    Ok(NatsServer::start(options).await?)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
