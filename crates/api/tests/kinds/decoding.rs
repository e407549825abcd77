//! Decoding: upstream's words for wrong types, unknown fields by path, and the canonical form.

use proptest::prelude::*;
use serde_json::{Value, json};
use svcd_api::registry;

use crate::harness::kind;

#[test]
fn wrong_types_are_named() {
    for (name, object, want) in [
        (
            "Service",
            json!({ "spec": { "ports": [{ "port": "abc" }] } }),
            "json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            "Service",
            json!({ "spec": { "ports": [{ "port": 1.5 }] } }),
            "json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            "Service",
            json!({ "spec": { "ports": [{ "port": 99_999_999_999_i64 }] } }),
            "json: cannot unmarshal number 99999999999 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            "ConfigMap",
            json!({ "metadata": { "labels": { "a": 1 } } }),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "Pod",
            json!({ "spec": { "hostNetwork": "yes" } }),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            "Service",
            json!({ "spec": [] , "metadata": 1 }),
            "json: cannot unmarshal number into Go struct field Service.metadata of type v1.ObjectMeta",
        ),
        ("Service", json!([]), "json: cannot unmarshal array into Go value of type v1.Service"),
        ("Secret", json!({ "data": { "a": "%%" } }), "data[a]: Invalid symbol 37, offset 0."),
    ] {
        assert_eq!(kind(name).decode(object.clone()).unwrap_err(), want, "{object}");
    }
    let time = json!({ "metadata": { "creationTimestamp": "yesterday" } });
    let error = kind("ConfigMap").decode(time).unwrap_err();
    assert!(error.starts_with("metadata.creationTimestamp: "), "{error}");
    let limit = json!({ "spec": { "containers": [{ "resources": { "limits": { "cpu": "lots" } } }] } });
    let error = kind("Pod").decode(limit).unwrap_err();
    assert!(error.starts_with("spec.containers[0].resources.limits[cpu]: quantities must match"), "{error}");
}

#[test]
fn unknown_fields_are_found_at_any_depth() {
    let object = json!({
        "bogus": 1,
        "metadata": { "labels": { "fine": "x" }, "nosuch": null },
        "spec": { "bogusField": 1, "ports": [{ "port": 80 }, { "port": 81, "foo": {} }] },
    });
    let decoded = kind("Service").decode(object).unwrap();
    assert_eq!(decoded.unknown, ["bogus", "spec.bogusField", "spec.ports[1].foo"]);
    assert_eq!(decoded.object["spec"]["ports"][1], json!({ "port": 81 }));
}

#[test]
fn what_means_nothing_is_not_kept() {
    let object = json!({
        "metadata": { "name": "p", "labels": {}, "annotations": null, "finalizers": [], "generateName": "" },
        "spec": {
            "hostNetwork": false,
            "nodeSelector": {},
            "nodeName": "",
            "volumes": [{ "name": "v", "emptyDir": {} }],
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "c",
                "tty": false,
                "resources": { "limits": {} },
                "env": [{ "name": "A", "value": "" }],
                "ports": [{ "containerPort": 80, "hostPort": 0 }],
            }],
        },
    });
    assert_eq!(
        kind("Pod").decode(object).unwrap().object,
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "p" },
            "spec": {
                "volumes": [{ "name": "v", "emptyDir": {} }],
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "c",
                    "resources": {},
                    "env": [{ "name": "A" }],
                    "ports": [{ "containerPort": 80 }],
                }],
            },
        })
    );
}

#[test]
fn values_that_only_look_empty_are_kept() {
    let lease = json!({ "spec": { "holderIdentity": "", "leaseTransitions": 0 } });
    assert_eq!(kind("Lease").decode(lease.clone()).unwrap().object["spec"], lease["spec"]);
    let data = json!({ "data": { "empty": "", "text": "x" } });
    assert_eq!(kind("ConfigMap").decode(data.clone()).unwrap().object["data"], data["data"]);
    let managed = json!({ "metadata": { "managedFields": [{ "fieldsV1": { "f:data": { "f:a": {} } } }] } });
    assert_eq!(kind("ConfigMap").decode(managed.clone()).unwrap().object["metadata"], managed["metadata"]);
}

#[test]
fn quantities_and_times_are_canonical() {
    let pod = json!({
        "metadata": { "creationTimestamp": "2026-01-01T02:00:00+02:00" },
        "spec": { "containers": [{ "name": "c", "resources": { "limits": { "cpu": 0.5, "memory": "1024Mi" } } }] },
    });
    let object = kind("Pod").decode(pod).unwrap().object;
    assert_eq!(object["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
    let limits = &object["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(*limits, json!({ "cpu": "500m", "memory": "1Gi" }));
}

/// Any JSON, with names that the kinds know more often than not.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..100_000).prop_map(Value::from),
        "[a-z0-9.:/-]{0,8}".prop_map(Value::from),
    ];
    let name = prop::sample::select(
        [
            "metadata",
            "spec",
            "status",
            "name",
            "namespace",
            "labels",
            "annotations",
            "ports",
            "port",
            "protocol",
            "targetPort",
            "containers",
            "resources",
            "limits",
            "data",
            "type",
            "selector",
            "template",
            "addresses",
            "conditions",
            "endpoints",
            "subsets",
            "env",
            "value",
            "replicas",
            "x",
        ]
        .as_slice(),
    );
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|m| m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_decodes_is_a_fixpoint_and_nothing_panics(object in any_json()) {
        for kind in registry().all() {
            let Ok(decoded) = kind.decode(object.clone()) else { continue };
            let again = kind.decode(decoded.object.clone());
            let again = again.expect("an encoded object decodes");
            prop_assert_eq!(&again.object, &decoded.object);
            prop_assert!(again.unknown.is_empty());
            let mut object = decoded.object;
            kind.set_defaults(&mut object);
            let once = object.clone();
            kind.set_defaults(&mut object);
            prop_assert_eq!(&object, &once, "defaults are a fixpoint");
            kind.prepare_create(&mut object, &crate::harness::single());
            kind.validate(&object, None);
            kind.validate(&object, Some(&once));
            kind.claims(&object);
            kind.cells(&object, jiff::Timestamp::UNIX_EPOCH);
        }
    }
}
