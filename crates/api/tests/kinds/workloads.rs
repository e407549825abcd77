//! ReplicaSets and Deployments.

use serde_json::{Value, json};
use svcd_api::{patch, scale};

use crate::harness::{create, errors, kind, merged, patched, row, status, update};

fn template(labels: Value) -> Value {
    json!({ "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "x", "image": "x" }] } })
}

fn workload(name: &str, extra: Value) -> Result<Value, Vec<String>> {
    let labels = json!({ "app": "d1" });
    let mut spec = json!({ "selector": { "matchLabels": labels }, "template": template(labels) });
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    create(name, json!({ "spec": spec }))
}

#[test]
fn a_new_deployment_as_stored() {
    let deployment = workload("Deployment", json!({})).unwrap();
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    assert_eq!(
        spec["strategy"],
        json!({ "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" }, "type": "RollingUpdate" })
    );
    assert_eq!(
        spec["template"]["spec"],
        json!({
            "containers": [{
                "image": "x", "imagePullPolicy": "Always", "name": "x", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30,
        })
    );
    assert_eq!(deployment["status"], json!({}));
    assert_eq!(deployment["metadata"]["generation"], 1);
}

#[test]
fn rows() {
    let deployment = workload("Deployment", json!({})).unwrap();
    let running = status(&deployment, json!({ "replicas": 1, "updatedReplicas": 1 })).unwrap();
    assert_eq!(row(&running), ["x", "0/1", "1", "0", "42s", "x", "x", "app=d1"]);
    let set = workload("ReplicaSet", json!({ "replicas": 2 })).unwrap();
    assert_eq!(row(&set), ["x", "2", "0", "0", "42s", "x", "x", "app=d1"]);
    let running = status(&set, json!({ "replicas": 2, "readyReplicas": 1 })).unwrap();
    assert_eq!(row(&running)[1..4], ["2", "2", "1"]);
    assert_eq!(kind("ReplicaSet").selectable_fields(&running), [("status.replicas", "2".to_owned())]);
}

#[test]
fn bad_workloads() {
    for (name, extra, want) in [
        (
            "Deployment",
            json!({ "selector": {} }),
            vec!["spec.selector: Invalid value: {}: empty selector is invalid for deployment".to_owned()],
        ),
        (
            "Deployment",
            json!({ "template": template(json!({ "app": "other" })) }),
            vec!["spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`".to_owned()],
        ),
        (
            "ReplicaSet",
            json!({ "template": null }),
            vec!["spec.template: Required value".to_owned()],
        ),
        (
            "ReplicaSet",
            json!({ "replicas": -1 }),
            vec!["spec.replicas: Invalid value: -1: must be greater than or equal to 0".to_owned()],
        ),
        (
            "Deployment",
            json!({ "progressDeadlineSeconds": 5, "minReadySeconds": 5 }),
            vec!["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds".to_owned()],
        ),
        (
            "Deployment",
            json!({ "strategy": { "rollingUpdate": { "maxSurge": 0, "maxUnavailable": "0%" } } }),
            vec!["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0".to_owned()],
        ),
        (
            "Deployment",
            json!({ "strategy": { "rollingUpdate": { "maxSurge": "x", "maxUnavailable": "101%" } } }),
            vec![
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')".to_owned(),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%".to_owned(),
            ],
        ),
        (
            "Deployment",
            json!({ "strategy": { "type": "Recreate", "rollingUpdate": {} } }),
            vec!["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'".to_owned()],
        ),
        (
            "Deployment",
            json!({ "strategy": { "type": "Bogus" } }),
            vec!["spec.strategy.type: Unsupported value: \"Bogus\": supported values: \"Recreate\", \"RollingUpdate\"".to_owned()],
        ),
    ] {
        assert_eq!(errors(workload(name, extra.clone())), want, "{name} {extra}");
    }
    let mut wrong = template(json!({ "app": "d1" }));
    wrong["spec"]["restartPolicy"] = json!("Never");
    wrong["spec"]["containers"][0]["image"] = json!(null);
    assert_eq!(
        errors(workload("ReplicaSet", json!({ "template": wrong }))),
        [
            "spec.template.spec.containers[0].image: Required value",
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ]
    );
}

#[test]
fn selectors_with_expressions() {
    let expressions =
        json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["d1", "d2"] }] });
    let set = workload("ReplicaSet", json!({ "selector": expressions })).unwrap();
    assert_eq!(row(&set)[7], "app in (d1,d2)");
    for (expression, want) in [
        (
            json!({ "key": "app", "operator": "In" }),
            "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        (
            json!({ "key": "app", "operator": "Exists", "values": ["x"] }),
            "spec.selector.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        (
            json!({ "key": "app", "operator": "Maybe" }),
            "spec.selector.matchExpressions[0].operator: Invalid value: \"Maybe\": not a valid selector operator",
        ),
    ] {
        let refused =
            errors(workload("ReplicaSet", json!({ "selector": { "matchExpressions": [expression] } })));
        assert_eq!(refused[0], want);
    }
}

#[test]
fn the_selector_stays_and_the_generation_counts() {
    let deployment = workload("Deployment", json!({})).unwrap();
    let moved = json!({ "spec": { "selector": { "matchLabels": { "app": "e" } }, "template": template(json!({ "app": "e" })) } });
    let refused = errors(merged(&deployment, moved));
    assert_eq!(
        refused,
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"e\"}}: field is immutable"]
    );

    let labelled = merged(&deployment, json!({ "metadata": { "labels": { "a": "b" } } })).unwrap();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let scaled = scale::apply(&deployment, &json!({ "spec": { "replicas": 3 } })).unwrap();
    let scaled = update(&deployment, scaled).unwrap();
    assert_eq!(scaled["spec"]["replicas"], 3);
    assert_eq!(scaled["metadata"]["generation"], 2);
    let reported = status(&scaled, json!({ "observedGeneration": 2 })).unwrap();
    assert_eq!(reported["metadata"]["generation"], 2);
    assert_eq!(scale::of(&reported)["spec"]["replicas"], 3);
}

#[test]
fn strategic_patches_reach_into_the_template() {
    let deployment = workload("Deployment", json!({})).unwrap();
    let change = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "x", "env": [{ "name": "A", "value": "1" }] }, { "name": "y", "image": "y" } ] } } } });
    let changed = patched(&deployment, change).unwrap();
    let containers = &changed["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["image"], "x");
    assert_eq!(containers[0]["env"], json!([{ "name": "A", "value": "1" }]));
    assert_eq!(containers[1]["name"], "y");

    // What kubectl sends when the strategy changes.
    let recreate = json!({ "spec": { "strategy": { "$retainKeys": ["type"], "type": "Recreate" } } });
    let recreated = patch::strategic(kind("Deployment"), &deployment, &recreate).unwrap();
    assert_eq!(recreated["spec"]["strategy"], json!({ "type": "Recreate" }));
}
