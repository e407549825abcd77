use serde_json::{Value, json};

use super::*;

pub(in super::super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(in super::super) fn set(spec: Value) -> DaemonSet {
    let mut base = json!({
        "metadata": { "name": "agent", "namespace": "ns", "uid": "set", "generation": 2 },
        "spec": {
            "selector": { "matchLabels": { "app": "agent" } },
            "template": { "metadata": { "labels": { "app": "agent" } }, "spec": { "containers": [] } },
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        base["spec"][field] = value.clone();
    }
    serde_json::from_value(base).unwrap()
}

pub(in super::super) fn pod(name: &str, hash: &str, ready_since: Option<i64>) -> Arc<Pod> {
    let ready = ready_since.map(
        |second| json!([{ "type": "Ready", "status": "True", "lastTransitionTime": at(second).to_string() }]),
    );
    let pod = json!({
        "metadata": { "name": name, "uid": name, "labels": { "controller-revision-hash": hash } },
        "spec": { "containers": [], "nodeName": "n" },
        "status": { "phase": "Running", "conditions": ready.unwrap_or_else(|| json!([])) },
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

pub(in super::super) fn place(node: &str, fit: Fit, pods: Vec<Arc<Pod>>) -> Place {
    Place { node: node.to_owned(), fit, pods }
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|pod| meta::name(&pod.metadata)).collect()
}

#[test]
fn which_nodes_fit() {
    let node = |labels: Value, spec: Value| -> Node {
        serde_json::from_value(json!({ "metadata": { "name": "n1", "labels": labels }, "spec": spec }))
            .unwrap()
    };
    let template = |spec: Value| {
        let mut spec = spec;
        spec["containers"] = json!([]);
        set(json!({ "template": { "metadata": { "labels": { "app": "agent" } }, "spec": spec } }))
    };
    let taint = |key: &str, effect: &str| json!({ "taints": [{ "key": key, "effect": effect }] });
    let ssd = || template(json!({ "nodeSelector": { "disk": "ssd" } }));
    let all = || template(json!({}));
    let cases = [
        (all(), json!({}), json!({}), Fit::Wanted),
        (ssd(), json!({}), json!({}), Fit::Unwanted),
        (ssd(), json!({ "disk": "ssd" }), json!({}), Fit::Wanted),
        (template(json!({ "nodeName": "n2" })), json!({}), json!({}), Fit::Unwanted),
        (all(), json!({}), json!({ "unschedulable": true }), Fit::Wanted),
        (all(), json!({}), taint("mine", "NoSchedule"), Fit::Kept),
        (all(), json!({}), taint("mine", "PreferNoSchedule"), Fit::Wanted),
        (all(), json!({}), taint("mine", "NoExecute"), Fit::Unwanted),
        (all(), json!({}), taint("node.kubernetes.io/unreachable", "NoExecute"), Fit::Wanted),
        (all(), json!({}), taint("node.kubernetes.io/network-unavailable", "NoSchedule"), Fit::Kept),
        (
            template(json!({ "hostNetwork": true })),
            json!({}),
            taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
            Fit::Wanted,
        ),
        (
            template(json!({ "tolerations": [{ "operator": "Exists" }] })),
            json!({}),
            taint("mine", "NoExecute"),
            Fit::Wanted,
        ),
    ];
    for (set, labels, spec, expected) in cases {
        assert_eq!(fit(&set, &node(labels.clone(), spec.clone())), expected, "{labels} {spec}");
    }
}

#[test]
fn one_pod_for_each_node_that_fits() {
    let set = set(json!({}));
    let places = [
        place("empty", Fit::Wanted, vec![]),
        place("kept-empty", Fit::Kept, vec![]),
        place("kept", Fit::Kept, vec![pod("stays", "h", Some(1))]),
        place("unwanted", Fit::Unwanted, vec![pod("goes", "h", Some(1))]),
        place("crowded", Fit::Wanted, vec![pod("first", "h", Some(1)), pod("second", "h", Some(1))]),
    ];
    let plan = plan(&set, &places, "h");
    assert_eq!(plan.create, ["empty"]);
    assert_eq!(names(&plan.delete), ["goes", "second"]);
}

#[test]
fn a_pod_that_ended_is_deleted_and_then_made_anew() {
    let mut ended = pod("ended", "h", None).as_ref().clone();
    ended.status.as_mut().unwrap().phase = Some("Failed".to_owned());
    let set = set(json!({}));
    let mut places = [place("n", Fit::Wanted, vec![Arc::new(ended.clone())])];
    let first = plan(&set, &places, "h");
    assert_eq!((names(&first.delete), first.create.len()), (vec!["ended"], 0));
    ended.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
    places[0].pods = vec![Arc::new(ended)];
    let second = plan(&set, &places, "h");
    assert!(second.delete.is_empty() && second.create.is_empty(), "its end is waited for");
}

#[test]
fn the_status_counts_nodes() {
    let set = set(json!({ "minReadySeconds": 10 }));
    let places = [
        place("empty", Fit::Wanted, vec![]),
        place("available", Fit::Wanted, vec![pod("a", "h", Some(1))]),
        place("ready", Fit::Wanted, vec![pod("b", "old", Some(95))]),
        place("misplaced", Fit::Kept, vec![pod("c", "h", Some(1))]),
    ];
    let status = status(&set, &places, "h", at(100));
    assert_eq!(status.desired_number_scheduled, 3);
    assert_eq!(status.current_number_scheduled, 2);
    assert_eq!(status.number_ready, 2);
    assert_eq!(status.number_misscheduled, 1);
    assert_eq!(status.number_available, Some(1));
    assert_eq!(status.number_unavailable, Some(2));
    assert_eq!(status.updated_number_scheduled, Some(1));
    assert_eq!(status.observed_generation, Some(2));
    assert_eq!(next_available(&set, &places, at(100)), Some(Duration::from_secs(5)));
}

#[test]
fn a_pod_names_its_node_and_tolerates_trouble() {
    let tolerations = json!([{ "key": "mine", "operator": "Exists" }]);
    let template = json!({
        "metadata": { "labels": { "app": "agent" } },
        "spec": { "containers": [], "tolerations": tolerations },
    });
    let pod = pod::new(&set(json!({ "template": template })), "n7", "h");
    assert_eq!(pod::target(&pod), Some("n7"));
    assert_eq!(pod::hash(&pod), Some("h"));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("agent-"));
    let tolerations = pod.spec.unwrap().tolerations.unwrap();
    assert_eq!(tolerations.len(), 7);
    assert_eq!(tolerations[0].key.as_deref(), Some("mine"));
}
