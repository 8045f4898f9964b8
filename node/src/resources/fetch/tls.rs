//! Whom secure connections trust: the certificate authorities of this system.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Certificate authorities.
#[derive(Debug, Clone)]
pub struct Authorities(Arc<Vec<Certificate<'static>>>);

impl Authorities {
    /// Those of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`. May block on the disk.
    pub fn of_system() -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "a certificate authority was not read");
        }
        Self(Arc::new(found.certs.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect()))
    }

    /// Those in a PEM text.
    pub fn of_pem(pem: &[u8]) -> Self {
        let certificate = |item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        };
        Self(Arc::new(parse_pem(pem).filter_map(certificate).collect()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Settings of a connection that trusts these and nobody else. The cryptography is what the peer-to-peer transport
    /// brings anyway, named here: without a name the library would look for one of the whole process.
    pub fn settings(&self) -> TlsConfig {
        let provider: CryptoProvider = rustls::crypto::aws_lc_rs::default_provider();
        TlsConfig::builder()
            .root_certs(RootCerts::Specific(self.0.clone()))
            .unversioned_rustls_crypto_provider(Arc::new(provider))
            .build()
    }
}
