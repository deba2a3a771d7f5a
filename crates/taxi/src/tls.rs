//! TLS of this process: its ports, and its calls to neighbours.

use std::time::Duration;

use platform::client::{Balanced, balanced_over};
use platform::config::duration;
use platform::tls::{ClientFiles, ClientTls, ServerFiles, ServerTls};
use serde::Deserialize;

use crate::config::Upstream;
use crate::contexts::Name;
use crate::exit::Exit;

/// The files, and how often they are looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    #[serde(with = "duration")]
    reload: Duration,
    gateway: ServerFiles,
    contexts: ServerFiles,
    upstream: ClientFiles,
}

/// What was made of them. Without files, nothing is TLS but calls to `https://`.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// The gateway's port.
    pub(crate) gateway: Option<ServerTls>,
    /// The contexts' ports.
    pub(crate) contexts: Option<ServerTls>,
    upstream: ClientTls,
    /// Whether somebody has set whom to trust.
    wanted: bool,
}

impl Tls {
    /// Reads the files. What cannot be used is no TLS to start with.
    pub(crate) fn load(files: &Files) -> Result<Tls, Exit> {
        let server = |name: &'static str, files: &ServerFiles, reload| {
            ServerTls::load(name, files, reload)
                .map_err(|error| Exit::config(format!("tls.{name}: {error}")))
        };
        let Files { reload, gateway, contexts, upstream } = files;
        Ok(Tls {
            gateway: server("gateway", gateway, *reload)?,
            contexts: server("contexts", contexts, *reload)?,
            upstream: ClientTls::load("upstream", upstream, *reload)
                .map_err(|error| Exit::config(format!("tls.upstream: {error}")))?,
            wanted: !upstream.ca.as_os_str().is_empty(),
        })
    }

    /// A channel to a context, at its configured address.
    pub(crate) fn neighbour(&self, name: Name, upstream: &Upstream) -> Result<Balanced, Exit> {
        let address = name.upstream(upstream);
        if self.wanted && !address.starts_with("https://") {
            return Err(Exit::config(format!(
                "upstream.{name}: tls.upstream.ca is set, but {address} is called without TLS: \
                 write https://{address}"
            )));
        }
        balanced_over(&self.upstream, address)
            .map_err(|error| Exit::config(format!("upstream.{name}: {error}")))
    }
}

/// The base address of a port.
pub(crate) fn base(tls: Option<&ServerTls>, address: impl std::fmt::Display) -> String {
    let scheme = if tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{address}")
}
