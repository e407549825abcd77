//! The rules of a signing request, its conditions and its certificate, in upstream's order and words.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest as Request, CertificateSigningRequestCondition as Condition,
    CertificateSigningRequestSpec as Spec,
};
use x509_parser::pem::Pem;

use super::update::{VERDICTS, certificate, conditions, of_type};
use crate::field::{FieldError, Path};
use crate::names;
use crate::signing_request::SigningRequest;

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SHORTEST_SECONDS: i32 = 600;
const LONGEST_DOMAIN: usize = 253;
/// Of a domain, a slash, and a subdomain below a label.
const LONGEST_SIGNER: usize = LONGEST_DOMAIN + 1 + LONGEST_DOMAIN + 63 + 1;

pub(super) fn spec(spec: &Spec, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    if let Err(why) = SigningRequest::parse(&spec.request.0) {
        errors.push(FieldError::invalid(path.child("request"), &spec.request, why));
    }
    usages(&path.child("usages"), spec.usages.as_deref().unwrap_or_default(), errors);
    let field = path.child("signerName");
    if spec.signer_name == LEGACY_SIGNER {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(field, LEGACY_SIGNER, detail));
    } else {
        signer(&field, &spec.signer_name, errors);
    }
    if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < SHORTEST_SECONDS) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(path.child("expirationSeconds"), seconds, detail));
    }
}

fn usages(path: &Path<'_>, usages: &[String], errors: &mut Vec<FieldError>) {
    if usages.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    for (index, usage) in usages.iter().enumerate() {
        crate::rules::one_of(&path.index(index), usage, USAGES, errors);
    }
    let mut seen = BTreeSet::new();
    for (index, usage) in usages.iter().enumerate().filter(|(_, usage)| !seen.insert(*usage)) {
        errors.push(FieldError::duplicate(path.index(index), usage));
    }
}

/// A domain and a path: `example.com/signer`.
fn signer(path: &Path<'_>, name: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, rest] = parts[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, name, detail));
        return;
    };
    if domain.len() > LONGEST_DOMAIN {
        errors.push(FieldError::too_long(path, LONGEST_DOMAIN));
    }
    labels(path, domain, names::label, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, detail));
    }
    labels(path, rest, names::subdomain, errors);
    if name.len() > LONGEST_SIGNER {
        errors.push(FieldError::too_long(path, LONGEST_SIGNER));
    }
}

/// The first part between dots that is not well formed.
fn labels(path: &Path<'_>, text: &str, rule: fn(&str) -> Vec<String>, errors: &mut Vec<FieldError>) {
    let mut wrong = text.split('.').map(|label| (label, rule(label))).filter(|(_, why)| !why.is_empty());
    if let Some((label, messages)) = wrong.next() {
        let detail = |message: String| format!("validating label {label:?}: {message}");
        errors.extend(messages.into_iter().map(|m| FieldError::invalid(path, text, detail(m))));
    }
}

/// A write of `/approval`.
pub(super) fn verdict(new: &Request, old: &Request, errors: &mut Vec<FieldError>) {
    all_conditions(new, errors);
    nothing_removed(new, old, errors);
}

/// A write of `/status`.
pub(super) fn status(new: &Request, old: &Request, errors: &mut Vec<FieldError>) {
    all_conditions(new, errors);
    let changed = certificate(new) != certificate(old);
    if let (true, Some(bytes)) = (changed, certificate(new))
        && let Err(why) = certificates(&bytes.0)
    {
        errors.push(FieldError::invalid("status.certificate", "<certificate data>", why));
    }
    nothing_removed(new, old, errors);
    for kind in VERDICTS.iter().filter(|kind| of_type(new, kind).len() > of_type(old, kind).len()) {
        let detail = format!("updates may not add a condition of type {kind:?}");
        errors.push(FieldError::forbidden("status.conditions", detail));
    }
    if changed && certificate(old).is_some() {
        let detail = "updates may not modify existing certificate content";
        errors.push(FieldError::forbidden("status.certificate", detail));
    }
}

fn nothing_removed(new: &Request, old: &Request, errors: &mut Vec<FieldError>) {
    for kind in ["Approved", "Denied", "Failed"] {
        if of_type(new, kind).len() < of_type(old, kind).len() {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden("status.conditions", detail));
        }
    }
}

fn all_conditions(request: &Request, errors: &mut Vec<FieldError>) {
    let path = Path::new("status");
    let path = path.child("conditions");
    let all = conditions(request);
    for (index, condition) in all.iter().enumerate() {
        one_condition(&path.index(index), condition, errors);
        let before = &all[..index];
        let contrary = match condition.type_.as_str() {
            "Approved" => before.iter().any(|c| c.type_ == "Denied"),
            "Denied" => before.iter().any(|c| c.type_ == "Approved"),
            _ => false,
        };
        if contrary {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(path, &condition.type_, detail));
        }
        if before.iter().any(|c| c.type_ == condition.type_) {
            errors.push(FieldError::duplicate(path.index(index).child("type"), &condition.type_));
        }
    }
}

fn one_condition(path: &Path<'_>, condition: &Condition, errors: &mut Vec<FieldError>) {
    if condition.type_.is_empty() {
        errors.push(FieldError::required(path.child("type"), ""));
    }
    let is_final = ["Approved", "Denied", "Failed"].contains(&condition.type_.as_str());
    let allowed: &[&str] = if is_final { &["True"] } else { &["False", "True", "Unknown"] };
    match condition.status.as_str() {
        "" => errors.push(FieldError::required(path.child("status"), "")),
        status => crate::rules::one_of(&path.child("status"), status, allowed, errors),
    }
}

/// PEM with certificates and nothing else.
fn certificates(pem: &[u8]) -> Result<(), String> {
    let mut count = 0;
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|why| format!("not PEM: {why}"))?;
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        block.parse_x509().map_err(|why| format!("x509: malformed certificate: {why}"))?;
        count += 1;
    }
    if count == 0 { Err("must contain at least one CERTIFICATE PEM block".to_owned()) } else { Ok(()) }
}
