//! CertificateSigningRequests: a request for a certificate, the verdict on it, and the certificate. The request never
//! changes; `/approval` writes the verdict, `/status` the certificate. Who asked stands in the object, as the server saw it.

mod update;
mod validate;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::{Value, json};

use crate::behavior::{Admit, Behavior, PreparePart, Update};
use crate::field::FieldError;
use crate::kind::{Author, Column, KindInfo, Right, Subresource, Write};
use crate::names::NameRule;
use crate::signing_request::{API_CLIENT_SIGNER, NODE_CLIENT_SIGNER, NODE_SERVING_SIGNER, SigningRequest};
use crate::table;

const MASTERS: &str = "system:masters";
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

pub(crate) struct CertificateSigningRequests;

impl Behavior for CertificateSigningRequests {
    type Object = CertificateSigningRequest;

    const INFO: &'static KindInfo = &KindInfo {
        group: "certificates.k8s.io",
        version: "v1",
        kind: "CertificateSigningRequest",
        plural: "certificatesigningrequests",
        singular: "certificatesigningrequest",
        short_names: &["csr"],
        categories: &[],
        namespaced: false,
        subresources: &[Subresource::Approval, Subresource::Status],
        create_on_update: false,
        unconditional_update: true,
    };
    const NAMES: NameRule = NameRule::PathSegment;
    const INITIAL_STATUS: Option<&'static str> = Some("{}");
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::AGE,
        table::text(
            "SignerName",
            "Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`.",
        ),
        table::text("Requestor", "Base64-encoded PKCS#10 CSR data"),
        table::text(
            "RequestedDuration",
            "expirationSeconds is the requested duration of validity of the issued certificate. The certificate signer may issue a certificate with a different validity duration so a client must check the delta between the notBefore and and notAfter fields in the issued certificate to determine the actual duration.",
        ),
        table::text("Condition", "Conditions applied to the request, such as approval or denial."),
    ];
    const SELECTABLE: &'static [&'static str] = &["spec.signerName"];
    const SET_AUTHOR: Option<fn(&mut CertificateSigningRequest, &Author<'_>)> = Some(set_author);
    const ADMIT: Option<Admit<CertificateSigningRequest>> = Some(admit);
    const PREPARE_PART: Option<PreparePart<CertificateSigningRequest>> = Some(update::prepare_part);

    const PREPARE_UPDATE: Option<Update<CertificateSigningRequest>> =
        Some(|new, old| new.spec = old.spec.clone());

    fn validate(request: &CertificateSigningRequest, errors: &mut Vec<FieldError>) {
        validate::spec(&request.spec, errors);
    }

    fn validate_approval(
        new: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
        errors: &mut Vec<FieldError>,
    ) {
        validate::verdict(new, old, errors);
    }

    fn validate_status(
        new: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
        errors: &mut Vec<FieldError>,
    ) {
        validate::status(new, old, errors);
    }

    fn selectable(request: &CertificateSigningRequest) -> Vec<String> {
        vec![request.spec.signer_name.clone()]
    }

    fn cells(request: &CertificateSigningRequest, now: Timestamp) -> Vec<Value> {
        let spec = &request.spec;
        let duration = spec.expiration_seconds.map(|seconds| table::human_duration(i64::from(seconds)));
        vec![
            table::name(&request.metadata),
            table::age(&request.metadata, now),
            json!(table::or_none(spec.signer_name.clone())),
            json!(spec.username.as_deref().unwrap_or_default()),
            json!(duration.as_deref().unwrap_or(table::NONE)),
            json!(condition(request)),
        ]
    }
}

/// `Approved,Issued`
fn condition(request: &CertificateSigningRequest) -> String {
    let has = |kind: &str| update::conditions(request).iter().any(|c| c.type_ == kind);
    let verdict = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if update::certificate(request).is_some() { ",Issued" } else { "" };
    format!("{verdict}{failed}{issued}")
}

fn set_author(request: &mut CertificateSigningRequest, author: &Author<'_>) {
    let spec = &mut request.spec;
    spec.username = Some(author.name.to_owned()).filter(|name| !name.is_empty());
    spec.uid = Some(author.uid.to_owned()).filter(|uid| !uid.is_empty());
    spec.groups = Some(author.groups.to_vec()).filter(|groups| !groups.is_empty());
    spec.extra = Some(author.extra.clone()).filter(|extra| !extra.is_empty());
}

/// Certificates of the masters are not for the asking, nodes ask for their own only, and approving and signing are rights
/// of their own for each signer.
fn admit(
    new: &CertificateSigningRequest,
    old: Option<&CertificateSigningRequest>,
    write: &Write<'_>,
) -> Result<Option<Right>, String> {
    let Some(old) = old else { return admit_new(new, &write.author).map(|()| None) };
    let signer = &old.spec.signer_name;
    Ok(match write.subresource {
        Some(Subresource::Approval) => Some(right(
            "approve",
            signer,
            format!("user not permitted to approve requests with signerName {signer:?}"),
        )),
        Some(Subresource::Status)
            if update::certificate(new) != update::certificate(old)
                || update::conditions(new) != update::conditions(old) =>
        {
            Some(right(
                "sign",
                signer,
                format!("user not permitted to sign requests with signerName {signer:?}"),
            ))
        }
        _ => None,
    })
}

fn admit_new(new: &CertificateSigningRequest, author: &Author<'_>) -> Result<(), String> {
    let signer = new.spec.signer_name.as_str();
    let request = SigningRequest::parse(&new.spec.request.0)?;
    if signer == API_CLIENT_SIGNER && request.organizations.iter().any(|group| group == MASTERS) {
        return Err(format!("use of {signer} signer with {MASTERS} group is not allowed"));
    }
    let node = author.name.starts_with(NODE_PREFIX) && author.groups.iter().any(|group| group == NODES);
    if node
        && [NODE_CLIENT_SIGNER, NODE_SERVING_SIGNER].contains(&signer)
        && request.common_name != author.name
    {
        return Err(format!("can only create a node CSR with CN={}", author.name));
    }
    Ok(())
}

/// The right to do something with a signer, or with all of its domain.
fn right(verb: &'static str, signer: &str, refusal: String) -> Right {
    let domain = signer.split('/').next().unwrap_or_default();
    Right {
        verb,
        group: "certificates.k8s.io",
        resource: "signers",
        names: vec![signer.to_owned(), format!("{domain}/*")],
        refusal,
    }
}
