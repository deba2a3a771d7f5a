//! The server's side.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch::Receiver;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::pem::{File, Identity};
use super::watch::{Files, follow};
use super::{ServerFiles, TlsError};

/// How many connections are made at the same time; more have to wait.
const HANDSHAKES: usize = 256;

/// A port, and whether it speaks TLS.
pub struct Listener {
    /// The port.
    pub tcp: TcpListener,
    /// Without it there is none.
    pub tls: Option<ServerTls>,
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Listener {
        Listener { tcp, tls: None }
    }
}

/// A server's side of TLS, always as its files are. Clones share it.
#[derive(Clone)]
pub struct ServerTls(Receiver<Arc<ServerConfig>>);

impl ServerTls {
    /// TLS as these files have it, if there is a certificate. They are looked at once in each
    /// `period`; `name` is what the log and the metrics call it.
    pub fn load(
        name: &'static str,
        files: &ServerFiles,
        period: Duration,
    ) -> Result<Option<ServerTls>, TlsError> {
        let ServerFiles { certificate, key, client_ca } = files;
        if certificate.as_os_str().is_empty() && key.as_os_str().is_empty() {
            return match client_ca.as_os_str().is_empty() {
                true => Ok(None),
                false => Err(TlsError::NoCertificate),
            };
        }
        follow(name, files.clone(), period).map(ServerTls).map(Some)
    }

    /// The server's part of a handshake, which may take this long.
    pub async fn accept<I>(&self, io: I, patience: Duration) -> io::Result<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.0.borrow().clone());
        timeout(patience, acceptor.accept(io)).await?
    }

    /// The connections that have shaken hands, each of them while others still do.
    pub(crate) fn secured<S>(
        self,
        tcp: S,
        patience: Duration,
    ) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>>
    where
        S: Stream<Item = io::Result<TcpStream>>,
    {
        let shake_hands = move |stream: io::Result<TcpStream>| {
            let tls = self.clone();
            // A task for each, or all would share one core.
            tokio::spawn(async move { tls.accept(stream?, patience).await })
        };
        let shaken = tcp.map(shake_hands).buffer_unordered(HANDSHAKES);
        shaken.map(|shaken| {
            let shaken = shaken.map_err(io::Error::other).flatten();
            shaken.inspect_err(|error| tracing::debug!(%error, "a handshake failed"))
        })
    }
}

/// What is in a server's files.
#[derive(PartialEq)]
pub(super) struct Content {
    identity: Identity,
    client_ca: Option<File>,
}

impl Files for ServerFiles {
    type Content = Content;
    type Made = Arc<ServerConfig>;

    fn read(&self) -> Result<Content, TlsError> {
        let identity = Identity::read(&self.certificate, &self.key)?;
        let client_ca = File::read(&self.client_ca)?;
        Ok(Content { identity: identity.ok_or(TlsError::Half)?, client_ca })
    }

    fn make(content: &Content) -> Result<Arc<ServerConfig>, TlsError> {
        let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match &content.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let roots = Arc::new(authorities.authorities()?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                let verifier = verifier.map_err(|error| TlsError::Unusable(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (chain, key) = (content.identity.chain()?, content.identity.private_key()?);
        let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn identity(content: &Content) -> Option<&Identity> {
        Some(&content.identity)
    }
}
