//! `taxi serve`: contexts and the gateway in production.
//!
//! Starts strict and lives on: a configuration with a hole in it is refused at once, but a broker, a
//! database or a schema that is not there yet is waited for, at the start as well as later. It does
//! not migrate: that is one job for all replicas, `taxi migrate`.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use platform::server::{self, Readiness};
use platform::telemetry;

use super::on_signals;
use crate::config::Source;
use crate::contexts::Name;
use crate::exit::Exit;
use crate::mesh::{self, Mesh};
use crate::ready::{Ready, ReadyFile};
use crate::tls::Tls;
use crate::{Global, gateway, ports, tls};

/// Serve contexts, or the gateway, in production.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// What to serve: allocation, driving, payment, dashboard, message, gateway.
    #[arg(required = true, hide_possible_values = true)]
    parts: Vec<Part>,
    /// On which address, instead of `host` in [listen]: 0.0.0.0 in a container.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<IpAddr>,
    /// How log lines look: json or pretty.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, hide_possible_values = true)]
    log_format: LogFormat,
}

/// What a process can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Context(Name),
    Gateway,
}

impl Part {
    fn context(self) -> Option<Name> {
        match self {
            Part::Context(name) => Some(name),
            Part::Gateway => None,
        }
    }
}

impl ValueEnum for Part {
    fn value_variants<'a>() -> &'a [Part] {
        static ALL: LazyLock<Vec<Part>> = LazyLock::new(|| {
            Name::ALL.into_iter().map(Part::Context).chain([Part::Gateway]).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Part::Context(name) => name.to_possible_value(),
            Part::Gateway => Some(PossibleValue::new(gateway::NAME)),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Pretty,
}

impl Args {
    /// What this process is called in traces: `taxi-driving`; `taxi` when it serves several parts.
    pub(crate) fn service_name(&self) -> String {
        match self.parts[..] {
            [Part::Context(name)] => format!("taxi-{name}"),
            [Part::Gateway] => format!("taxi-{}", gateway::NAME),
            _ => "taxi".to_owned(),
        }
    }

    /// How log lines look.
    pub(crate) fn log_format(&self) -> telemetry::Format {
        match self.log_format {
            LogFormat::Json => telemetry::Format::Json,
            LogFormat::Pretty => telemetry::Format::Pretty,
        }
    }
}

/// Serves until a signal.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let mut settings = args.source.load()?.value;
    settings.listen.host = args.listen.unwrap_or(settings.listen.host);
    let mut parts = args.parts;
    parts.sort();
    parts.dedup();
    let contexts: Vec<Name> = parts.iter().filter_map(|part| part.context()).collect();
    settings.require(&contexts)?;
    let tls = Tls::load(&settings.tls)?;

    let listen = settings.listen.clone();
    let bind = async |what: &str, port| {
        let advice = format!("choose another port: listen.{what}, where 0 lets the kernel choose");
        ports::bind(SocketAddr::new(listen.host, port), what, &advice).await
    };
    let admin = bind("admin", listen.admin).await?;
    let mut ready =
        Ready { admin: Some(format!("http://{}", ports::address(&admin)?)), ..Ready::default() };
    let door = match parts.contains(&Part::Gateway) {
        true => Some(bind(gateway::NAME, listen.gateway).await?),
        false => None,
    };
    if let Some(door) = &door {
        ready.gateway = Some(tls::base(tls.gateway.as_ref(), ports::address(door)?));
    }
    let mut listeners = Vec::new();
    for context in contexts {
        let listener = bind(context.as_str(), context.port(&listen)).await?;
        let address = ports::address(&listener)?;
        ready.grpc.insert(context.to_string(), address.to_string());
        listeners.push((context, listener, address));
    }

    let mesh = Mesh::new(settings, on_signals()?).with_tls(tls);
    // A process is ready or it is not: all its contexts share one answer.
    let readiness = Readiness::new();
    let health = server::admin(admin, readiness.clone(), mesh.backlogs.clone(), mesh.stop.clone());
    mesh.stop.spawn("admin", async move {
        if let Err(error) = health.await {
            tracing::error!(%error, "cannot serve /livez, /readyz and /metrics");
        }
    });
    if let Some(door) = door {
        tracing::info!(address = ready.gateway, "the gateway is listening");
        mesh.open_gateway(door, &readiness, server::probes(readiness.clone()))?;
    }
    let mut addresses = Vec::new();
    for (context, listener, address) in listeners {
        tracing::info!(%context, %address, "listening");
        mesh.start(context, listener, &readiness).await?;
        addresses.push(address);
    }

    let serving = async {
        if mesh.tls.contexts.is_some() {
            // Our certificate is for a name, and this is an address: we believe ourselves.
            readiness.ready().await;
            return Ok(());
        }
        futures::future::try_join_all(addresses.into_iter().map(mesh::serving)).await.map(drop)
    };
    let _ready_file = tokio::select! {
        () = mesh.stop.cancelled() => None,
        serving = serving => {
            serving.map_err(|status: tonic::Status| Exit::failed(format!("not serving: {}", status.message())))?;
            tracing::info!("ready");
            global.ready_file.as_deref().map(|path| ReadyFile::write(path, &ready)).transpose()?
        }
    };
    mesh.end().await
}
