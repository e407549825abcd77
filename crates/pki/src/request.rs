//! Certificates for signing requests that somebody has approved. Subject, key and alternative names are the request's,
//! byte for byte; usages and times are the signer's. `rcgen` cannot carry over a subject (of several organizations it
//! keeps one), so it makes a certificate for a stand-in, and here the request's parts are put into it and it is signed
//! again.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rand::RngExt as _;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    SanType, SerialNumber, SigningKey as _,
};
use rustls_pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::authority::BACKDATE;
use crate::certificate::{Certificate, certificate_pem};
use crate::{Ca, Error};

/// Certificates that are valid for less than this lose nothing at their end for being backdated.
const SHORT: Duration = Duration::from_secs(8 * 3600);
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Signing, as in every handshake.
    DigitalSignature,
    /// Encrypting keys, as RSA in old handshakes.
    KeyEncipherment,
    /// Being a client.
    ClientAuth,
    /// Being a server.
    ServerAuth,
}

impl Ca {
    /// A certificate for this signing request (PEM), for as long as the authority itself is valid at most.
    pub fn sign_request(&self, pem: &str, usages: &[Usage], validity: Duration) -> Result<String, Error> {
        let bad = |why: String| Error::BadRequest(why);
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let (_, request) =
            X509CertificationRequest::from_der(&block.contents).map_err(|e| bad(e.to_string()))?;
        request.verify_signature().map_err(|error| bad(error.to_string()))?;
        let authority = Certificate::from_der(self.certificate_der())?;
        authority.check_time("the CA's certificate", Timestamp::now())?;
        let mut params = times(validity, authority.not_after);
        params.subject_alt_names = alternative_names(&request)?;
        allow(&mut params, usages);
        let info = &request.certification_request_info;
        params.distinguished_name = stand_in(info.subject.iter().next().is_none());
        let issuer = self.issuer();
        let crypto = |source| Error::Crypto { what: "a certificate", source };
        let made = params.signed_by(issuer.key(), issuer).map_err(crypto)?;
        let parts = Parts::of(made.der()).ok_or_else(|| bad("the certificate is not DER".to_owned()))?;
        let body = parts.body_with(info.subject.as_raw(), info.subject_pki.raw);
        let signature = issuer.key().sign(&body).map_err(crypto)?;
        let signature = element(BIT_STRING, &[&[0], &signature]);
        Ok(certificate_pem(&CertificateDer::from(element(SEQUENCE, &[&body, parts.algorithm, &signature]))))
    }
}

/// Backdated for clocks that run late, and no longer than the authority is valid.
fn times(validity: Duration, last: Timestamp) -> CertificateParams {
    let now = SystemTime::now();
    let end = now + if validity < SHORT { validity } else { validity - BACKDATE };
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATE).into();
    params.not_after = end.min(last.into()).into();
    params.serial_number = Some(SerialNumber::from_slice(&rand::rng().random::<[u8; 16]>()));
    params
}

fn allow(params: &mut CertificateParams, usages: &[Usage]) {
    // Written here: rcgen's own word for it comes with an identifier of the key, which is the stand-in's.
    let mut no_authority = CustomExtension::from_oid_content(BASIC_CONSTRAINTS, vec![SEQUENCE, 0]);
    no_authority.set_criticality(true);
    params.custom_extensions.push(no_authority);
    params.use_authority_key_identifier_extension = true;
    for usage in usages {
        match usage {
            Usage::DigitalSignature => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
            Usage::KeyEncipherment => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
            Usage::ClientAuth => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
            Usage::ServerAuth => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
        }
    }
}

/// The subject that will be replaced. Whether there is one decides how alternative names are written.
fn stand_in(nameless: bool) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if !nameless {
        name.push(DnType::CommonName, "-");
    }
    name
}

fn alternative_names(request: &X509CertificationRequest<'_>) -> Result<Vec<SanType>, Error> {
    let bad = |name: &str| Error::BadName(name.to_owned());
    let mut found = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            found.push(match *name {
                GeneralName::DNSName(name) => SanType::DnsName(name.try_into().map_err(|_| bad(name))?),
                GeneralName::RFC822Name(name) => SanType::Rfc822Name(name.try_into().map_err(|_| bad(name))?),
                GeneralName::URI(uri) => SanType::URI(uri.try_into().map_err(|_| bad(uri))?),
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(bytes).map(Into::into);
                    let v6 = || <[u8; 16]>::try_from(bytes).map(Into::into);
                    SanType::IpAddress(v4.or_else(|_| v6()).map_err(|_| bad("an address"))?)
                }
                // Upstream's signers pass over the rest, too.
                _ => continue,
            });
        }
    }
    Ok(found)
}

/// A certificate, cut where the request's parts go.
struct Parts<'a> {
    /// Version, serial number, algorithm, issuer, validity.
    before: Vec<&'a [u8]>,
    /// The extensions.
    after: &'a [u8],
    algorithm: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(certificate: &'a [u8]) -> Option<Self> {
        let (body, rest) = first(content(certificate)?)?;
        let (algorithm, _) = first(rest)?;
        let (mut before, mut after) = (Vec::new(), content(body)?);
        for _ in 0..5 {
            let (element, rest) = first(after)?;
            before.push(element);
            after = rest;
        }
        for _replaced in ["subject", "key"] {
            (_, after) = first(after)?;
        }
        Some(Self { before, after, algorithm })
    }

    fn body_with(&self, subject: &[u8], key: &[u8]) -> Vec<u8> {
        let parts = self.before.iter().copied().chain([subject, key, self.after]);
        element(SEQUENCE, &parts.collect::<Vec<_>>())
    }
}

/// Where the content of the first DER element begins and ends.
fn bounds(bytes: &[u8]) -> Option<(usize, usize)> {
    let length = *bytes.get(1)?;
    let (start, length) = if length < 0x80 {
        (2, usize::from(length))
    } else {
        let start = 2 + usize::from(length & 0x7f);
        let digits = bytes.get(2..start).filter(|digits| digits.len() <= 4)?;
        (start, digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)))
    };
    let end = start.checked_add(length).filter(|end| *end <= bytes.len())?;
    Some((start, end))
}

/// The first element, and what follows it.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    bounds(bytes).map(|(_, end)| bytes.split_at(end))
}

fn content(bytes: &[u8]) -> Option<&[u8]> {
    bounds(bytes).map(|(start, end)| &bytes[start..end])
}

/// An element made of parts.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let digits = content.len().to_be_bytes();
    let digits = &digits[digits.iter().take_while(|digit| **digit == 0).count()..];
    let mut out = vec![tag];
    match content.len() {
        short @ 0..0x80 => out.push(u8::try_from(short).expect("it is less than 128")),
        _ => {
            out.push(0x80 | u8::try_from(digits.len()).expect("a length has eight digits at most"));
            out.extend_from_slice(digits);
        }
    }
    out.extend(content);
    out
}

#[cfg(test)]
mod tests {
    use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER;
    use x509_parser::prelude::X509Certificate;

    use super::*;
    use crate::certificate::certificate_der;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    /// Made with OpenSSL: RSA, for alice of dev, ops and qa.
    const RSA: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
        MIICfjCCAWYCAQAwOTEMMAoGA1UECgwDZGV2MQwwCgYDVQQKDANvcHMxCzAJBgNV\n\
        BAoMAnFhMQ4wDAYDVQQDDAVhbGljZTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCC\n\
        AQoCggEBALR/2cEL3y0P6V0ldfi00Ln4H5oxoD5yOdOvf6+bFTZJ/cpC0mSx4fXZ\n\
        RYAiiHdGAtM66PRLJsvN3b3zjlrifEpSxE3d7O9Aupj0dV8vK7scPT78MqxLCnSG\n\
        mcdY6aYcwxtCmi+aEqYMd7NOpScsAXiZTzie8VH9rpgWPWhPLTKUbLmMboEkHuek\n\
        bysqsLQwJveDNXH1E2qX9hm0hoITGN+soFwDyopUfQK6DF1sVs/S0oEUAQwgRsbD\n\
        xV2yAuHveQ7LRd3kFEnCi3ygV6uDkEqmiAfNO+sxBKnnxzf173QL+Fx8VgOQVC7B\n\
        EguCaEte5/2r1Okuty6hBkiOmbjAkrsCAwEAAaAAMA0GCSqGSIb3DQEBCwUAA4IB\n\
        AQAyZP8Ii9Obl86f7iA+6Jh49isBEV9Vmy/jX6i/Ulz7Mo/G0ILIgYcOeI3Bao5B\n\
        eoPPjwfddfZpfrEg9nO2iw+vqCVzadOsryImy9+yXA7R+YzcuAHhOdPPnBgqtVwt\n\
        ZEWwx2kuVMF+4aqfB1SFFXNa6Ik6Awe+UpT43UxGwPpcQ3ajmhZcHN9nWEhHmHvI\n\
        UEL7Wf6wWycZoU+TShzONvRAcy8FlPgNay4qzDbsaiVdgznqVtZYn4PFm0nnUApk\n\
        XWdwr84ptezgy2rbq+G8NWpQEbjYP+EjhsHnK7SAAwtURHJoxYb3wVQD+jyIdX1v\n\
        YALtRlneLToVTSqfmPMmFR+j\n\
        -----END CERTIFICATE REQUEST-----\n";
    /// Made with OpenSSL: ECDSA, for the node n1 under the names n1 and 192.0.2.1.
    const NODE: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
        MIIBEjCBuAIBADAwMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxFzAVBgNVBAMMDnN5\n\
        c3RlbTpub2RlOm4xMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAES2V9LOnRmTQq\n\
        a4K6MTOm0y+DJjzZz15SXR/xaoMaH72L9SGtMPckUZRWAhi9KlnY/ns7cZ+vI8VO\n\
        PpTpbgxqQqAmMCQGCSqGSIb3DQEJDjEXMBUwEwYDVR0RBAwwCoICbjGHBMAAAgEw\n\
        CgYIKoZIzj0EAwIDSQAwRgIhANziasziNoWAxYVsOtgGhlSTLIQWtj8WsvKLoxS/\n\
        bHGGAiEAv2QGWlWuBwHc4/a+FWcPuOKiUmpRBCQX48brDPj/IV8=\n\
        -----END CERTIFICATE REQUEST-----\n";

    fn ca() -> (tempfile::TempDir, Ca) {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(dir.path()).unwrap();
        (dir, ca)
    }

    #[test]
    fn every_group_of_the_subject_is_kept() {
        let (_dir, ca) = ca();
        let pem = ca.sign_request(RSA, &[Usage::DigitalSignature, Usage::ClientAuth], DAY).unwrap();
        let parsed = Certificate::from_pem(&pem).unwrap();
        assert_eq!(parsed.common_name, "alice");
        assert_eq!(parsed.organizations, ["dev", "ops", "qa"]);
        assert!(!parsed.is_ca);
        let seconds = parsed.not_after.as_second() - Timestamp::now().as_second();
        assert!((86_000..=86_400).contains(&(seconds + 300)), "{seconds}");
    }

    #[test]
    fn the_authority_has_signed_it_and_its_parts_are_in_order() {
        let (_dir, ca) = ca();
        let (_, authority) = X509Certificate::from_der(ca.certificate_der()).unwrap();
        let mut serials = Vec::new();
        for (request, usages) in [
            (RSA, [Usage::KeyEncipherment, Usage::ClientAuth]),
            (NODE, [Usage::DigitalSignature, Usage::ServerAuth]),
        ] {
            let der = certificate_der(&ca.sign_request(request, &usages, DAY).unwrap()).unwrap();
            let (rest, certificate) = X509Certificate::from_der(&der).unwrap();
            assert!(rest.is_empty());
            certificate.verify_signature(Some(authority.public_key())).unwrap();
            assert_eq!(certificate.issuer(), authority.subject());
            let key_usage = certificate.key_usage().unwrap().unwrap().value;
            assert_eq!(key_usage.key_encipherment(), usages.contains(&Usage::KeyEncipherment));
            let extended = certificate.extended_key_usage().unwrap().unwrap().value;
            assert_eq!((extended.server_auth, extended.client_auth), (request == NODE, request == RSA));
            let constraints = certificate.basic_constraints().unwrap().unwrap();
            assert!(constraints.critical && !constraints.value.ca);
            let mut extensions = certificate.extensions().iter();
            let named = extensions.any(|extension| extension.oid == OID_X509_EXT_SUBJECT_KEY_IDENTIFIER);
            assert!(!named, "the stand-in's key is not the one in it");
            serials.push(certificate.raw_serial().to_vec());
        }
        assert_ne!(serials[0], serials[1]);
    }

    #[test]
    fn alternative_names_are_the_requests() {
        let (_dir, ca) = ca();
        let der = certificate_der(&ca.sign_request(NODE, &[Usage::ServerAuth], DAY).unwrap()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(
            names.value.general_names,
            [GeneralName::DNSName("n1"), GeneralName::IPAddress(&[192, 0, 2, 1])]
        );
        assert!(!names.critical);
    }

    #[test]
    fn nothing_outlives_the_authority() {
        let (_dir, ca) = ca();
        let pem = ca.sign_request(RSA, &[Usage::ClientAuth], DAY * 365 * 50).unwrap();
        let authority = Certificate::from_der(ca.certificate_der()).unwrap();
        assert_eq!(Certificate::from_pem(&pem).unwrap().not_after, authority.not_after);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let (_dir, ca) = ca();
        for text in ["", "nonsense", ca.certificate_pem()] {
            assert!(matches!(ca.sign_request(text, &[], DAY), Err(Error::BadRequest(_))), "{text}");
        }
    }

    #[test]
    fn lengths_of_elements() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let whole = element(SEQUENCE, &[&content]);
            assert_eq!(super::content(&whole), Some(&content[..]), "{length}");
            assert_eq!(first(&[&whole[..], &[1]].concat()).map(|(_, rest)| rest.to_vec()), Some(vec![1]));
        }
        for cut in [&[][..], &[0x30], &[0x30, 2, 0], &[0x30, 0x82, 1], &[0x30, 0x85, 1, 1, 1, 1, 1, 1]] {
            assert_eq!(bounds(cut), None, "{cut:?}");
        }
    }
}
