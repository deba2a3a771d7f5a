//! The client's side.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch::{self, Receiver};
use tonic::transport::{self, Certificate, ClientTlsConfig, Endpoint};

use super::pem::{File, Identity};
use super::watch::{Files, follow};
use super::{ClientFiles, TlsError};

/// How long a server may take for its part of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client's side of TLS, always as its files are. Clones share it.
#[derive(Clone)]
pub struct ClientTls(Receiver<ClientTlsConfig>);

impl Default for ClientTls {
    /// Servers that web browsers trust, and no certificate of our own.
    fn default() -> ClientTls {
        ClientTls(watch::channel(public()).1)
    }
}

impl ClientTls {
    /// TLS as these files have it. They are looked at once in each `period`; `name` is what the log
    /// and the metrics call it.
    pub fn load(
        name: &'static str,
        files: &ClientFiles,
        period: Duration,
    ) -> Result<ClientTls, TlsError> {
        let ClientFiles { ca, certificate, key } = files;
        if [ca, certificate, key].into_iter().all(|path| path.as_os_str().is_empty()) {
            return Ok(ClientTls::default());
        }
        follow(name, files.clone(), period).map(ClientTls)
    }

    /// TLS to the servers of the authorities in this file, as it is now: for whoever ends soon.
    pub fn trusting(ca: &Path) -> Result<ClientTls, TlsError> {
        let files = ClientFiles { ca: ca.to_owned(), ..ClientFiles::default() };
        let made = ClientFiles::make(&files.read()?)?;
        Ok(ClientTls(watch::channel(made).1))
    }

    /// Lets an endpoint be called by TLS, as it is now. The server has to be this one.
    pub(crate) fn apply(
        &self,
        endpoint: Endpoint,
        host: &str,
    ) -> Result<Endpoint, transport::Error> {
        // Only an address has brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        endpoint.tls_config(self.0.borrow().clone().domain_name(host))
    }

    /// Waits until it is another than the last time.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could change it.
            std::future::pending().await
        }
    }
}

fn public() -> ClientTlsConfig {
    ClientTlsConfig::new().with_webpki_roots().timeout(HANDSHAKE_TIMEOUT)
}

/// What is in a client's files.
#[derive(PartialEq)]
pub(super) struct Content {
    ca: Option<File>,
    identity: Option<Identity>,
}

impl Files for ClientFiles {
    type Content = Content;
    type Made = ClientTlsConfig;

    fn read(&self) -> Result<Content, TlsError> {
        let identity = Identity::read(&self.certificate, &self.key)?;
        Ok(Content { ca: File::read(&self.ca)?, identity })
    }

    fn make(content: &Content) -> Result<ClientTlsConfig, TlsError> {
        let mut config = match &content.ca {
            None => public(),
            Some(ca) => {
                // Here what is no certificate is an error, not passed over.
                ca.authorities()?;
                let ca = Certificate::from_pem(&ca.content);
                ClientTlsConfig::new().ca_certificate(ca).timeout(HANDSHAKE_TIMEOUT)
            }
        };
        if let Some(identity) = &content.identity {
            identity.chain()?;
            identity.private_key()?;
            let (certificate, key) = (&identity.certificate.content, &identity.key.content);
            config = config.identity(transport::Identity::from_pem(certificate, key));
        }
        // The first use shows whether certificate and key belong together.
        let anybody = Endpoint::from_static("https://localhost").tls_config(config.clone());
        anybody.map_err(|error| TlsError::Unusable(crate::status::Chain(&error).to_string()))?;
        Ok(config)
    }

    fn identity(content: &Content) -> Option<&Identity> {
        content.identity.as_ref()
    }
}
