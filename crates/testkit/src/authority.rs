//! Certificates for TLS, made when a test needs them.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Who an authority's certificates are for.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// One that nobody knows yet.
    ///
    /// # Panics
    ///
    /// When there is no randomness for a key.
    #[must_use]
    pub fn new() -> Authority {
        let key = key();
        let mut params = named("a test's authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// Its own certificate, as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate of whoever is at `localhost`, and its key.
    ///
    /// # Panics
    ///
    /// When there is no randomness for a key.
    #[must_use]
    pub fn certify(&self, name: &str) -> Certified {
        let key = key();
        let certificate = named(name, &NAMES).signed_by(&key, &self.issuer).expect("signed");
        Certified { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Certified {
    /// Writes both into a directory, as `<name>.pem` and `<name>.key`, and says where.
    ///
    /// # Panics
    ///
    /// When the directory cannot be written to.
    pub fn write(&self, directory: &std::path::Path, name: &str) -> (PathBuf, PathBuf) {
        let paths = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
        std::fs::write(&paths.0, &self.certificate).expect("a certificate is written");
        std::fs::write(&paths.1, &self.key).expect("a key is written");
        paths
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("good names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
