//! A TLS Secret whose certificate and key do not fit, in the words of Go's `tls.X509KeyPair`, which upstream warns with.
//!
//! A key of a kind that is not known here is not judged.

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

const NO_CERTIFICATE: &str = "tls: failed to find any PEM data in certificate input";
const SWITCHED: &str = "tls: failed to find certificate PEM data in certificate input, but did find a private key; \
     PEM inputs may have been switched";
const NO_KEY: &str = "tls: failed to find any PEM data in key input";
const NOT_A_KEY: &str = "tls: found a certificate rather than a key in the PEM for the private key";
const MALFORMED: &str = "x509: malformed certificate";
const OTHER_TYPE: &str = "tls: private key type does not match public key type";
const OTHER_KEY: &str = "tls: private key does not match public key";

/// What is wrong with a pair, both in PEM.
pub(super) fn problem(certificate: &[u8], key: &[u8]) -> Option<&'static str> {
    let Ok(leaf) = CertificateDer::from_pem_slice(certificate) else {
        let is_key = PrivateKeyDer::from_pem_slice(certificate).is_ok();
        return Some(if is_key { SWITCHED } else { NO_CERTIFICATE });
    };
    let Ok(private) = PrivateKeyDer::from_pem_slice(key) else {
        let is_certificate = CertificateDer::from_pem_slice(key).is_ok();
        return Some(if is_certificate { NOT_A_KEY } else { NO_KEY });
    };
    let Ok((_, leaf)) = X509Certificate::from_der(&leaf) else { return Some(MALFORMED) };
    let private = any_supported_type(&private).ok()?;
    let own = private.public_key()?;
    let certified = leaf.public_key();
    if own.as_ref() == certified.raw {
        return None;
    }
    let (_, own) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&own).ok()?;
    Some(if own.algorithm.algorithm == certified.algorithm.algorithm { OTHER_KEY } else { OTHER_TYPE })
}
