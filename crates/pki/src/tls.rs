//! TLS on both ends: the server's configuration, and the verifier with which a new machine recognises its cluster.
//!
//! The verifier trusts nothing but the one authority whose pin it was given; it finds it among the certificates that the server
//! presents, and then verifies the server's own against it as any client would, name and time included.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::certificate::{certificate_der, certificates_der};
use crate::{Ca, CaPin, Error, Identity};

/// The cryptography that everything of ours uses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A server's configuration that shows this identity: HTTP/2 and HTTP/1.1; a client's certificate of this authority is
/// verified when there is one, and asked for but not demanded.
pub fn server_config(ca: &Ca, identity: Arc<Identity>) -> Result<Arc<ServerConfig>, Error> {
    let tls = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let clients = WebPkiClientVerifier::builder_with_provider(roots(ca.certificate_der())?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| tls(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client's configuration: it trusts this authority only, and shows this certificate. HTTP/1.1. All in PEM.
///
/// # Errors
/// What cannot be read as PEM, or used.
pub fn client_config(ca: &str, certificate: &str, key: &str) -> Result<ClientConfig, Error> {
    let tls = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| tls(&error))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?;
    let builder = builder.with_root_certificates(roots(&certificate_der(ca)?)?);
    builder.with_client_auth_cert(certificates_der(certificate)?, key).map_err(|error| tls(&error))
}

fn roots(ca: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(|error| Error::Tls(error.to_string()))?;
    Ok(Arc::new(roots))
}

/// The server did not present the authority that the pin names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's certificate authority is not the one that the token names ({pin})")]
pub struct PinMismatch {
    /// The pin that was looked for.
    pub pin: CaPin,
}

impl PinMismatch {
    /// Finds the mismatch in what rustls reports of a handshake.
    #[must_use]
    pub fn find(error: &rustls::Error) -> Option<Self> {
        let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else {
            return None;
        };
        inner.downcast_ref::<Self>().copied()
    }
}

/// Decides which servers a machine believes that does not have the cluster's authority yet.
#[derive(Debug)]
pub struct NewcomersVerifier {
    believed: Believed,
    provider: Arc<CryptoProvider>,
}

#[derive(Clone, Copy, Debug)]
enum Believed {
    /// Exactly the servers whose chain leads to this authority.
    Pinned(CaPin),
    /// Any server that has its certificate's key.
    Any,
}

impl NewcomersVerifier {
    /// Accepts exactly the servers whose chain leads to the pinned authority.
    #[must_use]
    pub fn pinned(pin: CaPin) -> Self {
        Self { believed: Believed::Pinned(pin), provider: provider() }
    }
}

/// The authority with this pin, if the server presented it.
fn pinned_authority(
    pin: CaPin,
    presented: &[CertificateDer<'_>],
) -> Result<Arc<RootCertStore>, rustls::Error> {
    let authority = presented
        .iter()
        .find(|certificate| CaPin::of(certificate) == pin)
        .ok_or_else(|| CertificateError::Other(OtherError(Arc::new(PinMismatch { pin }))))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    Ok(Arc::new(roots))
}

impl ServerCertVerifier for NewcomersVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Believed::Pinned(pin) = self.believed else { return Ok(ServerCertVerified::assertion()) };
        let roots = pinned_authority(pin, intermediates)?;
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A client's configuration that believes any server. Only for asking what can do no harm when it is a lie, and for telling
/// nothing: before a machine has joined there is nothing to know a server by.
///
/// # Errors
/// When there is no version of TLS to speak.
pub fn unverified_client_config() -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NewcomersVerifier {
            believed: Believed::Any,
            provider: provider(),
        }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{ClientConfig, ClientConnection, ServerConnection};

    use super::*;
    use crate::{AltName, VALIDITY};

    fn server(ca: &Ca, names: &[AltName]) -> Arc<ServerConfig> {
        server_config(ca, Identity::issue(ca, names, VALIDITY).unwrap()).unwrap()
    }

    fn ca() -> Ca {
        Ca::load_or_create(tempfile::tempdir().unwrap().path()).unwrap()
    }

    fn client_config(pin: CaPin) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NewcomersVerifier::pinned(pin)))
            .with_no_client_auth()
    }

    /// Runs a whole handshake in memory and returns what the client thinks of it.
    fn handshake(
        client: ClientConfig,
        server: Arc<ServerConfig>,
        name: &'static str,
    ) -> Result<(), rustls::Error> {
        let name = ServerName::try_from(name).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            pass(|to| client.write_tls(to), |from| server.read_tls(from));
            server.process_new_packets()?;
            pass(|to| server.write_tls(to), |from| client.read_tls(from));
            client.process_new_packets()?;
        }
        Ok(())
    }

    fn pass(
        write: impl FnOnce(&mut dyn io::Write) -> io::Result<usize>,
        read: impl FnOnce(&mut dyn io::Read) -> io::Result<usize>,
    ) {
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        read(&mut &bytes[..]).unwrap();
    }

    #[test]
    fn the_pinned_authority_is_found_and_verified() {
        let ca = ca();
        let names = ["127.0.0.1".into(), "localhost".into()];
        for name in ["127.0.0.1", "localhost"] {
            handshake(client_config(ca.pin()), server(&ca, &names), name).unwrap();
        }
    }

    #[test]
    fn a_server_goes_on_under_another_certificate() {
        let ca = ca();
        let identity = Identity::issue(&ca, &["127.0.0.1".into()], VALIDITY).unwrap();
        let server = server_config(&ca, Arc::clone(&identity)).unwrap();
        let shake = |name| handshake(client_config(ca.pin()), Arc::clone(&server), name);
        shake("127.0.0.1").unwrap();
        assert!(shake("127.0.0.2").is_err());
        identity.reissue(&ca, &["127.0.0.2".into()], VALIDITY).unwrap();
        assert!(shake("127.0.0.1").is_err());
        shake("127.0.0.2").unwrap();
        assert!(identity.reissue(&ca, &["b\u{fc}cher".into()], VALIDITY).is_err());
        shake("127.0.0.2").unwrap();
    }

    #[test]
    fn another_authority_is_a_pin_mismatch() {
        let (ca, other) = (ca(), ca());
        let server = server(&ca, &["127.0.0.1".into()]);
        let error = handshake(client_config(other.pin()), server, "127.0.0.1").unwrap_err();
        assert_eq!(PinMismatch::find(&error), Some(PinMismatch { pin: other.pin() }));
    }

    #[test]
    fn presenting_the_pinned_certificate_is_not_enough() {
        let (ca, impostor) = (ca(), ca());
        let forged = impostor.issue_server(&["127.0.0.1".into()], VALIDITY).unwrap();
        let leaf = certificates_der(&forged.cert).unwrap().remove(0);
        let chain = vec![leaf, ca.certificate_der().clone()];
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(forged.key.as_bytes()).unwrap())
            .unwrap();
        let error = handshake(client_config(ca.pin()), Arc::new(server), "127.0.0.1").unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
        assert_eq!(PinMismatch::find(&error), None);
    }

    #[test]
    fn the_authority_itself_is_no_server() {
        let ca = ca();
        let verifier = NewcomersVerifier::pinned(ca.pin());
        let result = verifier.verify_server_cert(
            ca.certificate_der(),
            std::slice::from_ref(ca.certificate_der()),
            &ServerName::try_from("localhost").unwrap(),
            &[],
            UnixTime::now(),
        );
        assert!(result.is_err());
    }

    #[test]
    fn another_name_is_refused() {
        let ca = ca();
        let server = server(&ca, &["127.0.0.1".into()]);
        let error = handshake(client_config(ca.pin()), server, "127.0.0.2").unwrap_err();
        assert!(
            matches!(
                error,
                rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
                )
            ),
            "{error}"
        );
    }

    #[test]
    fn time_is_verified() {
        let ca = ca();
        let pair = ca.issue_server(&["127.0.0.1".into()], VALIDITY).unwrap();
        let chain = certificates_der(&pair.cert).unwrap();
        let at = |seconds: u64| {
            NewcomersVerifier::pinned(ca.pin())
                .verify_server_cert(
                    &chain[0],
                    &chain[1..],
                    &ServerName::try_from("127.0.0.1").unwrap(),
                    &[],
                    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
                )
                .map(|_| ())
        };
        let now = UnixTime::now().as_secs();
        at(now - 200).unwrap();
        let early = at(now - 24 * 3600).unwrap_err();
        assert!(
            matches!(early, rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { .. })),
            "{early}"
        );
        let late = at(now + 366 * 24 * 3600).unwrap_err();
        assert!(
            matches!(late, rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. })),
            "{late}"
        );
    }

    #[test]
    fn client_certificates_are_verified_by_the_server() {
        let (ca, other) = (ca(), ca());
        let with = |issuer: &Ca| {
            let pair = issuer
                .issue_client("admin", &["system:masters"], std::time::Duration::from_secs(60))
                .unwrap();
            let chain = certificates_der(&pair.cert).unwrap();
            let config = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots(ca.certificate_der()).unwrap())
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap())
                .unwrap();
            handshake(config, server(&ca, &["localhost".into()]), "localhost")
        };
        with(&ca).unwrap();
        assert!(with(&other).is_err());
    }
}
