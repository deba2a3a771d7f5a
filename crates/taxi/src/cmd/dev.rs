//! `taxi dev`: everything on this machine, in one process.
//!
//! All contexts over real gRPC, each with its own database, a managed nats-server, the development
//! issuer beside the gateway: the same code path as in production, on other addresses. The simulated
//! payment provider is a process of its own, because it has to be able to fail alone. In this order:
//! configuration, ports, data directory, broker, schemas and provider, contexts; the ready file
//! comes when every context says over the network that it serves.

mod data;
mod faults;
mod parts;
mod provider;
mod welcome;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gateway::Rate;
use platform::issuer::{Issuer, SECRET};
use platform::server::{self, Readiness};

use self::data::Data;
use self::faults::Faults;
use self::parts::{Nats, Ports};
use self::provider::{Provider, WEBHOOK_SECRET};
use super::{migrate, on_signals};
use crate::Global;
use crate::config::{self, Databases, Source, Upstream, sqlite_url};
use crate::contexts::Name;
use crate::exit::Exit;
use crate::mesh::{self, Mesh};
use crate::ports::address;
use crate::ready::{self, ReadyFile};

/// How long everything may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Run everything on this machine, for development.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Where data is kept.
    #[arg(long, value_name = "DIR", default_value = ".taxi")]
    data: PathBuf,
    /// Keep nothing: use a temporary directory, which is removed at the end.
    #[arg(long)]
    ephemeral: bool,
    /// Listen on ports that are free.
    #[arg(long)]
    random_ports: bool,
    #[command(flatten)]
    nats: parts::NatsArgs,
    #[command(flatten)]
    databases: DatabaseArgs,
}

/// Databases instead of SQLite files.
#[derive(Debug, clap::Args)]
struct DatabaseArgs {
    /// The database of allocation, such as `postgres://user:password@host/name`.
    #[arg(long, value_name = "URL")]
    database_url_allocation: Option<String>,
    /// The database of driving.
    #[arg(long, value_name = "URL")]
    database_url_driving: Option<String>,
    /// The database of payment.
    #[arg(long, value_name = "URL")]
    database_url_payment: Option<String>,
    /// The database of dashboard.
    #[arg(long, value_name = "URL")]
    database_url_dashboard: Option<String>,
}

impl DatabaseArgs {
    /// What is given here goes over what is configured.
    fn apply(self, databases: &mut Databases) -> Result<(), Exit> {
        for (context, given) in [
            (Name::Allocation, self.database_url_allocation),
            (Name::Driving, self.database_url_driving),
            (Name::Payment, self.database_url_payment),
            (Name::Dashboard, self.database_url_dashboard),
        ] {
            if let (Some(url), Some(database)) = (given, context.database_mut(databases)) {
                config::check_database_url(&format!("--database-url-{context}"), &url)?;
                database.url = url;
            }
        }
        Ok(())
    }
}

/// A file for each context that was given no other database.
fn use_files(databases: &mut Databases, data: &Data) {
    for context in Name::ALL {
        if let Some(database) = context.database_mut(databases).filter(|it| it.url.is_empty()) {
            database.url = sqlite_url(&data.file(&format!("{context}.db")));
        }
    }
}

/// Runs until a signal.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let begin = Instant::now();
    let stop = on_signals()?;
    let mut settings = args.source.load()?.value;
    args.databases.apply(&mut settings.database)?;
    let ports = Ports::bind(&settings.listen, args.random_ports).await?;
    let data = Data::open(&args.data, args.ephemeral)?;
    use_files(&mut settings.database, &data);
    let ready_path = global.ready_file.clone().unwrap_or_else(|| args.data.join(ready::FILE));
    ReadyFile::clear(&ready_path);

    let mut nats = Nats::start(args.nats, &data, &args.data).await?;
    let ready = ports.addresses(&nats, &data)?;
    settings.auth.issuer = ports.gateway()?;
    settings.service.client_secret = SECRET.to_owned();
    settings.broker.url = nats.url().to_owned();
    settings.upstream = Upstream {
        allocation: ready.grpc[Name::Allocation.as_str()].clone(),
        driving: ready.grpc[Name::Driving.as_str()].clone(),
        payment: ready.grpc[Name::Payment.as_str()].clone(),
        dashboard: ready.grpc[Name::Dashboard.as_str()].clone(),
        message: ready.grpc[Name::Message.as_str()].clone(),
    };
    // Everybody here comes from the same address.
    settings.gateway.connections_per_address = settings.gateway.connections;
    settings.gateway.per_address = Rate { per_second: NonZeroU32::MAX, burst: NonZeroU32::MAX };
    settings.payment.provider_url = ports.provider()?;
    settings.payment.webhook_secret = WEBHOOK_SECRET.parse().ok();

    let payment = server::Faults::default();
    let faults = Faults::new(payment.clone(), &settings.payment.provider_url);
    let mesh = Mesh::new(settings, stop).with_faults(Name::Payment, payment);
    let contexts = start(&mesh, ports, faults, &data).await?;
    let ready_file = tokio::select! {
        () = mesh.stop.cancelled() => None,
        exit = nats.ended() => return Err(exit),
        serving = contexts.serving() => {
            serving?;
            Some(ReadyFile::write(&ready_path, &ready)?)
        }
    };
    if ready_file.is_some() {
        let text = welcome::text(&ready, &ready_path, begin.elapsed(), args.ephemeral);
        // Whether anybody reads it makes no difference to those who call.
        global.output.item(text.trim_end(), &ready).ok();
    }

    // The contexts may be without a broker for a while, but nobody would start this one again.
    let ended = tokio::select! {
        () = mesh.stop.cancelled() => Ok(()),
        exit = nats.ended() => Err(exit),
    };
    drop(ready_file);
    mesh.stop.trigger();
    let drained = mesh.end().await;
    nats.stop().await;
    ended.and(drained)
}

/// Brings the schemas up to date, and starts everything that listens.
async fn start(mesh: &Mesh, ports: Ports, faults: Faults, data: &Data) -> Result<Contexts, Exit> {
    let settings = &mesh.settings;
    let databases = Name::ALL.into_iter().filter(|it| it.database(&settings.database).is_some());
    let migrations = databases.map(|context| migrate::migrate(context, settings));
    let migrated = futures::future::try_join_all(migrations);
    let provider = Provider {
        port: ports.provider,
        log: data.file("provider.db"),
        webhook_url: format!("http://{}/webhooks/provider", settings.upstream.payment),
    };
    let provider = provider.start(&mesh.work);
    futures::future::try_join(migrated, provider).await?;

    let mut contexts = Contexts::default();
    for (context, listener) in ports.contexts {
        contexts.addresses.push(address(&listener)?);
        let readiness = Readiness::new();
        mesh.start(context, listener, &readiness).await?;
        contexts.readiness.push(readiness);
    }
    let keys = data.file("issuer.keys");
    let issuer = Issuer::load_or_create(&settings.auth.issuer, &settings.auth.audience, &keys)
        .map_err(|error| Exit::cannot_create(format!("{}: {error}", keys.display())))?;
    let pages = parts::pages(issuer, contexts.readiness.clone(), mesh.backlogs.clone(), faults);
    mesh.open_gateway(ports.gateway, &Readiness::new(), pages)?;
    Ok(contexts)
}

/// The contexts that were started.
#[derive(Default)]
struct Contexts {
    addresses: Vec<SocketAddr>,
    readiness: Vec<Readiness>,
}

impl Contexts {
    /// Waits until all of them say over the network that they serve.
    async fn serving(&self) -> Result<(), Exit> {
        let all = futures::future::try_join_all(self.addresses.iter().map(|it| mesh::serving(*it)));
        match tokio::time::timeout(START_DEADLINE, all).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(Exit::failed(format!("not serving: {}", status.message()))),
            Err(_) => {
                let missing: Vec<_> =
                    self.readiness.iter().flat_map(Readiness::not_ready).collect();
                let (seconds, missing) = (START_DEADLINE.as_secs(), missing.join(", "));
                Err(Exit::unavailable(format!(
                    "not ready within {seconds} s, missing: {missing} (why is in the log above)"
                )))
            }
        }
    }
}
