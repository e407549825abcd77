//! The certificate authority: made once, kept in two files, signing everything else.
//!
//! The key is written before the certificate. So a crash between the two leaves a key alone, from which the certificate is
//! made again; a certificate alone is a lost key and an error, since a new one would cut off everything that trusts the old.
//! Certificates are backdated a little, for machines whose clocks run late.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::CertificateDer;

use crate::certificate::{Certificate, certificate_der};
use crate::file::{ensure_private_dir, read_optional, write_public, write_secret};
use crate::{CaPin, Error};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority is valid.
const CA_VALIDITY: Duration = DAY.saturating_mul(3653);
/// How long everything else is valid, where nobody says otherwise. Long enough for a machine that is off for some months.
pub const VALIDITY: Duration = DAY.saturating_mul(365);
/// How far a clock may run late and still find a fresh certificate valid.
pub(crate) const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// A certificate (chain) and its private key, both PEM.
#[derive(Clone)]
pub struct KeyPairPem {
    /// The certificate, and for a server the authority's after it.
    pub cert: String,
    /// The private key (PKCS #8).
    pub key: String,
}

impl std::fmt::Debug for KeyPairPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPairPem").field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// A name under which a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AltName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl From<&str> for AltName {
    /// An address if it reads as one, else a DNS name.
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Dns(text.to_owned()), Self::Ip)
    }
}

impl From<IpAddr> for AltName {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl AltName {
    fn to_san(&self) -> Result<SanType, Error> {
        Ok(match self {
            Self::Ip(address) => SanType::IpAddress(*address),
            Self::Dns(name) => {
                SanType::DnsName(name.as_str().try_into().map_err(|_| Error::BadName(name.clone()))?)
            }
        })
    }
}

/// The cluster's certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("pin", &self.pin()).finish_non_exhaustive()
    }
}

impl Ca {
    /// Loads `ca.crt` and `ca.key` of this directory, or makes them (and the directory).
    pub fn load_or_create(dir: &Path) -> Result<Self, Error> {
        ensure_private_dir(dir)?;
        let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        match (read_optional(&cert_path)?, read_optional(&key_path)?) {
            (Some(cert), Some(key)) => Self::from_files(&cert_path, &cert, &key_path, &key),
            (Some(_), None) => Err(Error::KeyMissing { certificate: cert_path, key: key_path }),
            (None, Some(key)) => Self::complete(&cert_path, parse_key(&key_path, &key)?),
            (None, None) => {
                let key = generate_key()?;
                write_secret(&key_path, key.serialize_pem())?;
                Self::complete(&cert_path, key)
            }
        }
    }

    fn complete(cert_path: &Path, key: KeyPair) -> Result<Self, Error> {
        let ca = Self::self_signed(key)?;
        write_public(cert_path, &ca.pem)?;
        Ok(ca)
    }

    fn self_signed(key: KeyPair) -> Result<Self, Error> {
        let mut params = params("svcd-ca", &[], CA_VALIDITY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = false;
        let certificate = params
            .self_signed(&key)
            .map_err(|source| Error::Crypto { what: "the CA's certificate", source })?;
        Ok(Self { pem: certificate.pem(), der: certificate.into(), issuer: Issuer::new(params, key) })
    }

    fn from_files(cert_path: &Path, cert: &str, key_path: &Path, key: &str) -> Result<Self, Error> {
        let broken = |path: &Path, reason: String| Error::Broken { path: path.to_owned(), reason };
        let der = certificate_der(cert).map_err(|error| broken(cert_path, error.to_string()))?;
        let parsed = Certificate::from_der(&der).map_err(|error| broken(cert_path, error.to_string()))?;
        if !parsed.is_ca {
            return Err(broken(cert_path, "it is not the certificate of an authority".to_owned()));
        }
        parsed.check_time(&format!("the CA's certificate {}", cert_path.display()), Timestamp::now())?;
        let key = parse_key(key_path, key)?;
        if public_key_of(&der)? != key.subject_public_key_info() {
            return Err(broken(key_path, format!("it is not the key of {}", cert_path.display())));
        }
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|error| broken(cert_path, error.to_string()))?;
        Ok(Self { issuer, der, pem: cert.to_owned() })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// What a join token pins.
    #[must_use]
    pub fn pin(&self) -> CaPin {
        CaPin::of(&self.der)
    }

    /// A certificate for a server under these names, with the authority's behind it, so that a joining agent finds the
    /// authority by its pin in the handshake.
    pub fn issue_server(&self, names: &[AltName], validity: Duration) -> Result<KeyPairPem, Error> {
        let mut params = params("svcd", &[], validity)?;
        params.subject_alt_names = names.iter().map(AltName::to_san).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = generate_key()?;
        let leaf = self.sign(&params, &key)?;
        Ok(KeyPairPem { cert: format!("{leaf}{}", self.pem), key: key.serialize_pem() })
    }

    /// A client's certificate and key: the common name is the user, the organization (one at most) the group.
    pub fn issue_client(
        &self,
        common_name: &str,
        organizations: &[&str],
        validity: Duration,
    ) -> Result<KeyPairPem, Error> {
        let key = generate_key()?;
        let cert = self.sign(&client_params(common_name, organizations, validity)?, &key)?;
        Ok(KeyPairPem { cert, key: key.serialize_pem() })
    }

    /// A client's certificate for the key of this signing request. Only the key is taken from the request, once its own signature
    /// holds: whatever names and usages it asks for, the caller's stand.
    pub fn sign_client_csr(
        &self,
        csr_pem: &str,
        common_name: &str,
        organizations: &[&str],
        validity: Duration,
    ) -> Result<String, Error> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|error| Error::BadRequest(error.to_string()))?;
        self.sign(&client_params(common_name, organizations, validity)?, &request.public_key)
    }

    fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<String, Error> {
        params
            .signed_by(key, &self.issuer)
            .map(|certificate| certificate.pem())
            .map_err(|source| Error::Crypto { what: "a certificate", source })
    }
}

/// A certificate signing request for this user of these groups (one at most), and the new key it is for: `(request PEM,
/// key PEM)`.
pub fn csr(common_name: &str, organizations: &[&str]) -> Result<(String, String), Error> {
    let key = generate_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(common_name, organizations)?;
    let request = params
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .map_err(|source| Error::Crypto { what: "a certificate signing request", source })?;
    Ok((request, key.serialize_pem()))
}

fn client_params(
    common_name: &str,
    organizations: &[&str],
    validity: Duration,
) -> Result<CertificateParams, Error> {
    let mut params = params(common_name, organizations, validity)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn params(common_name: &str, organizations: &[&str], validity: Duration) -> Result<CertificateParams, Error> {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(common_name, organizations)?;
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + validity).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn subject(common_name: &str, organizations: &[&str]) -> Result<DistinguishedName, Error> {
    let mut name = DistinguishedName::new();
    match organizations {
        [] => {}
        [one] => name.push(DnType::OrganizationName, *one),
        // rcgen keeps one value a kind: a second would silently replace the first, and a user would lose a group.
        _ => {
            return Err(Error::Organizations {
                common_name: common_name.to_owned(),
                count: organizations.len(),
            });
        }
    }
    name.push(DnType::CommonName, common_name);
    Ok(name)
}

fn generate_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|source| Error::Crypto { what: "a key", source })
}

fn parse_key(path: &Path, pem: &str) -> Result<KeyPair, Error> {
    KeyPair::from_pem(pem).map_err(|error| Error::Broken {
        path: path.to_owned(),
        reason: format!("it is not a private key in PKCS #8 PEM ({error})"),
    })
}

fn public_key_of(certificate: &[u8]) -> Result<Vec<u8>, Error> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, x509) =
        X509Certificate::from_der(certificate).map_err(|error| Error::NotACertificate(error.to_string()))?;
    Ok(x509.public_key().raw.to_vec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn is_made_once_and_loaded_after() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("pki");
        let made = Ca::load_or_create(&place).unwrap();
        let loaded = Ca::load_or_create(&place).unwrap();
        assert_eq!(made.pin(), loaded.pin());
        assert_eq!(made.certificate_pem(), loaded.certificate_pem());
        let parsed = Certificate::from_der(made.certificate_der()).unwrap();
        assert!(parsed.is_ca);
        let years = (parsed.not_after.as_second() - Timestamp::now().as_second()) / (365 * 24 * 3600);
        assert_eq!(years, 10);
    }

    #[test]
    fn a_crash_between_the_files_keeps_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let before = Ca::load_or_create(dir.path()).unwrap();
        fs::remove_file(dir.path().join("ca.crt")).unwrap();
        let after = Ca::load_or_create(dir.path()).unwrap();
        assert_eq!(
            public_key_of(before.certificate_der()).unwrap(),
            public_key_of(after.certificate_der()).unwrap()
        );
        assert_eq!(Ca::load_or_create(dir.path()).unwrap().pin(), after.pin());
    }

    #[test]
    fn a_lost_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        Ca::load_or_create(dir.path()).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = Ca::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, Error::KeyMissing { .. }), "{error}");
        assert!(!dir.path().join("ca.key").exists());
    }

    #[test]
    fn broken_files_are_named() {
        for (file, contents) in
            [("ca.key", "nonsense"), ("ca.crt", "nonsense"), ("ca.crt", ""), ("ca.key", "")]
        {
            let dir = tempfile::tempdir().unwrap();
            Ca::load_or_create(dir.path()).unwrap();
            fs::write(dir.path().join(file), contents).unwrap();
            let error = Ca::load_or_create(dir.path()).unwrap_err();
            assert!(matches!(error, Error::Broken { .. }), "{error}");
            assert!(error.to_string().contains(file), "{error}");
        }
    }

    #[test]
    fn another_authoritys_key_is_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Ca::load_or_create(one.path()).unwrap();
        Ca::load_or_create(two.path()).unwrap();
        fs::copy(two.path().join("ca.key"), one.path().join("ca.key")).unwrap();
        let error = Ca::load_or_create(one.path()).unwrap_err().to_string();
        assert!(error.contains("it is not the key of"), "{error}");
    }

    #[test]
    fn client_certificates_carry_user_group_and_a_backdated_start() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(dir.path()).unwrap();
        let pair = ca.issue_client("admin", &["system:masters"], HOUR).unwrap();
        let parsed = Certificate::from_pem(&pair.cert).unwrap();
        assert_eq!(parsed.common_name, "admin");
        assert_eq!(parsed.organizations, ["system:masters"]);
        let now = Timestamp::now();
        assert!(now.as_second() - parsed.not_before.as_second() >= 290);
        parsed.check_time("it", now).unwrap();
        let late = now - jiff::SignedDuration::from_mins(10);
        let error = parsed.check_time("it", late).unwrap_err().to_string();
        assert!(error.contains("clock of this machine is off"), "{error}");
        let error = parsed.check_time("it", now + jiff::SignedDuration::from_hours(2)).unwrap_err();
        assert!(matches!(error, Error::Expired { .. }));
    }

    #[test]
    fn two_organizations_are_refused_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(dir.path()).unwrap();
        let error = ca.issue_client("x", &["a", "b"], HOUR).unwrap_err();
        assert!(matches!(error, Error::Organizations { count: 2, .. }));
    }

    #[test]
    fn a_request_gives_its_key_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(dir.path()).unwrap();
        let (request, key) = csr("system:masters", &[]).unwrap();
        let cert = ca.sign_client_csr(&request, "system:node:node1", &["system:nodes"], HOUR).unwrap();
        let parsed = Certificate::from_pem(&cert).unwrap();
        assert_eq!(parsed.common_name, "system:node:node1");
        assert_eq!(parsed.organizations, ["system:nodes"]);
        assert!(!parsed.is_ca);
        let key = KeyPair::from_pem(&key).unwrap();
        let der = certificate_der(&cert).unwrap();
        assert_eq!(public_key_of(&der).unwrap(), key.subject_public_key_info());
    }

    #[test]
    fn a_request_whose_signature_is_wrong_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(dir.path()).unwrap();
        for text in ["", "nonsense", ca.certificate_pem()] {
            assert!(matches!(ca.sign_client_csr(text, "x", &[], HOUR), Err(Error::BadRequest(_))));
        }
        let (request, _) = csr("system:node:a", &[]).unwrap();
        let lines: Vec<&str> = request.lines().collect();
        // The subject stands in the first lines: change a character of its encoding and the signature no longer holds.
        let mut changed = lines[1].to_owned();
        let at = 30;
        let other = if changed.as_bytes()[at] == b'A' { "B" } else { "A" };
        changed.replace_range(at..=at, other);
        let forged = request.replacen(lines[1], &changed, 1);
        assert!(ca.sign_client_csr(&forged, "x", &[], HOUR).is_err());
    }

    #[test]
    fn names_read_as_addresses_or_dns_names() {
        assert_eq!(AltName::from("10.96.0.1"), AltName::Ip([10, 96, 0, 1].into()));
        assert_eq!(AltName::from("kubernetes.default"), AltName::Dns("kubernetes.default".into()));
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(dir.path()).unwrap();
        assert!(matches!(ca.issue_server(&["bücher".into()], HOUR), Err(Error::BadName(_))));
    }
}
