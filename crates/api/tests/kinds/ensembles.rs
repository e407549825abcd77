//! DaemonSets, StatefulSets, ControllerRevisions and ReplicationControllers.

use serde_json::{Value, json};
use svcd_api::scale;

use crate::harness::{create, errors, kind, merged, patched, row, status};

fn template() -> Value {
    json!({
        "metadata": { "labels": { "app": "d1" } },
        "spec": { "containers": [{ "name": "x", "image": "x" }] },
    })
}

fn workload(name: &str, extra: Value) -> Result<Value, Vec<String>> {
    let mut spec = json!({ "selector": { "matchLabels": { "app": "d1" } }, "template": template() });
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    create(name, json!({ "spec": spec }))
}

#[test]
fn defaults() {
    let set = workload("DaemonSet", json!({})).unwrap();
    assert_eq!(set["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } })
    );
    assert_eq!(set["spec"]["template"]["spec"]["dnsPolicy"], "ClusterFirst");
    assert_eq!(
        set["status"],
        json!({ "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0 })
    );

    let set = workload("StatefulSet", json!({ "serviceName": "d1" })).unwrap();
    assert_eq!(set["spec"]["replicas"], 1);
    assert_eq!(set["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(
        set["spec"]["persistentVolumeClaimRetentionPolicy"],
        json!({ "whenDeleted": "Retain", "whenScaled": "Retain" })
    );
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } })
    );
    assert_eq!(set["status"], json!({ "availableReplicas": 0, "replicas": 0 }));

    let controller = create("ReplicationController", json!({ "spec": { "template": template() } })).unwrap();
    assert_eq!(controller["spec"]["replicas"], 1);
    assert_eq!(controller["spec"]["selector"], json!({ "app": "d1" }));
    assert_eq!(controller["metadata"]["labels"], json!({ "app": "d1" }));
}

#[test]
fn rows() {
    let selector = json!({ "template": { "metadata": { "labels": { "app": "d1" } }, "spec": {
        "nodeSelector": { "disk": "ssd" }, "containers": [{ "name": "x", "image": "x" }],
    } } });
    let set = workload("DaemonSet", selector).unwrap();
    let running = status(
        &set,
        json!({
            "currentNumberScheduled": 3, "desiredNumberScheduled": 4, "numberMisscheduled": 0, "numberReady": 2,
            "updatedNumberScheduled": 1, "numberAvailable": 2,
        }),
    )
    .unwrap();
    assert_eq!(row(&running), ["x", "4", "3", "2", "1", "2", "disk=ssd", "42s", "x", "x", "app=d1"]);
    assert_eq!(row(&workload("DaemonSet", json!({})).unwrap())[6], "<none>");

    let set = workload("StatefulSet", json!({ "replicas": 3 })).unwrap();
    let running = status(&set, json!({ "replicas": 3, "readyReplicas": 2, "availableReplicas": 2 })).unwrap();
    assert_eq!(row(&running), ["x", "2/3", "42s", "x", "x"]);

    let controller =
        create("ReplicationController", json!({ "spec": { "replicas": 2, "template": template() } }));
    let running = status(&controller.unwrap(), json!({ "replicas": 2, "readyReplicas": 1 })).unwrap();
    assert_eq!(row(&running), ["x", "2", "2", "1", "42s", "x", "x", "app=d1"]);
    let fields = kind("ReplicationController").selectable_fields(&running);
    assert_eq!(fields, [("status.replicas", "2".to_owned())]);

    let owner = json!([{ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": true }]);
    let revision = json!({ "metadata": { "ownerReferences": owner }, "data": {}, "revision": 2 });
    assert_eq!(row(&create("ControllerRevision", revision).unwrap()), ["x", "daemonset.apps/d", "2", "42s"]);
}

#[test]
fn a_revision_keeps_its_data_to_the_letter() {
    let data = json!({ "spec": { "template": {
        "$patch": "replace", "metadata": { "labels": {} },
        "spec": { "hostNetwork": false, "resources": {}, "text": "", "list": [], "zero": 0, "none": null },
    } } });
    let revision = create("ControllerRevision", json!({ "data": data, "revision": 0 })).unwrap();
    assert_eq!(revision["data"], data);
    assert_eq!(revision["revision"], 0);
    assert_eq!(merged(&revision, json!({ "revision": 3 })).unwrap()["revision"], 3);
    let refused = errors(merged(&revision, json!({ "data": { "other": 1 } })));
    assert!(refused[0].starts_with("data: Invalid value: ") && refused[0].ends_with(": field is immutable"));
    assert_eq!(errors(create("ControllerRevision", json!({}))), ["data: Required value: data is mandatory"]);
    assert_eq!(
        errors(create("ControllerRevision", json!({ "data": {}, "revision": -1 }))),
        ["revision: Invalid value: -1: must be greater than or equal to 0"]
    );
}

#[test]
fn the_template_generation_counts_templates() {
    let of = |set: &Value| set["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
    let set = workload("DaemonSet", json!({})).unwrap();
    assert_eq!((of(&set), &set["metadata"]["generation"]), (json!("1"), &json!(1)));
    let set = merged(&set, json!({ "spec": { "minReadySeconds": 3 } })).unwrap();
    assert_eq!((of(&set), &set["metadata"]["generation"]), (json!("1"), &json!(2)));
    let image =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "x", "image": "y" }] } } } });
    let set = patched(&set, image).unwrap();
    assert_eq!((of(&set), &set["metadata"]["generation"]), (json!("2"), &json!(3)));
}

#[test]
fn undo_brings_the_template_back() {
    let set = workload("StatefulSet", json!({})).unwrap();
    let mut template = set["spec"]["template"].clone();
    template["$patch"] = json!("replace");
    let changed = json!({ "spec": { "template": {
        "metadata": { "annotations": { "more": "x" } },
        "spec": { "containers": [{ "name": "y", "image": "y" }] },
    } } });
    let newer = patched(&set, changed).unwrap();
    assert_eq!(newer["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
    let back = patched(&newer, json!({ "spec": { "template": template } })).unwrap();
    assert_eq!(back["spec"]["template"], set["spec"]["template"]);
}

#[test]
fn what_is_refused() {
    let positive = "must be greater than or equal to 0";
    for (name, extra, want) in [
        ("DaemonSet", json!({ "selector": {} }), "spec.selector: Invalid value: {}: empty selector is invalid for daemonset".to_owned()),
        ("StatefulSet", json!({ "selector": {} }), "spec.selector: Invalid value: {}: empty selector is invalid for statefulset".to_owned()),
        (
            "DaemonSet",
            json!({ "updateStrategy": { "type": "Sometimes" } }),
            "spec.updateStrategy.type: Unsupported value: \"Sometimes\": supported values: \"OnDelete\", \"RollingUpdate\"".to_owned(),
        ),
        (
            "DaemonSet",
            json!({ "updateStrategy": { "rollingUpdate": { "maxUnavailable": 0 } } }),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0 when maxSurge is 0".to_owned(),
        ),
        (
            "DaemonSet",
            json!({ "updateStrategy": { "rollingUpdate": { "maxSurge": 1 } } }),
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero".to_owned(),
        ),
        ("StatefulSet", json!({ "replicas": -1 }), format!("spec.replicas: Invalid value: -1: {positive}")),
        (
            "StatefulSet",
            json!({ "ordinals": { "start": -1 } }),
            format!("spec.ordinals.start: Invalid value: -1: {positive}"),
        ),
        (
            "StatefulSet",
            json!({ "podManagementPolicy": "Any" }),
            "spec.podManagementPolicy: Unsupported value: \"Any\": supported values: \"OrderedReady\", \"Parallel\"".to_owned(),
        ),
        (
            "StatefulSet",
            json!({ "updateStrategy": { "type": "OnDelete", "rollingUpdate": { "partition": 1 } } }),
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'".to_owned(),
        ),
        (
            "StatefulSet",
            json!({ "volumeClaimTemplates": [{ "metadata": { "name": "data" } }] }),
            "spec.volumeClaimTemplates: Forbidden: persistent volume claims are not served by this cluster; leave the templates out, or use volumes of other kinds in the pod template".to_owned(),
        ),
    ] {
        assert_eq!(errors(workload(name, extra.clone())), [want], "{name} {extra}");
    }
    let set = workload("StatefulSet", json!({ "serviceName": "a" })).unwrap();
    assert_eq!(
        errors(merged(&set, json!({ "spec": { "serviceName": "b" } }))),
        [
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
          'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        ]
    );
    let other = json!({ "spec": { "selector": { "x": "y" }, "template": template() } });
    assert_eq!(
        errors(create("ReplicationController", other)),
        [
            "spec.template.metadata.labels: Invalid value: {\"app\":\"d1\"}: `selector` does not match template `labels`"
        ]
    );
    assert_eq!(
        errors(create("ReplicationController", json!({ "spec": {} }))),
        ["spec.selector: Required value", "spec.template: Required value"]
    );
}

#[test]
fn scales() {
    let controller = create("ReplicationController", json!({ "spec": { "template": template() } })).unwrap();
    assert_eq!(scale::of(&controller)["status"], json!({ "replicas": 0, "selector": "app=d1" }));
    let set = workload("StatefulSet", json!({})).unwrap();
    assert_eq!(scale::of(&set)["spec"], json!({ "replicas": 1 }));
}
