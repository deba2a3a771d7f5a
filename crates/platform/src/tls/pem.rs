//! What is in PEM files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::der::Decode as _;

use super::TlsError;

/// A file, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) content: Vec<u8>,
}

impl File {
    /// Reads a file, if there is one to read.
    pub(super) fn read(path: &Path) -> Result<Option<File>, TlsError> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let path = path.to_owned();
        match std::fs::read(&path) {
            Ok(content) => Ok(Some(File { path, content })),
            Err(source) => Err(TlsError::Read { path, source }),
        }
    }

    fn wrong(&self, why: impl ToString) -> TlsError {
        TlsError::Content { path: self.path.clone(), why: why.to_string() }
    }

    /// The certificates in it, of which there is at least one.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.content).collect();
        let found = found.map_err(|error| self.wrong(error))?;
        match found.is_empty() {
            true => Err(self.wrong("there is no certificate in it")),
            false => Ok(found),
        }
    }

    /// The certificates in it, as those of authorities.
    pub(super) fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.wrong(error))?;
        }
        Ok(roots)
    }
}

/// A certificate and its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) certificate: File,
    pub(super) key: File,
}

impl Identity {
    /// Reads both, if they are set.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Option<Identity>, TlsError> {
        match (File::read(certificate)?, File::read(key)?) {
            (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
            (None, None) => Ok(None),
            _ => Err(TlsError::Half),
        }
    }

    /// The certificate and those between it and its authority.
    pub(super) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        self.certificate.certificates()
    }

    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.key.content).map_err(|error| self.key.wrong(error))
    }

    /// Until when the certificate is valid, since 1970.
    pub(super) fn expiry(&self) -> Option<Duration> {
        let chain = self.chain().ok()?;
        let certificate = x509_cert::Certificate::from_der(chain.first()?).ok()?;
        Some(certificate.tbs_certificate.validity.not_after.to_unix_duration())
    }
}
