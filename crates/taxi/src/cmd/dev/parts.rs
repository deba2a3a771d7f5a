//! What `taxi dev` starts beside the contexts: ports, the broker, the door.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use platform::backlog::Backlogs;
use platform::issuer::Issuer;
use platform::nats_server::{NatsServer, NatsServerError, Options};
use platform::server::{Readiness, scrape};
use tokio::net::{TcpListener, TcpSocket};

use super::data::Data;
use super::faults::Faults;
use crate::config::Listen;
use crate::contexts::Name;
use crate::exit::Exit;
use crate::ports::{address, bind};
use crate::ready::Ready;

/// Every port, bound before anything starts.
pub(super) struct Ports {
    /// The contexts'.
    pub(super) contexts: Vec<(Name, TcpListener)>,
    /// The door's.
    pub(super) gateway: TcpListener,
    /// The payment provider's, which is always a free one.
    pub(super) provider: TcpSocket,
}

impl Ports {
    /// Binds the configured ports, or free ones.
    pub(super) async fn bind(listen: &Listen, random: bool) -> Result<Ports, Exit> {
        let bind = async |what: &str, port| {
            let port = if random { 0 } else { port };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            bind(address, what, "use free ports with `--random-ports`").await
        };
        let mut contexts = Vec::new();
        for context in Name::ALL {
            contexts.push((context, bind(context.as_str(), context.port(listen)).await?));
        }
        let gateway = bind("gateway", listen.gateway).await?;
        let provider = reserve().map_err(|error| {
            Exit::failed(format!("there is no port for the payment provider: {error}"))
        })?;
        Ok(Ports { contexts, gateway, provider })
    }

    /// The base address of the door.
    pub(super) fn gateway(&self) -> Result<String, Exit> {
        Ok(format!("http://{}", address(&self.gateway)?))
    }

    /// The base address of the payment provider.
    pub(super) fn provider(&self) -> Result<String, Exit> {
        let address = self.provider.local_addr();
        let address = address.map_err(|error| Exit::failed(format!("no address: {error}")))?;
        Ok(format!("http://{address}"))
    }

    /// All addresses.
    pub(super) fn addresses(&self, nats: &Nats, data: &Data) -> Result<Ready, Exit> {
        let mut ready = Ready {
            gateway: Some(self.gateway()?),
            nats: Some(nats.url().to_owned()),
            provider: Some(self.provider()?),
            data: Some(data.dir().to_owned()),
            ..Ready::default()
        };
        for (context, listener) in &self.contexts {
            ready.grpc.insert(context.to_string(), address(listener)?.to_string());
        }
        Ok(ready)
    }
}

/// A free port for somebody else: nobody listens there yet, and nobody is given it.
fn reserve() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(socket)
}

/// Which broker.
#[derive(Debug, clap::Args)]
pub(super) struct NatsArgs {
    /// Use this running broker.
    #[arg(long, value_name = "URL", conflicts_with = "nats_server")]
    nats_url: Option<String>,
    /// Run this nats-server, instead of one in the data directory's bin, .taxi/bin or PATH.
    #[arg(long, value_name = "PROGRAM")]
    nats_server: Option<PathBuf>,
}

/// The broker: somebody else's, or our own child.
pub(super) struct Nats {
    url: String,
    server: Option<NatsServer>,
}

impl Nats {
    /// Starts one, unless one is given.
    pub(super) async fn start(args: NatsArgs, data: &Data, home: &Path) -> Result<Nats, Exit> {
        if let Some(url) = args.nats_url {
            let valid = url.split(',').all(|it| reqwest::Url::parse(it.trim()).is_ok());
            return match valid {
                true => Ok(Nats { url, server: None }),
                false => Err(Exit::config(format!(
                    "--nats-url is no address of a broker: {url:?} does not look like \
                     nats://host:4222"
                ))),
            };
        }
        let options = Options {
            binary: args.nats_server,
            search: vec![home.join("bin"), PathBuf::from(".taxi/bin")],
            store_dir: data.file("nats"),
            port: None,
        };
        let server = NatsServer::start(options).await.map_err(|error| match error {
            NatsServerError::Store { .. } | NatsServerError::InUse { .. } => {
                Exit::cannot_create(error.to_string())
            }
            _ => Exit::unavailable(error.to_string()),
        })?;
        Ok(Nats { url: server.url(), server: Some(server) })
    }

    /// Its address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until our own child ends by itself; that is nothing to live with.
    pub(super) async fn ended(&mut self) -> Exit {
        let Some(server) = &mut self.server else { return std::future::pending().await };
        let how = match server.exited().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Exit::unavailable(format!("nats-server ended by itself ({how}): start again"))
    }

    /// Stops our own child.
    pub(super) async fn stop(self) {
        if let Some(server) = self.server
            && let Err(error) = server.stop().await
        {
            tracing::warn!("{error}");
        }
    }
}

/// The pages beside the gateway: development tokens, whether everything is well, how much there is of
/// what, and what goes wrong on purpose.
pub(super) fn pages(
    issuer: Issuer,
    contexts: Vec<Readiness>,
    backlogs: Backlogs,
    faults: Faults,
) -> Router {
    let readyz = async move || {
        let missing: Vec<&str> = contexts.iter().flat_map(Readiness::not_ready).collect();
        match contexts.iter().all(Readiness::is_ready) {
            true => (StatusCode::OK, "ready\n".to_owned()),
            false => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", ")))
            }
        }
    };
    issuer
        .router()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async move || scrape(&backlogs).await))
        .merge(faults.router())
}
