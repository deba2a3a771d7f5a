//! TLS, with certificates that may be replaced at any time.
//!
//! Certificates, keys and authorities are PEM files, which are looked at again and again. What has
//! changed counts for new connections; those that are open go on. What cannot be used does not
//! count: what was there before stays, and the log says once what is wrong.
//!
//! * [`ServerTls`]: a port's own certificate, and whose clients may connect.
//! * [`ClientTls`]: whose servers are called by `https://`, and our own certificate for those that
//!   ask for one.

mod client;
mod pem;
mod server;
mod watch;

use std::path::PathBuf;

pub use self::client::ClientTls;
pub use self::server::{Listener, ServerTls};
pub use tokio_rustls::server::TlsStream;

use serde::{Deserialize, Serialize};

/// The files of a server. Empty means not set; without a certificate there is no TLS.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerFiles {
    /// The server's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates: without it, clients need none.
    pub client_ca: PathBuf,
}

/// The files of a client. Empty means not set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientFiles {
    /// The authorities of servers' certificates: without it, those that web browsers trust.
    pub ca: PathBuf,
    /// The client's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// Why these files make no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of certificate and key is missing.
    #[error("certificate and key go together: set both, or none")]
    Half,
    /// Authorities for clients, but no certificate.
    #[error("client_ca is set, but no certificate: without one there is no TLS")]
    NoCertificate,
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// They do not fit together.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(String),
}
