//! ConfigMaps, Secrets, ServiceAccounts, Events, Leases.

use serde_json::json;

use crate::harness::{create, errors, kind, merged, row};

#[test]
fn config_maps() {
    let config = create("ConfigMap", json!({ "data": { "a": "b" }, "binaryData": { "c": "AAE=" } })).unwrap();
    assert_eq!(row(&config), ["x", "2", "42s"]);
    let bad = create(
        "ConfigMap",
        json!({ "data": { "a b": "", "..": "", "same": "" }, "binaryData": { "same": "" } }),
    );
    let bad = errors(bad);
    assert_eq!(bad[0], "data[..]: Invalid value: \"..\": must not be '..'");
    assert!(bad[1].starts_with("data[a b]: Invalid value: \"a b\": a valid config key must consist of"));
    assert_eq!(bad[2], "data[same]: Invalid value: \"same\": duplicate of key present in binaryData");
    let big = create("ConfigMap", json!({ "data": { "a": "x".repeat(1024 * 1024 + 1) } }));
    assert_eq!(errors(big), ["Too long: may not be more than 1048576 bytes"]);
}

#[test]
fn sealed_config_maps_and_secrets() {
    for (name, value) in [("ConfigMap", "b"), ("Secret", "Yg==")] {
        let sealed = create(name, json!({ "data": { "a": value }, "immutable": true })).unwrap();
        assert!(merged(&sealed, json!({ "metadata": { "labels": { "still": "free" } } })).is_ok());
        let refused = errors(merged(&sealed, json!({ "immutable": false, "data": { "c": value } })));
        let why = "Forbidden: field is immutable when `immutable` is set";
        assert_eq!(refused, [format!("immutable: {why}"), format!("data: {why}")], "{name}");
    }
}

#[test]
fn secrets() {
    let secret = create(
        "Secret",
        json!({ "data": { "a": "YQ==", "b": "eA==" }, "stringData": { "b": "new", "c": "" } }),
    )
    .unwrap();
    assert_eq!(secret["data"], json!({ "a": "YQ==", "b": "bmV3", "c": "" }));
    assert_eq!(secret.get("stringData"), None);
    assert_eq!(row(&secret), ["x", "Opaque", "3", "42s"]);
    assert_eq!(
        errors(merged(&secret, json!({ "type": "other" }))),
        ["type: Invalid value: \"other\": field is immutable"]
    );
    assert_eq!(kind("Secret").selectable_fields(&secret), [("type", "Opaque".to_owned())]);
}

#[test]
fn secrets_of_a_type_have_its_keys() {
    for (body, want) in [
        (
            json!({ "type": "kubernetes.io/tls", "stringData": { "tls.crt": "" } }),
            &["data[tls.key]: Required value"][..],
        ),
        (
            json!({ "type": "kubernetes.io/basic-auth" }),
            &["data[username]: Required value", "data[password]: Required value"],
        ),
        (json!({ "type": "kubernetes.io/ssh-auth" }), &["data[ssh-privatekey]: Required value"]),
        (json!({ "type": "kubernetes.io/dockerconfigjson" }), &["data[.dockerconfigjson]: Required value"]),
        (
            json!({ "type": "kubernetes.io/service-account-token" }),
            &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
    ] {
        assert_eq!(errors(create("Secret", body.clone())), want, "{body}");
    }
    let broken =
        json!({ "type": "kubernetes.io/dockerconfigjson", "stringData": { ".dockerconfigjson": "{" } });
    let refused = errors(create("Secret", broken));
    assert!(
        refused[0].starts_with("data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": ")
    );
    assert!(create("Secret", json!({ "type": "bootstrap.kubernetes.io/token" })).is_ok());
    assert!(
        create("Secret", json!({ "type": "kubernetes.io/basic-auth", "stringData": { "username": "u" } }))
            .is_ok()
    );
}

#[test]
fn service_accounts() {
    assert_eq!(row(&create("ServiceAccount", json!({})).unwrap()), ["x", "42s"]);
}

#[test]
fn leases() {
    let lease =
        create("Lease", json!({ "spec": { "holderIdentity": "me", "leaseDurationSeconds": 40 } })).unwrap();
    assert_eq!(row(&lease), ["x", "me", "42s"]);
    let bad = create("Lease", json!({ "spec": { "leaseDurationSeconds": 0, "leaseTransitions": -1 } }));
    assert_eq!(
        errors(bad),
        [
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
        ]
    );
    let renewed = merged(&lease, json!({ "spec": { "renewTime": "2026-01-01T00:00:10.5Z" } })).unwrap();
    assert_eq!(renewed["spec"]["renewTime"], "2026-01-01T00:00:10.500000Z");
}

#[test]
fn events() {
    let event = create(
        "Event",
        json!({
            "involvedObject": { "kind": "Pod", "name": "web-1", "namespace": "t1", "fieldPath": "spec.containers{c}" },
            "reason": "Started", "message": " Started container\n", "type": "Normal",
            "source": { "component": "kubelet", "host": "n1" },
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:40Z", "count": 3,
        }),
    )
    .unwrap();
    assert_eq!(
        row(&event),
        [
            "2s",
            "Normal",
            "Started",
            "pod/web-1",
            "spec.containers{c}",
            "kubelet, n1",
            "Started container",
            "42s",
            "3",
            "x",
        ]
    );
    let fields = kind("Event").selectable_fields(&event);
    assert!(fields.contains(&("involvedObject.name", "web-1".to_owned())));
    assert!(fields.contains(&("source", "kubelet".to_owned())));

    let newer = json!({
        "involvedObject": { "kind": "Node", "name": "n1" }, "metadata": { "name": "e" },
        "eventTime": "2026-01-01T00:00:12.000000Z", "reportingComponent": "svcd", "reportingInstance": "svcd-0",
    });
    let kind = kind("Event");
    let object = kind.decode(newer.clone()).unwrap().object;
    let cells = kind.cells(&object, "2026-01-01T00:00:42Z".parse().unwrap());
    assert_eq!(
        (&cells[0], &cells[3], &cells[5], &cells[8]),
        (&json!("30s"), &json!("node/n1"), &json!("svcd, svcd-0"), &json!(1))
    );
    assert_eq!(
        errors(create("Event", newer)),
        [
            "involvedObject.namespace: Invalid value: \"\": does not match event.namespace",
            "action: Required value",
            "reason: Required value",
        ]
    );
}

/// What the newer group asks besides, in the words of the stored form, as upstream has it.
#[test]
fn events_in_the_newer_group() {
    let kind = svcd_api::registry().by_kind("events.k8s.io/v1", "Event").unwrap();
    let meta = json!({ "name": "e", "namespace": "t1" });
    let good = json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": meta,
        "eventTime": "2026-01-01T00:00:12.000000Z", "action": "Starting", "reason": "Started", "type": "Normal",
        "reportingController": "svcd.io/x", "reportingInstance": "x-0", "note": "n",
        "regarding": { "kind": "Pod", "name": "p", "namespace": "t1" } });
    let check = |object: &serde_json::Value, old: Option<&serde_json::Value>| -> Vec<String> {
        kind.validate(object, old).iter().map(ToString::to_string).collect()
    };
    assert_eq!(check(&good, None), Vec::<String>::new());

    let mut bad = good.clone();
    for field in ["eventTime", "reportingController", "action"] {
        bad.as_object_mut().unwrap().remove(field);
    }
    bad["type"] = json!("Odd");
    bad["deprecatedCount"] = json!(2);
    bad["deprecatedSource"] = json!({ "component": "c" });
    bad["series"] = json!({ "count": 1 });
    assert_eq!(
        check(&bad, None),
        [
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
            "eventTime: Required value",
            "type: Invalid value: \"\": has invalid value: Odd",
            "count: Invalid value: \"\": needs to be unset",
            "source: Invalid value: \"\": needs to be unset",
        ]
    );

    let mut next = good.clone();
    next["series"] = json!({ "count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z" });
    assert_eq!(check(&next, Some(&good)), Vec::<String>::new());
    next["note"] = json!("other");
    next["reportingController"] = json!("bad name!");
    let wrong = check(&next, Some(&good));
    assert!(
        wrong[0].starts_with("reportingController: Invalid value: \"bad name!\": name part"),
        "{wrong:?}"
    );
    assert_eq!(wrong[1], "message: Invalid value: \"other\": field is immutable");
    assert_eq!(wrong[2], "reportingController: Invalid value: \"bad name!\": field is immutable");
}
