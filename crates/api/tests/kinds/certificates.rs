//! CertificateSigningRequests: what may be asked for, decided and written.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use svcd_api::kind::{Author, Subresource, Write};

use crate::harness::{create, errors, kind, merged, part, row, status};

const KIND: &str = "CertificateSigningRequest";
/// Of the user alice in the groups dev and ops.
const ALICE: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIIBGzCBwwIBADAsMQwwCgYDVQQKDANkZXYxDDAKBgNVBAoMA29wczEOMAwGA1UE
AwwFYWxpY2UwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARYmU/xCo70kMh7PPFC
mR2/mMFGG6bjk9P7HXA8wLP4XWblegbSDuYyx6kNFIFBuOqYJu538MkC/YNZLvzq
9n/hoDUwMwYJKoZIhvcNAQkOMSYwJDAiBgNVHREEGzAZghFhbGljZS5leGFtcGxl
LmNvbYcEwAACATAKBggqhkjOPQQDAgNHADBEAiBHVFd4pfRRJCTYJVX3t5bc2JYM
XEqH10Fgyu39AgYyYwIgOOiAnhXmvuq5+KoaBTFiHaSnDeWuDk6TzOJd9AFv/dg=
-----END CERTIFICATE REQUEST-----
";

fn spec(signer: &str) -> Value {
    json!({ "request": STANDARD.encode(ALICE), "signerName": signer, "usages": ["client auth"] })
}

fn made() -> Value {
    create(KIND, json!({ "spec": spec("kubernetes.io/kube-apiserver-client") })).unwrap()
}

fn condition(kind: &str, state: &str) -> Value {
    json!({ "type": kind, "status": state, "reason": "R", "message": "m" })
}

fn author<'a>(name: &'a str, groups: &'a [String], extra: &'a BTreeMap<String, Vec<String>>) -> Author<'a> {
    Author { name, uid: "u1", groups, extra }
}

#[test]
fn rows() {
    let mut request = made();
    request["spec"]["username"] = json!("bob");
    let shown = |request: &Value| row(request)[1..].join(" ");
    assert_eq!(shown(&request), "42s kubernetes.io/kube-apiserver-client bob <none> Pending");
    request["spec"]["expirationSeconds"] = json!(3600);
    request["status"]["conditions"] = json!([condition("Approved", "True")]);
    assert_eq!(row(&request)[4..], ["60m", "Approved"]);
    request["status"]["certificate"] = json!("AAAA");
    assert_eq!(row(&request)[5], "Approved,Issued");
    request["status"]["conditions"] = json!([condition("Denied", "True"), condition("Failed", "True")]);
    request["status"].as_object_mut().unwrap().remove("certificate");
    assert_eq!(row(&request)[5], "Denied,Failed");
    let fields = kind(KIND).selectable_fields(&request);
    assert_eq!(fields, [("spec.signerName", "kubernetes.io/kube-apiserver-client".to_owned())]);
}

#[test]
fn what_may_be_asked_for() {
    let with = |field: &str, value: Value| {
        let mut spec = spec("example.com/signer");
        spec[field] = value;
        errors(create(KIND, json!({ "spec": spec })))
    };
    assert_eq!(with("usages", json!([])), ["spec.usages: Required value"]);
    let wrong = with("usages", json!(["client auth", "odd", "client auth"]));
    assert!(
        wrong[0].starts_with(
            "spec.usages[1]: Unsupported value: \"odd\": supported values: \"any\", \"cert sign\""
        )
    );
    assert_eq!(wrong[1], "spec.usages[2]: Duplicate value: \"client auth\"");
    assert_eq!(
        with("expirationSeconds", json!(599)),
        [
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"
        ]
    );
    let signer = |name: &str| with("signerName", json!(name));
    assert_eq!(signer(""), ["spec.signerName: Required value"]);
    assert_eq!(
        signer("plain"),
        [
            "spec.signerName: Invalid value: \"plain\": must be a fully qualified domain and path of the form 'example.com/signer-name'"
        ]
    );
    assert_eq!(
        signer("domain/x"),
        [
            "spec.signerName: Invalid value: \"domain\": should be a domain with at least two segments separated by dots"
        ]
    );
    assert!(
        signer("a.b/X")[0]
            .starts_with("spec.signerName: Invalid value: \"X\": validating label \"X\": a lowercase")
    );
    assert_eq!(
        signer("kubernetes.io/legacy-unknown"),
        [
            "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version"
        ]
    );
    assert_eq!(
        with("request", json!("AAAA")),
        ["spec.request: Invalid value: \"AAAA\": PEM block type must be CERTIFICATE REQUEST"]
    );
}

#[test]
fn who_asks_is_written_by_the_server() {
    let mut request = made();
    request["spec"]["username"] = json!("forged");
    request["spec"]["extra"] = json!({ "x": ["y"] });
    let (groups, extra) = (["g".to_owned()], BTreeMap::new());
    kind(KIND).set_author(&mut request, &author("alice", &groups, &extra));
    let spec = &request["spec"];
    assert_eq!(
        (&spec["username"], &spec["uid"], &spec["groups"]),
        (&json!("alice"), &json!("u1"), &json!(["g"]))
    );
    assert_eq!(spec.get("extra"), None);
}

#[test]
fn a_plain_update_touches_metadata_only() {
    let request = made();
    let changed = merged(
        &request,
        json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "usages": ["any"] }, "status": { "conditions": [condition("Approved", "True")] } }),
    )
    .unwrap();
    assert_eq!((&changed["spec"], &changed["status"]), (&request["spec"], &json!({})));
    assert_eq!(changed["metadata"]["labels"]["a"], "b");
}

#[test]
fn verdicts_are_given_once_and_stay() {
    let approve = |old: &Value, conditions: Value| {
        part(Subresource::Approval, old, json!({ "conditions": conditions }))
    };
    let approved = approve(&made(), json!([condition("Approved", "True")])).unwrap();
    let stored = &approved["status"]["conditions"][0];
    assert_eq!(stored["lastUpdateTime"], "2026-01-01T00:00:42Z");
    assert_eq!(stored["lastTransitionTime"], "2026-01-01T00:00:42Z");
    for (old, conditions, want) in [
        (
            &approved,
            json!([]),
            "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"",
        ),
        (
            &approved,
            json!([condition("Approved", "True"), condition("Denied", "True")]),
            "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
        ),
        (
            &made(),
            json!([condition("Approved", "False")]),
            "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
        ),
        (
            &made(),
            json!([condition("Odd", "True"), condition("Odd", "True")]),
            "status.conditions[1].type: Duplicate value: \"Odd\"",
        ),
        (&made(), json!([condition("", "")]), "status.conditions[0].type: Required value"),
    ] {
        assert_eq!(errors(approve(old, conditions))[0], want);
    }
    let with_certificate = part(
        Subresource::Approval,
        &made(),
        json!({ "conditions": [condition("Approved", "True")], "certificate": "AAAA" }),
    );
    assert_eq!(with_certificate.unwrap()["status"].get("certificate"), None, "that is not its to write");
}

#[test]
fn the_status_has_the_certificate_and_no_verdict() {
    let verdict = status(&made(), json!({ "conditions": [condition("Denied", "True")] }));
    assert_eq!(
        errors(verdict),
        ["status.conditions: Forbidden: updates may not add a condition of type \"Denied\""]
    );
    assert_eq!(
        errors(status(&made(), json!({ "certificate": "AAAA" }))),
        [
            "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block"
        ]
    );
    assert_eq!(
        errors(status(&made(), json!({ "certificate": STANDARD.encode(ALICE) }))),
        [
            "status.certificate: Invalid value: \"<certificate data>\": only CERTIFICATE PEM blocks are allowed, found \"CERTIFICATE REQUEST\""
        ]
    );
    let mut issued = made();
    issued["status"]["certificate"] = json!("AAAA");
    let failed =
        status(&issued, json!({ "certificate": "AAAA", "conditions": [condition("Failed", "True")] }));
    assert_eq!(failed.unwrap()["status"]["certificate"], "AAAA", "what was there is not looked at again");
    assert!(errors(status(&issued, json!({}))).contains(
        &"status.certificate: Forbidden: updates may not modify existing certificate content".to_owned()
    ));
}

#[test]
fn approving_and_signing_are_rights_of_their_own() {
    let (groups, extra) = ([], BTreeMap::new());
    let author = author("alice", &groups, &extra);
    let old = made();
    let admit = |new: &Value, subresource| {
        kind(KIND).admit(&Write { author, new, old: Some(&old), subresource: Some(subresource) }).unwrap()
    };
    let right = admit(&old, Subresource::Approval).unwrap();
    assert_eq!((right.verb, right.group, right.resource), ("approve", "certificates.k8s.io", "signers"));
    assert_eq!(right.names, ["kubernetes.io/kube-apiserver-client", "kubernetes.io/*"]);
    assert_eq!(
        right.refusal,
        "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
    );
    assert_eq!(admit(&old, Subresource::Status), None, "nothing changes");
    let mut signed = old.clone();
    signed["status"]["certificate"] = json!("AAAA");
    assert_eq!(admit(&signed, Subresource::Status).unwrap().verb, "sign");
}

#[test]
fn a_node_asks_for_itself() {
    let (groups, extra) = (["system:nodes".to_owned()], BTreeMap::new());
    let ask = |signer: &str, name: &str| {
        let new = create(KIND, json!({ "spec": spec(signer) })).unwrap();
        let author = author(name, &groups, &extra);
        kind(KIND).admit(&Write { author, new: &new, old: None, subresource: None })
    };
    let why = "can only create a node CSR with CN=system:node:n1".to_owned();
    assert_eq!(ask("kubernetes.io/kubelet-serving", "system:node:n1"), Err(why.clone()));
    assert_eq!(ask("kubernetes.io/kube-apiserver-client-kubelet", "system:node:n1"), Err(why));
    assert_eq!(ask("kubernetes.io/kube-apiserver-client", "system:node:n1"), Ok(None));
    assert_eq!(ask("kubernetes.io/kubelet-serving", "somebody"), Ok(None));
}
