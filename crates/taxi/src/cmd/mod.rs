//! The commands, one a file: `Args` is what the command line says, `run` does it.

pub(crate) mod call;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod describe;
pub(crate) mod dev;
pub(crate) mod fault;
pub(crate) mod issuer;
pub(crate) mod list;
pub(crate) mod migrate;
pub(crate) mod openapi;
pub(crate) mod outbox;
pub(crate) mod parked;
pub(crate) mod provider_sim;
pub(crate) mod rebuild;
pub(crate) mod serve;
pub(crate) mod token;

use std::time::Duration;

use axum::Router;
use platform::shutdown::Shutdown;
use tokio::net::TcpListener;

use crate::exit::Exit;
use crate::ready::{ReadyFile, Started};
use crate::{Global, http};

/// How long requests in flight get to finish.
const GRACE: Duration = Duration::from_secs(5);

/// The end that a signal brings about.
fn on_signals() -> Result<Shutdown, Exit> {
    Shutdown::on_signals()
        .map_err(|error| Exit::failed(format!("cannot listen to signals: {error}")))
}

/// Serves one development part until a signal; says where.
async fn serve_part(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    url: String,
    global: &Global,
) -> Result<(), Exit> {
    let stop = on_signals()?;
    http::serve(name, listener, router, &stop);
    let started = Started { url };
    global.output.item(&started.url, &started)?;
    let ready_file = global.ready_file.as_deref();
    let _ready_file = ready_file.map(|path| ReadyFile::write(path, &started)).transpose()?;
    stop.cancelled().await;
    stop.wait(GRACE).await;
    Ok(())
}
