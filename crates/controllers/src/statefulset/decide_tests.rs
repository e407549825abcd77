use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn set(spec: Value) -> StatefulSet {
    let mut base = json!({
        "metadata": { "name": "db", "namespace": "ns", "uid": "set", "generation": 4 },
        "spec": {
            "replicas": 3, "serviceName": "db",
            "selector": { "matchLabels": { "app": "db" } },
            "template": { "metadata": { "labels": { "app": "db" } }, "spec": { "containers": [] } },
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        base["spec"][field] = value.clone();
    }
    serde_json::from_value(base).unwrap()
}

#[derive(Clone, Copy)]
enum State {
    Ready,
    Unready,
    Failed,
    Ending,
}
use State::{Ending, Failed, Ready, Unready};

fn pod(ordinal: i32, revision: &str, state: State) -> Arc<Pod> {
    let ready = matches!(state, Ready | Ending);
    let mut pod = json!({
        "metadata": {
            "name": format!("db-{ordinal}"), "uid": format!("{ordinal}"),
            "labels": { "controller-revision-hash": revision },
        },
        "spec": { "containers": [] },
        "status": { "phase": if matches!(state, Failed) { "Failed" } else { "Running" } },
    });
    if ready {
        let condition = json!({ "type": "Ready", "status": "True", "lastTransitionTime": at(1).to_string() });
        pod["status"]["conditions"] = json!([condition]);
    }
    if matches!(state, Ending) {
        pod["metadata"]["deletionTimestamp"] = json!(at(5).to_string());
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// `+N@revision` for a pod that is made, `-N` for one that is deleted.
fn steps(set: &StatefulSet, pods: &[(i32, &str, State)]) -> Vec<String> {
    let pods = pods.iter().map(|(ordinal, revision, state)| pod(*ordinal, revision, *state)).collect();
    let plan = Scene::new(set, pods, "old", "new", at(100)).plan();
    let made = plan.create.iter().map(|(ordinal, revision)| format!("+{ordinal}@{revision}"));
    let deleted = plan.delete.iter().map(|pod| format!("-{}", &meta::name(&pod.metadata)[3..]));
    made.chain(deleted).collect()
}

#[test]
fn one_after_the_other() {
    let set = set(json!({}));
    for (pods, expected) in [
        (&[][..], &["+0@new"][..]),
        (&[(0, "new", Unready)], &[]),
        (&[(0, "new", Ready)], &["+1@new"]),
        (&[(0, "new", Ready), (1, "new", Unready)], &[]),
        (&[(0, "new", Ready), (2, "new", Ready)], &["+1@new"]),
        (&[(0, "new", Ready), (1, "new", Ready), (2, "new", Ready)], &[]),
        (&[(0, "new", Failed), (1, "new", Ready)], &["-0"]),
        (&[(0, "new", Ending), (1, "new", Ready)], &[]),
        // Too many: the last one first, and only when all that stay are well.
        (
            &[(0, "new", Ready), (1, "new", Ready), (2, "new", Ready), (3, "new", Ready), (4, "new", Ready)],
            &["-4"],
        ),
        (
            &[(0, "new", Ready), (1, "new", Ready), (2, "new", Ready), (3, "new", Ready), (4, "new", Ending)],
            &[],
        ),
        (&[(0, "new", Ready), (1, "new", Unready), (2, "new", Ready), (3, "new", Ready)], &[]),
    ] {
        assert_eq!(steps(&set, pods), expected);
    }
}

#[test]
fn all_at_once() {
    let set = set(json!({ "podManagementPolicy": "Parallel", "ordinals": { "start": 5 } }));
    assert_eq!(steps(&set, &[]), ["+5@new", "+6@new", "+7@new"]);
    let pods = [(5, "new", Unready), (6, "new", Failed), (1, "new", Ready), (8, "new", Unready)];
    assert_eq!(steps(&set, &pods), ["+7@new", "-6", "-8", "-1"]);
}

#[test]
fn an_update_goes_from_the_last_to_the_partition() {
    let rolling = |rolling: Value| {
        set(json!({ "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": rolling } }))
    };
    let old = [(0, "old", Ready), (1, "old", Ready), (2, "old", Ready)];
    assert_eq!(steps(&rolling(json!({})), &old), ["-2"]);
    assert_eq!(steps(&rolling(json!({ "maxUnavailable": 2 })), &old), ["-2", "-1"]);
    assert_eq!(steps(&rolling(json!({ "partition": 3 })), &old), Vec::<String>::new());
    let begun = [(0, "old", Ready), (1, "old", Ready), (2, "new", Ready)];
    assert_eq!(steps(&rolling(json!({})), &begun), ["-1"]);
    assert_eq!(steps(&rolling(json!({ "partition": 2 })), &begun), Vec::<String>::new());
    // What is lost below the partition comes back as it was.
    assert_eq!(
        steps(&rolling(json!({ "partition": 2 })), &[(1, "old", Ready), (2, "new", Ready)]),
        ["+0@old"]
    );
    assert_eq!(steps(&rolling(json!({})), &[(0, "old", Ready), (1, "old", Ready)]), ["+2@new"]);
    let on_delete = set(json!({ "updateStrategy": { "type": "OnDelete" } }));
    assert_eq!(steps(&on_delete, &old), Vec::<String>::new());
}

#[test]
fn a_broken_template_can_be_repaired() {
    assert_eq!(steps(&set(json!({})), &[(0, "old", Unready)]), ["-0"]);
    assert_eq!(steps(&set(json!({})), &[(0, "new", Unready)]), Vec::<String>::new());
}

#[test]
fn status() {
    let of = |pods: &[(i32, &str, State)]| {
        let pods = pods.iter().map(|(ordinal, revision, state)| pod(*ordinal, revision, *state)).collect();
        Scene::new(&set(json!({})), pods, "old", "new", at(100)).status()
    };
    let begun = of(&[(0, "old", Ready), (1, "old", Unready), (2, "new", Ready)]);
    assert_eq!((begun.replicas, begun.ready_replicas, begun.available_replicas), (3, Some(2), Some(2)));
    assert_eq!((begun.current_replicas, begun.updated_replicas), (Some(2), Some(1)));
    assert_eq!(begun.current_revision.as_deref(), Some("old"));
    assert_eq!(begun.update_revision.as_deref(), Some("new"));
    let done = of(&[(0, "new", Ready), (1, "new", Ready), (2, "new", Ready)]);
    assert_eq!(done.current_revision.as_deref(), Some("new"));
    assert_eq!((done.current_replicas, done.updated_replicas), (Some(3), Some(3)));
    assert_eq!(done.observed_generation, Some(4));
}

#[test]
fn names() {
    let named =
        |name: &str| -> Pod { serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap() };
    for (name, expected) in [
        ("db-0", Some(0)),
        ("db-12", Some(12)),
        ("db-01", None),
        ("db-+1", None),
        ("db", None),
        ("db-x-1", None),
        ("other-1", None),
    ] {
        assert_eq!(pod::ordinal("db", &named(name)), expected, "{name}");
    }
}
