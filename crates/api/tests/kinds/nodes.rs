//! Nodes and Namespaces.

use serde_json::{Value, json};

use crate::harness::{create, create_named, errors, kind, merged, patched, row, status};

fn node() -> Value {
    let labels = json!({ "kubernetes.io/hostname": "n1", "node-role.kubernetes.io/worker": "" });
    create(
        "Node",
        json!({ "metadata": { "name": "n1", "labels": labels }, "spec": { "podCIDR": "10.244.0.0/24" } }),
    )
    .unwrap()
}

#[test]
fn rows_of_nodes() {
    let node = node();
    assert_eq!(row(&node)[..5], ["n1", "Unknown", "worker", "42s", ""]);
    let reported = json!({
        "conditions": [{ "type": "Ready", "status": "True" }],
        "addresses": [{ "type": "InternalIP", "address": "10.9.8.7" }, { "type": "Hostname", "address": "n1" }],
        "capacity": { "cpu": "2", "memory": "4Gi" },
        "nodeInfo": {
            "kubeletVersion": "v1.0-svcd", "osImage": "Debian", "kernelVersion": "6.1", "architecture": "amd64",
            "containerRuntimeVersion": "none://0",
        },
    });
    let ready = status(&node, reported).unwrap();
    assert_eq!(ready["status"]["allocatable"], json!({ "cpu": "2", "memory": "4Gi" }));
    assert_eq!(
        row(&ready),
        [
            "n1",
            "Ready",
            "worker",
            "42s",
            "v1.0-svcd",
            "10.9.8.7",
            "<none>",
            "Debian",
            "6.1 (amd64)",
            "none://0"
        ]
    );
    let cordoned = merged(&ready, json!({ "spec": { "unschedulable": true } })).unwrap();
    assert_eq!(row(&cordoned)[1], "Ready,SchedulingDisabled");
    assert_eq!(kind("Node").selectable_fields(&cordoned), [("spec.unschedulable", "true".to_owned())]);
    let uncordoned = merged(&cordoned, json!({ "spec": { "unschedulable": false } })).unwrap();
    assert_eq!(uncordoned, ready, "false is as good as absent");
    let gone = status(&ready, json!({ "conditions": [{ "type": "Ready", "status": "Unknown" }] })).unwrap();
    assert_eq!(row(&gone)[1], "NotReady");
}

#[test]
fn the_pod_range_is_given_once() {
    let node = node();
    assert_eq!(node["spec"]["podCIDRs"], json!(["10.244.0.0/24"]));
    let refused = errors(merged(&node, json!({ "spec": { "podCIDR": "10.244.9.0/24" } })));
    assert_eq!(
        refused,
        ["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"]
    );
    let blank = create("Node", json!({})).unwrap();
    let given = patched(&blank, json!({ "spec": { "podCIDRs": ["10.244.1.0/24"] } })).unwrap();
    assert_eq!(given["spec"]["podCIDR"], "10.244.1.0/24");
    let dual = json!({ "spec": { "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"] } });
    assert_eq!(patched(&blank, dual).unwrap()["spec"]["podCIDR"], "10.244.1.0/24");
    let twice = json!({ "spec": { "podCIDRs": ["10.244.1.0/24", "10.244.2.0/24"] } });
    assert_eq!(
        errors(patched(&blank, twice)),
        [
            r#"spec.podCIDRs: Invalid value: ["10.244.1.0/24","10.244.2.0/24"]: may specify no more than one CIDR for each IP family"#
        ]
    );
}

#[test]
fn bad_nodes() {
    let taints = json!([{ "key": "k", "effect": "Bogus" }, { "key": "k" }, { "key": "j", "effect": "NoSchedule" }, { "key": "j", "effect": "NoSchedule" }]);
    assert_eq!(
        errors(create("Node", json!({ "spec": { "taints": taints, "podCIDRs": ["foo"] } }))),
        [
            "spec.podCIDRs[0]: Invalid value: \"foo\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            "spec.taints[0].effect: Unsupported value: \"Bogus\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            "spec.taints[1].effect: Required value",
            "spec.taints[3]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"j\"}",
        ]
    );
}

#[test]
fn namespaces() {
    let namespace = create_named("Namespace", "t1", json!({})).unwrap();
    assert_eq!(namespace["spec"], json!({ "finalizers": ["kubernetes"] }));
    assert_eq!(namespace["status"], json!({ "phase": "Active" }));
    assert_eq!(namespace["metadata"]["labels"], json!({ "kubernetes.io/metadata.name": "t1" }));
    assert_eq!(row(&namespace), ["t1", "Active", "42s"]);
    let emptied =
        merged(&namespace, json!({ "spec": { "finalizers": [] }, "metadata": { "labels": null } })).unwrap();
    assert_eq!(emptied, namespace, "finalizers and the name's label stay");
    assert_eq!(
        errors(status(&namespace, json!({ "phase": "Terminating" }))),
        [
            "status.phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
        ]
    );
    assert!(
        errors(create_named("Namespace", "a.b", json!({})))[0]
            .starts_with("metadata.name: Invalid value: \"a.b\": a lowercase RFC 1123 label")
    );
}
