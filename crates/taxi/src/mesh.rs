//! What `taxi dev` and `taxi serve` share: contexts on listeners, their readiness, their end.
//!
//! The end has an order. First the servers drain: they say that they are not ready and finish what
//! they have begun. Only then the work behind them stops, relays and consumers, because requests in
//! flight may still need it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use kernel::Clock;
use platform::auth::{ServiceTokens, Verifier};
use platform::backlog::{Backlogs, Source};
use platform::broker::Broker;
use platform::clock::SystemClock;
use platform::context::Context;
use platform::db::Db;
use platform::metrics;
use platform::nats_server::OLDEST;
use platform::server::{self, Faults, Readiness};
use platform::shutdown::Shutdown;
use platform::tls::Listener;
use sea_orm::DbErr;
use tokio::net::TcpListener;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::config::{self, Settings};
use crate::contexts::Name;
use crate::exit::Exit;
use crate::gateway::{NAME as GATEWAY, gateway};
use crate::tls::Tls;

/// The commit this was built from, if whoever built it has said so.
const REVISION: &str = match option_env!("TAXI_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// How long relays and consumers get to stop.
const WORK_GRACE: Duration = Duration::from_secs(5);
/// How often we look whether what a context needs is there, once it was,
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// and at first, when every moment counts.
const FIRST_PROBES: Duration = Duration::from_millis(10);
/// How long a database may take to say that it is there.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// The contexts of one process.
pub(crate) struct Mesh {
    /// What was configured.
    pub(crate) settings: Settings,
    /// What time it is.
    pub(crate) clock: Arc<dyn Clock>,
    /// The servers' end.
    pub(crate) stop: Shutdown,
    /// How it speaks to others.
    pub(crate) tls: Tls,
    /// The end of the work behind them.
    pub(crate) work: Shutdown,
    /// What they have still to do, for whoever collects metrics.
    pub(crate) backlogs: Backlogs,
    verifier: Verifier,
    /// Only in development.
    faults: BTreeMap<Name, Faults>,
    failure: Arc<OnceLock<String>>,
}

impl Mesh {
    /// No contexts yet; `stop` ends them all.
    pub(crate) fn new(settings: Settings, stop: Shutdown) -> Mesh {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        metrics::built_from(env!("CARGO_PKG_VERSION"), REVISION);
        Mesh {
            verifier: Verifier::discover(settings.auth.clone()),
            backlogs: Backlogs::new(clock.clone()),
            clock,
            stop,
            work: Shutdown::new(),
            tls: Tls::default(),
            faults: BTreeMap::new(),
            failure: Arc::default(),
            settings,
        }
    }

    /// Speaks TLS where these files say so.
    pub(crate) fn with_tls(self, tls: Tls) -> Mesh {
        Mesh { tls, ..self }
    }

    /// Lets a context misbehave at the word of whoever keeps a clone of this handle.
    pub(crate) fn with_faults(mut self, name: Name, faults: Faults) -> Mesh {
        self.faults.insert(name, faults);
        self
    }

    /// Starts a context. Nothing it needs has to be there yet: its readiness says when it is.
    pub(crate) async fn start(
        &self,
        name: Name,
        listener: TcpListener,
        readiness: &Readiness,
    ) -> Result<(), Exit> {
        let broker = Broker::connect(self.settings.broker.clone(), name.as_str()).await;
        let broker = broker.map_err(|error| Exit::config(format!("broker.url: {error}")))?;
        let (routes, db) = name.start(self, broker.clone()).await?;
        let routes = match self.faults.get(&name) {
            Some(faults) => routes.with_faults(faults.clone()),
            None => routes,
        };
        self.backlogs.add(Source {
            context: name.as_str(),
            db: db.clone(),
            broker: broker.clone(),
            parked: parked_bucket(name, &self.settings),
            figures: name.figures(&self.settings),
        });
        let needs = Needs { name, db, broker };
        self.work.spawn("readiness", needs.watch(readiness.clone(), self.work.clone()));
        let serving = server::serve(
            Listener { tcp: listener, tls: self.tls.contexts.clone() },
            vec![routes],
            self.verifier.clone(),
            readiness.clone(),
            proto::FILE_DESCRIPTOR_SET,
            self.settings.server.clone(),
            self.stop.clone(),
        );
        let (stop, failure) = (self.stop.clone(), self.failure.clone());
        self.stop.spawn(name.as_str(), async move {
            if let Err(error) = serving.await {
                tracing::error!(context = %name, %error, "cannot serve");
                failure.set(format!("{name} cannot serve: {error}")).ok();
                stop.trigger();
            }
        });
        Ok(())
    }

    /// Opens the gateway, with these pages beside it. It is ready at once: what is behind it says for
    /// itself when it is.
    pub(crate) fn open_gateway(
        &self,
        listener: TcpListener,
        readiness: &Readiness,
        pages: Router,
    ) -> Result<(), Exit> {
        let gateway = gateway(&self.settings, &self.tls, self.verifier.clone())?.beside(pages);
        let listener = Listener { tcp: listener, tls: self.tls.gateway.clone() };
        let (serving, stop) = (readiness.serving(), self.stop.clone());
        let drains = {
            let (readiness, stop) = (readiness.clone(), self.stop.clone());
            async move {
                stop.cancelled().await;
                readiness.drain();
            }
        };
        self.stop.spawn(GATEWAY, async move {
            tokio::join!(gateway.serve(listener, stop), drains);
            drop(serving);
        });
        readiness.set(GATEWAY, true);
        Ok(())
    }

    /// What a context with a database is given.
    pub(crate) async fn context(&self, name: Name, broker: Broker) -> Result<Context, Exit> {
        let db = open(name, &self.settings).await?;
        let context =
            Context::new(name.as_str(), db, broker, self.clock.clone(), self.work.clone());
        Ok(match self.faults.get(&name) {
            Some(faults) => context.with_faults(faults.clone()),
            None => context,
        })
    }

    /// Our own tokens, for calls to a neighbour.
    pub(crate) fn tokens(&self) -> ServiceTokens {
        let Settings { auth, service, .. } = &self.settings;
        ServiceTokens::new(&auth.issuer, &service.client_id, &service.client_secret)
    }

    /// Waits until everything is asked to stop, and then until it has stopped.
    pub(crate) async fn end(self) -> Result<(), Exit> {
        tokio::select! {
            () = self.stop.cancelled() => {}
            // Only a panic stops the work before the servers.
            () = self.work.cancelled() => self.stop.trigger(),
        }
        let server::ServerConfig { drain_delay, drain, .. } = self.settings.server;
        let mut late = self.stop.wait(drain_delay + drain + WORK_GRACE).await;
        self.work.trigger();
        late.extend(self.work.wait(WORK_GRACE).await);
        if !late.is_empty() {
            tracing::warn!(tasks = late.join(", "), "did not stop in time");
        }
        if let Some(task) = self.stop.panicked().or(self.work.panicked()) {
            return Err(Exit::failed(format!("the task {task} has panicked: the log says where")));
        }
        match self.failure.get() {
            Some(failure) => Err(Exit::failed(failure)),
            None => Ok(()),
        }
    }
}

/// Opens the database of a context.
pub(crate) async fn open(name: Name, settings: &Settings) -> Result<Db, Exit> {
    let key = format!("database.{name}.url");
    let Some(database) = name.database(&settings.database) else {
        return Err(Exit::usage(format!("{name} has no database")));
    };
    config::check_database_url(&key, &database.url)?;
    Db::connect(database).await.map_err(|_| config::bad_database_url(&key))
}

/// Where the events are that a context without a database has parked.
fn parked_bucket(name: Name, settings: &Settings) -> Option<String> {
    (name == Name::Message).then(|| format!("{}_PARKED", settings.message.bucket))
}

/// Waits until a context says over the network that it serves.
pub(crate) async fn serving(address: SocketAddr) -> Result<(), tonic::Status> {
    let mut health = HealthClient::new(platform::client::channel(&address.to_string()));
    let mut states = health.watch(HealthCheckRequest::default()).await?.into_inner();
    while let Some(state) = states.message().await? {
        if state.status() == ServingStatus::Serving {
            return Ok(());
        }
    }
    Err(tonic::Status::unavailable("stopped before it was ready"))
}

/// What a context needs in order to serve.
struct Needs {
    name: Name,
    db: Option<Db>,
    broker: Broker,
}

impl Needs {
    /// Keeps the readiness true, until the end.
    async fn watch(self, readiness: Readiness, work: Shutdown) {
        let mut broker = Need::new("broker", self.name);
        let mut database = Need::new("database", self.name);
        // Without the broker events wait in the outbox, and requests are answered as ever.
        broker.only_at_first = self.db.is_some();
        let mut pause = FIRST_PROBES;
        loop {
            let problems = (self.broker_problem(), self.database_problem().await);
            pause = match problems {
                (None, None) => PROBE_INTERVAL,
                _ => (pause * 2).min(PROBE_INTERVAL),
            };
            // At first nothing is there, and that is no news.
            let news = pause == PROBE_INTERVAL;
            broker.tell(problems.0, news, &readiness);
            database.tell(problems.1, news, &readiness);
            tokio::select! {
                () = work.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn broker_problem(&self) -> Option<String> {
        if !self.broker.is_connected() {
            return Some("not connected".to_owned());
        }
        let server = self.broker.client().server_info();
        if !is_new_enough(&server.version) {
            let (major, minor) = OLDEST;
            return Some(format!("version {}, but {major}.{minor} is needed", server.version));
        }
        if !server.jetstream {
            return Some("JetStream is not enabled".to_owned());
        }
        self.broker.trouble()
    }

    async fn database_problem(&self) -> Option<String> {
        let db = self.db.as_ref()?;
        let asked = async {
            let current = self.name.is_ready(db).await?;
            db.writable().await?;
            Ok::<_, DbErr>(current)
        };
        match tokio::time::timeout(PROBE_DEADLINE, asked).await {
            Ok(Ok(true)) => None,
            Ok(Ok(false)) => Some("the schema is not current: run `taxi migrate`".to_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        }
    }
}

/// One of them, and what is known of it.
struct Need {
    check: &'static str,
    only_at_first: bool,
    met: bool,
    problem: Option<String>,
}

impl Need {
    fn new(what: &str, name: Name) -> Need {
        // Leaked once a context, for the life of the process.
        let check = format!("{what} of {name}").leak();
        Need { check, only_at_first: false, met: false, problem: None }
    }

    /// Tells the readiness how it stands, and the log when that is news.
    fn tell(&mut self, problem: Option<String>, news: bool, readiness: &Readiness) {
        self.met = problem.is_none() || self.met && self.only_at_first;
        readiness.set(self.check, self.met);
        if !news || problem == self.problem {
            return;
        }
        match &problem {
            Some(problem) => tracing::warn!(problem, "{} is missing", self.check),
            None => tracing::info!("{} is there", self.check),
        }
        self.problem = problem;
    }
}

/// Older brokers silently ignore several filter subjects, or the expectations of publishers.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_broker_is_told_from_a_new_one() {
        for (version, new) in [
            ("2.12.0", true),
            ("2.15.1", true),
            ("3.0.0-dev", true),
            ("2.9.25", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(version), new, "{version}");
        }
    }
}
