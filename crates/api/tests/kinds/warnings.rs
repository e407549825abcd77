//! What is accepted and still said something about.

use serde_json::{Value, json};

use crate::harness::{create, kind, warnings};

fn base64(text: &str) -> String {
    serde_json::from_value(serde_json::to_value(k8s_openapi::ByteString(text.into())).unwrap()).unwrap()
}

fn service(spec: Value) -> Vec<String> {
    warnings(&create("Service", json!({ "spec": spec })).unwrap())
}

#[test]
fn services() {
    let ports = json!([{ "port": 80 }]);
    assert!(service(json!({ "ports": ports })).is_empty());
    assert_eq!(
        service(json!({ "ports": ports, "externalIPs": ["198.51.100.7"] })),
        ["spec.externalIPs is deprecated and may no longer be implemented in some clusters"]
    );
    assert_eq!(
        service(
            json!({ "clusterIP": "None", "externalIPs": ["198.51.100.7"], "sessionAffinity": "ClientIP" })
        ),
        [
            "spec.externalIPs is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services"
        ]
    );
    assert_eq!(
        service(json!({ "type": "ExternalName", "externalName": "a.b", "externalIPs": ["FD00::0:1"] })),
        [
            "spec.externalIPs[0]: IPv6 address \"FD00::0:1\" should be in RFC 5952 canonical format (\"fd00::1\")",
            "spec.externalIPs is ignored when spec.type is \"ExternalName\"",
        ]
    );
    assert_eq!(
        service(json!({ "ports": ports, "trafficDistribution": "PreferClose" })),
        ["spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""]
    );
}

#[test]
fn pods_and_what_makes_them() {
    let container = json!({
        "name": "c", "image": "i",
        "env": [{ "name": "A", "value": "1" }, { "name": "A", "value": "2" }, { "name": "B", "value": "x" }, { "name": "B", "value": "$(B)y" }],
        "ports": [{ "containerPort": 80, "name": "http" }, { "containerPort": 80, "hostPort": 8080 }],
        "resources": { "limits": { "memory": "100m" } },
    });
    let other = json!({ "name": "d", "image": "i", "ports": [{ "containerPort": 81, "name": "http" }] });
    let spec =
        json!({ "containers": [container, other], "nodeSelector": { "beta.kubernetes.io/os": "linux" } });
    let own = warnings(&create("Pod", json!({ "metadata": { "name": "a.b" }, "spec": spec })).unwrap());
    assert!(
        own[0].starts_with("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [a lowercase RFC 1123 label"),
        "{own:?}"
    );
    let old_label =
        "nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead";
    assert_eq!(own[1], format!("spec.{old_label}"));
    let deployment = json!({ "spec": { "selector": { "matchLabels": { "a": "b" } },
        "template": { "metadata": { "labels": { "a": "b" } }, "spec": spec } } });
    let made = create("Deployment", deployment).unwrap();
    let at = "spec.template.spec.containers[0]";
    assert_eq!(
        warnings(&made),
        [
            format!("spec.template.spec.{old_label}"),
            format!(
                "{at}.resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer"
            ),
            format!("{at}.env[1]: hides previous definition of \"A\", which may be dropped when using apply"),
            format!("{at}.ports[1]: overlapping port definition with {at}.ports[0]"),
            format!(
                "spec.template.spec.containers[1].ports[0]: duplicate port name \"http\" with {at}.ports[0], services and probes that select ports by name will use {at}.ports[0]"
            ),
        ]
    );
    let kind = kind("Deployment");
    assert!(kind.warnings(&made, Some(&made)).is_empty(), "who only scales is not told again");
    let mut next = made.clone();
    next["metadata"]["generation"] = json!(2);
    assert_eq!(kind.warnings(&next, Some(&made)).len(), 5);
}

#[test]
fn kinds_on_their_way_out() {
    let old = kind("Endpoints").deprecation();
    assert_eq!(old, Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"));
    assert_eq!(kind("EndpointSlice").deprecation(), None);
    let slice = json!({ "addressType": "FQDN", "endpoints": [{ "addresses": ["a.example.com"] }] });
    let slice = create("EndpointSlice", slice).unwrap();
    assert_eq!(warnings(&slice), ["spec.addressType: FQDN endpoints are deprecated"]);
    let account =
        json!({ "metadata": { "annotations": { "kubernetes.io/enforce-mountable-secrets": "true" } } });
    let account = create("ServiceAccount", account).unwrap();
    assert_eq!(
        warnings(&account),
        [
            "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        ]
    );
}

#[test]
fn annotations_that_a_field_has_taken_the_place_of() {
    let note = "container.apparmor.security.beta.kubernetes.io/c";
    let pod = |context: Value| {
        let container = json!({ "name": "c", "image": "i", "securityContext": context });
        let metadata = json!({ "annotations": { note: "runtime/default" } });
        warnings(
            &create("Pod", json!({ "metadata": metadata, "spec": { "containers": [container] } })).unwrap(),
        )
    };
    let old = r#"deprecated since v1.30; use the "appArmorProfile" field instead"#;
    assert_eq!(pod(json!({})), [format!("metadata.annotations[{note}]: {old}")]);
    assert!(pod(json!({ "appArmorProfile": { "type": "RuntimeDefault" } })).is_empty());
}

#[test]
fn files_of_a_volume_that_are_in_each_others_way() {
    let said = |volume: Value| {
        let spec = json!({ "containers": [{ "name": "c", "image": "i" }], "volumes": [volume] });
        warnings(&create("Pod", json!({ "spec": spec })).unwrap())
    };
    let items = |paths: &[&str]| -> Value {
        paths.iter().enumerate().map(|(n, path)| json!({ "key": n.to_string(), "path": path })).collect()
    };
    let map = |paths: &[&str]| json!({ "name": "v", "configMap": { "name": "m", "items": items(paths) } });
    assert!(said(map(&["a", "ab", "b/a", "b/c"])).is_empty());
    let words = r#"volume "v" (ConfigMap "m"): overlapping paths: "#;
    assert_eq!(said(map(&["a", "b", "a/"])), [format!(r#"{words}"a" with "a""#)]);
    assert_eq!(said(map(&["a/b", "a"])), [format!(r#"{words}"a" with "a/b""#)]);
    let sources = json!([
        { "secret": { "name": "s", "items": items(&["token"]) } },
        { "serviceAccountToken": { "path": "token" } },
    ]);
    assert_eq!(
        said(json!({ "name": "v", "projected": { "sources": sources } })),
        [r#"volume "v" (Projected ServiceAccountToken): overlapping paths: "token" with "token""#]
    );
}

#[test]
fn certificates_without_their_key() {
    let pair = |algorithm| {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        (base64(&certificate.pem()), base64(&key.serialize_pem()))
    };
    let said = |certificate: &str, key: &str| {
        let data = json!({ "tls.crt": certificate, "tls.key": key });
        warnings(&create("Secret", json!({ "type": "kubernetes.io/tls", "data": data })).unwrap())
    };
    let (certificate, key) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (_, other) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (_, edwards) = pair(&rcgen::PKCS_ED25519);
    assert!(said(&certificate, &key).is_empty());
    assert_eq!(said(&certificate, &other), ["tls: private key does not match public key"]);
    assert_eq!(said(&certificate, &edwards), ["tls: private key type does not match public key type"]);
    assert!(said(&key, &certificate)[0].ends_with("PEM inputs may have been switched"));
    let of_certificate = said(&certificate, &certificate);
    assert_eq!(of_certificate, ["tls: found a certificate rather than a key in the PEM for the private key"]);
    let nothing = base64("x");
    assert_eq!(said(&nothing, &key), ["tls: failed to find any PEM data in certificate input"]);
    assert_eq!(said(&certificate, &nothing), ["tls: failed to find any PEM data in key input"]);
    let opaque = create("Secret", json!({ "data": { "tls.crt": certificate, "tls.key": other } })).unwrap();
    assert!(warnings(&opaque).is_empty(), "only of what says that it is for TLS");
}
