use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn node(ready: Option<(&str, &str)>, spec: Value) -> Node {
    let conditions: Vec<Value> = ready
        .into_iter()
        .map(|(status, reason)| json!({ "type": "Ready", "status": status, "reason": reason }))
        .collect();
    serde_json::from_value(json!({
        "metadata": { "name": "n" },
        "spec": spec,
        "status": { "conditions": conditions },
    }))
    .unwrap()
}

fn pod(ready: &str, reason: Value, containers: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "p" },
        "status": { "conditions": [
            { "type": "Ready", "status": ready, "reason": reason },
            { "type": "ContainersReady", "status": containers },
        ] },
    }))
    .unwrap()
}

#[test]
fn silence_makes_everything_unknown_once() {
    let healthy = node(Some(("True", "KubeletReady")), json!({}));
    let conditions = conditions(&healthy, Health::Silent, at(100)).unwrap();
    assert_eq!(conditions.len(), REPORTED.len());
    assert!(
        conditions.iter().all(|c| c.status == "Unknown" && c.last_transition_time == Some(Time(at(100))))
    );
    let mut lost = healthy;
    lost.status.as_mut().unwrap().conditions = Some(conditions);
    assert!(is_lost(&lost) && is_down(&lost));
    assert_eq!(super::conditions(&lost, Health::Silent, at(200)), None);
}

#[test]
fn only_a_lease_brings_back_a_lost_node_without_its_own_word() {
    let healthy = node(Some(("True", "KubeletReady")), json!({}));
    let mut lost = healthy.clone();
    lost.status.as_mut().unwrap().conditions = conditions(&healthy, Health::Silent, at(100));
    assert_eq!(conditions(&lost, Health::Heard { by_lease: false }, at(200)), None);
    let back = conditions(&lost, Health::Heard { by_lease: true }, at(200)).unwrap();
    let ready = back.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.last_transition_time.clone()), ("True", Some(Time(at(200)))));
    // What the node says of itself is its own business.
    let ill = node(Some(("False", "KubeletNotReady")), json!({}));
    assert_eq!(conditions(&ill, Health::Heard { by_lease: true }, at(200)), None);
}

#[test]
fn taints_follow_the_conditions() {
    let mine = json!({ "key": "mine", "effect": "NoSchedule" });
    let stale = json!({ "key": UNREACHABLE, "effect": "NoExecute" });
    let registered = json!({ "key": NOT_READY, "effect": "NoSchedule" });
    type Ready = Option<(&'static str, &'static str)>;
    let cases: Vec<(Ready, Value, Option<Vec<String>>)> = vec![
        (Some(("True", "")), json!({}), None),
        (
            Some(("True", "")),
            json!({ "taints": [mine.clone(), stale.clone()] }),
            Some(vec!["mine:NoSchedule".to_owned()]),
        ),
        (
            Some(("False", "")),
            json!({ "taints": [stale] }),
            Some(vec![format!("{NOT_READY}:NoSchedule"), format!("{NOT_READY}:NoExecute")]),
        ),
        (
            Some(("Unknown", "")),
            json!({ "taints": [mine] }),
            Some(vec![
                "mine:NoSchedule".to_owned(),
                format!("{UNREACHABLE}:NoSchedule"),
                format!("{UNREACHABLE}:NoExecute"),
            ]),
        ),
        (
            Some(("True", "")),
            json!({ "unschedulable": true }),
            Some(vec![format!("{UNSCHEDULABLE}:NoSchedule")]),
        ),
        (None, json!({}), None),
        (None, json!({ "taints": [registered] }), None),
    ];
    for (ready, spec, expected) in cases {
        let found = taints(&node(ready, spec.clone()), at(5));
        let names =
            found.map(|taints| taints.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect::<Vec<_>>());
        assert_eq!(names, expected, "{ready:?} {spec}");
    }
    let added = taints(&node(Some(("Unknown", "")), json!({})), at(5)).unwrap();
    assert_eq!((added[0].time_added.clone(), added[1].time_added.clone()), (None, Some(Time(at(5)))));
}

#[test]
fn pods_follow_their_node() {
    let up = node(Some(("True", "")), json!({}));
    let down = node(Some(("Unknown", "")), json!({}));
    let unheard = node(None, json!({}));
    let ours = || json!(NODE_NOT_READY);
    let cases = [
        (pod("True", Value::Null, "True"), &up, None),
        (pod("True", Value::Null, "True"), &down, Some(PodChange::Unready)),
        (pod("True", Value::Null, "True"), &unheard, None),
        (pod("False", ours(), "True"), &down, None),
        (pod("False", ours(), "True"), &up, Some(PodChange::Ready)),
        (pod("False", ours(), "False"), &up, None),
        (pod("False", json!("ContainersNotReady"), "True"), &up, None),
        (pod("False", ours(), "True"), &unheard, None),
    ];
    for (pod, node, expected) in cases {
        assert_eq!(pod_change(&pod, node), expected, "{pod:?} {node:?}");
    }
    let mut gated = pod("False", ours(), "True");
    gated.spec = Some(
        serde_json::from_value(json!({ "containers": [], "readinessGates": [{ "conditionType": "x" }] }))
            .unwrap(),
    );
    assert_eq!(pod_change(&gated, &up), None);
}
