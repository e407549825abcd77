use serde_json::{Value, json};

use super::*;

fn node(name: &str, spec: Value, labels: Value) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": labels },
        "spec": spec,
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "allocatable": { "pods": "3" },
        },
    }))
    .unwrap()
}

fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap()
}

fn try_one(pod: &Pod, node: &Node, pods: usize, taken: &[HostPort]) -> Result<String, Vec<Unfit>> {
    let candidate = Candidate { node, siblings: 0, pods, taken_ports: || taken.to_vec() };
    choose(pod, std::iter::once(candidate))
}

#[test]
fn what_keeps_a_pod_from_a_node() {
    let plain = || pod(json!({}));
    let taint = |effect: &str| json!({ "taints": [{ "key": "k", "value": "v", "effect": effect }] });
    let tolerations = json!({ "tolerations": [{ "key": "k", "operator": "Exists" }] });
    let tainted = Unfit::Taint { key: "k".to_owned(), value: "v".to_owned() };
    let affinity = |operator: &str, value: &str| {
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "disk", "operator": operator, "values": [value] }] }],
        } } } })
    };
    let cases = [
        (plain(), json!({}), None),
        (plain(), taint("NoSchedule"), Some(tainted.clone())),
        (plain(), taint("NoExecute"), Some(tainted)),
        (plain(), taint("PreferNoSchedule"), None),
        (pod(tolerations), taint("NoSchedule"), None),
        (plain(), json!({ "unschedulable": true }), Some(Unfit::Unschedulable)),
        (pod(json!({ "nodeSelector": { "disk": "ssd" } })), json!({}), None),
        (pod(json!({ "nodeSelector": { "disk": "tape" } })), json!({}), Some(Unfit::Selector)),
        (pod(affinity("In", "ssd")), json!({}), None),
        (pod(affinity("NotIn", "ssd")), json!({}), Some(Unfit::Selector)),
    ];
    for (pod, spec, expected) in cases {
        let node = node("n", spec, json!({ "disk": "ssd" }));
        let found = try_one(&pod, &node, 0, &[]).err().map(|mut unfit| unfit.remove(0));
        assert_eq!(found, expected, "{pod:?} {node:?}");
    }
}

#[test]
fn a_node_that_is_not_ready_is_not_chosen_even_before_it_is_tainted() {
    let mut silent = node("n", json!({}), json!({}));
    silent.status.as_mut().unwrap().conditions = None;
    let unfit = try_one(&pod(json!({})), &silent, 0, &[]).unwrap_err();
    assert_eq!(unfit, [Unfit::Taint { key: crate::kit::taints::NOT_READY.to_owned(), value: String::new() }]);
}

#[test]
fn a_full_node_and_taken_ports() {
    let node = node("n", json!({}), json!({}));
    assert_eq!(try_one(&pod(json!({})), &node, 3, &[]), Err(vec![Unfit::Full]));
    let port = |ip: &str| {
        pod(json!({ "containers": [{ "name": "c", "ports": [
            { "containerPort": 80, "hostPort": 80, "hostIP": ip },
        ] }] }))
    };
    let taken = host_ports(&port("127.0.0.1"));
    assert_eq!(try_one(&port(""), &node, 0, &taken), Err(vec![Unfit::Ports]));
    assert_eq!(try_one(&port("127.0.0.1"), &node, 0, &taken), Err(vec![Unfit::Ports]));
    assert!(try_one(&port("127.0.0.2"), &node, 0, &taken).is_ok());
}

#[test]
fn spreading() {
    let nodes = ["a", "b", "c", "d"].map(|name| node(name, json!({}), json!({ "name": name })));
    // Siblings, pods → chosen.
    let cases = [
        ([(0, 0), (0, 0), (0, 0), (0, 0)], "a"),
        ([(1, 0), (0, 2), (1, 0), (1, 0)], "b"),
        ([(1, 2), (1, 1), (1, 2), (2, 0)], "b"),
        ([(1, 2), (1, 2), (1, 2), (1, 1)], "d"),
    ];
    let choose_from = |pod: &Pod, counts: &[(usize, usize); 4]| {
        let candidates = nodes.iter().zip(counts).map(|(node, (siblings, pods))| Candidate {
            node,
            siblings: *siblings,
            pods: *pods,
            taken_ports: Vec::new,
        });
        choose(pod, candidates).unwrap()
    };
    for (counts, expected) in cases {
        assert_eq!(choose_from(&pod(json!({})), &counts), expected, "{counts:?}");
    }
    let liking =
        pod(json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 10,
        "preference": { "matchExpressions": [{ "key": "name", "operator": "In", "values": ["c"] }] },
    }] } } }));
    assert_eq!(choose_from(&liking, &[(0, 0), (0, 0), (5, 2), (0, 0)]), "c");
}
