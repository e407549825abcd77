//! A certificate and its key as they are shown in handshakes. It can be exchanged while a server serves: connections that
//! are there keep what they have, new ones get the new.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::certificate::{Certificate, certificate_pem, certificates_der};
use crate::tls::provider;
use crate::{AltName, Ca, Error, KeyPairPem};

/// What a server shows of itself.
#[derive(Debug)]
pub struct Identity(ArcSwap<CertifiedKey>);

impl Identity {
    /// A fresh certificate for a server under these names.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn issue(ca: &Ca, names: &[AltName], validity: Duration) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(&ca.issue_server(names, validity)?)?))))
    }

    /// The same, in place of the one that is shown.
    ///
    /// # Errors
    /// As [`Identity::issue`]; then the old one goes on to be shown.
    pub fn reissue(&self, ca: &Ca, names: &[AltName], validity: Duration) -> Result<(), Error> {
        self.0.store(Arc::new(certified(&ca.issue_server(names, validity)?)?));
        Ok(())
    }

    /// The certificate that is shown now, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.0.load().cert.first().map(certificate_pem).unwrap_or_default()
    }

    /// What that certificate says.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn certificate(&self) -> Result<Certificate, Error> {
        Certificate::from_pem(&self.certificate_pem())
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified(pair: &KeyPairPem) -> Result<CertifiedKey, Error> {
    let tls = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|error| tls(&error))?;
    CertifiedKey::from_der(certificates_der(&pair.cert)?, key, &provider()).map_err(|error| tls(&error))
}
