//! Reading certificates: whom one names, and when it is valid.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Error;
use crate::authority::BACKDATE;

/// What a certificate says about itself. Nothing is verified here; TLS does that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name: a Kubernetes user's name.
    pub common_name: String,
    /// The subject's organizations: a Kubernetes user's groups.
    pub organizations: Vec<String>,
    /// The first moment at which it is valid.
    pub not_before: Timestamp,
    /// The last one.
    pub not_after: Timestamp,
    /// Whether it may sign others.
    pub is_ca: bool,
}

impl Certificate {
    /// Reads a certificate's DER.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let (_, x509) =
            X509Certificate::from_der(der).map_err(|error| Error::NotACertificate(error.to_string()))?;
        let text = |value: &str| value.to_owned();
        Ok(Self {
            common_name: x509
                .subject()
                .iter_common_name()
                .find_map(|name| name.as_str().ok())
                .map(text)
                .unwrap_or_default(),
            organizations: x509
                .subject()
                .iter_organization()
                .filter_map(|name| name.as_str().ok())
                .map(text)
                .collect(),
            not_before: moment(x509.validity().not_before.timestamp())?,
            not_after: moment(x509.validity().not_after.timestamp())?,
            is_ca: x509.is_ca(),
        })
    }

    /// Reads the first certificate of a PEM text.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        Self::from_der(&certificate_der(pem)?)
    }

    /// When to have it renewed: two thirds of its life after it was made, so that a third is left for whatever stands in the
    /// way. What it is backdated by is no part of its life.
    #[must_use]
    pub fn renewal(&self) -> Timestamp {
        let backdate = i64::try_from(BACKDATE.as_secs()).expect("minutes are few");
        let (end, start) = (self.not_after.as_second(), self.not_before.as_second() + backdate);
        let due = end - (end - start).max(0) / 3;
        Timestamp::from_second(due).expect("it lies between two times")
    }

    /// Whether it is valid now, and if not, whether the clock or its age is the reason. `what` names it in the error.
    pub fn check_time(&self, what: &str, now: Timestamp) -> Result<(), Error> {
        if now < self.not_before {
            return Err(Error::NotYetValid { what: what.to_owned(), not_before: self.not_before, now });
        }
        if now > self.not_after {
            return Err(Error::Expired { what: what.to_owned(), not_after: self.not_after, now });
        }
        Ok(())
    }
}

fn moment(seconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_second(seconds).map_err(|error| Error::NotACertificate(error.to_string()))
}

/// A certificate as PEM.
#[must_use]
pub fn certificate_pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The first certificate of a PEM text.
pub fn certificate_der(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| Error::NotACertificate(error.to_string()))
}

/// All certificates of a PEM text, which must have one at least.
pub fn certificates_der(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| Error::NotACertificate(error.to_string()))?;
    if all.is_empty() {
        return Err(Error::NotACertificate("no certificate in the PEM text".to_owned()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_and_der() {
        let ca = crate::Ca::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!(certificate_pem(ca.certificate_der()), ca.certificate_pem());
        assert_eq!(&certificate_der(ca.certificate_pem()).unwrap(), ca.certificate_der());
        let pair = ca.issue_server(&["localhost".into()], crate::VALIDITY).unwrap();
        assert_eq!(certificates_der(&pair.cert).unwrap().len(), 2);
    }

    #[test]
    fn renewal_is_due_at_two_thirds_of_a_life() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (not_before, not_after, due) in
            [(700, 1900, 1600), (700, 1030, 1020), (700, 900, 900), (0, 300, 300)]
        {
            let (common_name, organizations) = (String::new(), Vec::new());
            let (not_before, not_after) = (at(not_before), at(not_after));
            let certificate = Certificate { common_name, organizations, not_before, not_after, is_ca: false };
            assert_eq!(certificate.renewal(), at(due), "{not_before} {not_after}");
        }
    }

    #[test]
    fn what_is_no_certificate() {
        for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(Certificate::from_pem(text), Err(Error::NotACertificate(_))), "{text}");
        }
        assert!(certificates_der("").is_err());
    }
}
