use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(name: &str, more: Value) -> Arc<Pod> {
    let mut base = json!({
        "metadata": { "name": name, "namespace": "ns", "uid": name, "labels": { "app": "web" } },
        "spec": { "containers": [] },
    });
    json_patch_merge(&mut base, &more);
    Arc::new(serde_json::from_value(base).unwrap())
}

fn json_patch_merge(target: &mut Value, patch: &Value) {
    match patch.as_object() {
        Some(fields) => fields.iter().for_each(|(key, value)| json_patch_merge(&mut target[key], value)),
        None => *target = patch.clone(),
    }
}

fn ready(since: i64) -> Value {
    let condition = json!({ "type": "Ready", "status": "True", "lastTransitionTime": at(since).to_string() });
    json!({ "phase": "Running", "conditions": [condition] })
}

fn set(spec: Value) -> ReplicaSet {
    let mut base = json!({
        "metadata": { "name": "web", "namespace": "ns", "uid": "set", "generation": 3 },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [] } },
        },
    });
    json_patch_merge(&mut base["spec"], &spec);
    serde_json::from_value(base).unwrap()
}

#[test]
fn those_that_do_least_go_first() {
    let on = |node: &str, status: Value| json!({ "spec": { "nodeName": node }, "status": status });
    let created = |second: i64, mut more: Value| {
        more["metadata"]["creationTimestamp"] = at(second).to_string().into();
        more
    };
    let cheap =
        json!({ "metadata": { "annotations": { "controller.kubernetes.io/pod-deletion-cost": "-1" } } });
    let mut cheap = cheap;
    json_patch_merge(&mut cheap, &on("n1", ready(10)));
    let restarted = json!({
        "phase": "Running",
        "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": at(10).to_string() }],
        "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 4 }],
    });
    let pods = vec![
        pod("old", created(1, on("n1", ready(10)))),
        pod("young", created(2, on("n1", ready(10)))),
        pod("restarted", created(1, on("n1", restarted))),
        pod("lately-ready", created(1, on("n1", ready(20)))),
        pod("crowded", created(1, on("n2", ready(10)))),
        pod("crowded-too", created(1, on("n2", ready(11)))),
        pod("cheap", cheap),
        pod("unready", on("n1", json!({ "phase": "Running" }))),
        pod("pending", on("n1", json!({ "phase": "Pending" }))),
        pod("unassigned", json!({})),
    ];
    let order: Vec<String> = victims(pods, 99).iter().map(|p| p.metadata.name.clone().unwrap()).collect();
    assert_eq!(
        order,
        [
            "unassigned",
            "pending",
            "unready",
            "cheap",
            "lately-ready",
            "restarted",
            "young",
            "old",
            "crowded-too",
            "crowded",
        ],
    );
}

#[test]
fn the_crowded_node_gives_first() {
    let on = |name: &str, node: &str| pod(name, json!({ "spec": { "nodeName": node }, "status": ready(10) }));
    let pods = vec![on("a", "n1"), on("b", "n2"), on("c", "n2"), on("d", "n2")];
    let names: Vec<String> = victims(pods, 2).iter().map(|p| p.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn counts() {
    let set = set(json!({ "minReadySeconds": 10 }));
    let active = vec![
        pod("long", json!({ "status": ready(80) })),
        pod("short", json!({ "status": ready(95) })),
        pod("unready", json!({ "metadata": { "labels": { "more": "x" } } })),
    ];
    let status = status(&set, &active, None, at(100));
    assert_eq!(status.replicas, 3);
    assert_eq!(status.fully_labeled_replicas, Some(3));
    assert_eq!(status.ready_replicas, Some(2));
    assert_eq!(status.available_replicas, Some(1));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.conditions, None);
    assert_eq!(next_available(&set, &active, at(100)), Some(Duration::from_secs(5)));
    assert_eq!(next_available(&set, &active, at(200)), None);
}

#[test]
fn a_failure_is_a_condition_that_keeps_its_time() {
    let mut set = set(json!({}));
    let first = status(&set, &[], Some("no".to_owned()), at(100));
    set.status = Some(first);
    let condition = status(&set, &[], Some("still no".to_owned()), at(200)).conditions.unwrap().remove(0);
    assert_eq!(condition.message.as_deref(), Some("still no"));
    assert_eq!(condition.last_transition_time, Some(Time(at(100))));
    assert_eq!(status(&set, &[], None, at(300)).conditions, None);
}
