//! The rules that every object's metadata obeys.

use serde_json::{Value, json};

use crate::harness::{create, create_named, errors, kind, merged};

fn config(meta: Value) -> Result<Value, Vec<String>> {
    create("ConfigMap", json!({ "metadata": meta }))
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

#[test]
fn bad_metadata() {
    for (meta, want) in [
        (json!({ "name": "Bad_Name" }), format!("metadata.name: Invalid value: \"Bad_Name\": {SUBDOMAIN}")),
        (json!({ "name": "" }), "metadata.name: Required value: name or generateName is required".to_owned()),
        (
            json!({ "generateName": "A-" }),
            format!("metadata.generateName: Invalid value: \"A-\": {SUBDOMAIN}"),
        ),
        (
            json!({ "finalizers": ["plain"] }),
            "metadata.finalizers: Invalid value: \"plain\": name is neither a standard finalizer name nor is it fully \
             qualified"
                .to_owned(),
        ),
        (
            json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "" }] }),
            "metadata.ownerReferences[0].uid: Invalid value: \"\": must not be empty".to_owned(),
        ),
        (
            json!({ "annotations": { "a": "x".repeat(256 * 1024) } }),
            "metadata.annotations: Too long: may not be more than 262144 bytes".to_owned(),
        ),
    ] {
        assert_eq!(errors(config(meta.clone())), [want]);
    }
    let labels = errors(config(json!({ "labels": { "a b": "x", "ok": "va!ue" } })));
    assert!(labels[0].starts_with("metadata.labels: Invalid value: \"a b\": name part must consist of"));
    assert!(
        labels[1]
            .starts_with("metadata.labels: Invalid value: \"va!ue\": a valid label must be an empty string")
    );
}

#[test]
fn one_controller_at_most() {
    let owner = |name: &str| json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": true });
    let refused = errors(config(json!({ "ownerReferences": [owner("a"), owner("b")] })));
    assert_eq!(refused.len(), 1);
    assert!(refused[0].ends_with(
        "Only one reference can have Controller set to true. Found \"true\" in references for Pod/a and Pod/b"
    ));
}

#[test]
fn good_metadata() {
    let meta = json!({
        "name": "a.b-c", "labels": { "example.com/x": "Y_z", "empty": "" }, "annotations": { "Any/Thing": "\n" },
        "finalizers": ["example.com/f", "foregroundDeletion"],
        "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u" }],
    });
    assert!(config(meta).is_ok());
}

#[test]
fn identity_does_not_change() {
    let object = config(json!({})).unwrap();
    for (field, value) in [
        ("name", "other"),
        ("namespace", "other"),
        ("uid", "other"),
        ("creationTimestamp", "2027-01-01T00:00:00Z"),
    ] {
        let refused = errors(merged(&object, json!({ "metadata": { field: value } })));
        assert_eq!(refused, [format!("metadata.{field}: Invalid value: \"{value}\": field is immutable")]);
    }
    for field in ["uid", "creationTimestamp", "namespace"] {
        assert_eq!(
            merged(&object, json!({ "metadata": { field: null } })).unwrap(),
            object,
            "{field} is carried over"
        );
    }
    let generated = merged(&object, json!({ "metadata": { "generation": 7, "selfLink": "/x" } })).unwrap();
    assert_eq!(generated, object);
}

#[test]
fn no_finalizers_are_added_to_what_goes() {
    let mut object = config(json!({ "finalizers": ["example.com/f"] })).unwrap();
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
    object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    assert_eq!(
        errors(merged(&object, json!({ "metadata": { "finalizers": ["example.com/g"] } }))),
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
             finalizers []string{\"example.com/g\"}"
        ]
    );
    let emptied =
        merged(&object, json!({ "metadata": { "finalizers": null, "deletionTimestamp": null } })).unwrap();
    assert_eq!(emptied["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    assert_eq!(emptied["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(emptied["metadata"].get("finalizers"), None);
}

#[test]
fn cluster_scoped_objects_have_no_namespace() {
    let node = kind("Node");
    let object = node.decode(json!({ "metadata": { "name": "n", "namespace": "t1" } })).unwrap().object;
    let wrong: Vec<String> = node.validate(&object, None).iter().map(ToString::to_string).collect();
    assert_eq!(wrong, ["metadata.namespace: Forbidden: not allowed on this type"]);
    assert!(create_named("Node", "n", json!({})).is_ok());
}
