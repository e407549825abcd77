use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    let mut budget = json!({
        "metadata": { "name": "b", "namespace": "ns", "generation": 3 },
        "spec": { "selector": { "matchLabels": { "app": "web" } } },
        "status": status,
    });
    for (field, value) in spec.as_object().unwrap() {
        budget["spec"][field] = value.clone();
    }
    serde_json::from_value(budget).unwrap()
}

fn pod(name: &str, ready: &str) -> Arc<Pod> {
    let pod = json!({
        "metadata": { "name": name, "labels": { "app": "web" } },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn sized(pods: Vec<Arc<Pod>>, replicas: i32) -> Vec<(Owner, Arc<Pod>)> {
    pods.into_iter().map(|pod| (Owner::Sized { uid: "o".to_owned(), replicas }, pod)).collect()
}

#[test]
fn what_is_allowed() {
    let pods = |unready: usize| {
        (0..4).map(|i| pod(&format!("p{i}"), if i < unready { "False" } else { "True" })).collect::<Vec<_>>()
    };
    // spec, unready of 4 → expected, desired, healthy, allowed
    for (spec, unready, counts) in [
        (json!({ "minAvailable": 3 }), 0, [4, 3, 4, 1]),
        (json!({ "minAvailable": 3 }), 1, [4, 3, 3, 0]),
        (json!({ "minAvailable": 9 }), 0, [4, 9, 4, 0]),
        (json!({ "minAvailable": "50%" }), 0, [5, 3, 4, 1]),
        (json!({ "maxUnavailable": 1 }), 0, [5, 4, 4, 0]),
        (json!({ "maxUnavailable": 2 }), 0, [5, 3, 4, 1]),
        (json!({ "maxUnavailable": "25%" }), 0, [5, 3, 4, 1]),
        (json!({ "maxUnavailable": "100%" }), 3, [5, 0, 1, 1]),
        (json!({}), 0, [4, 0, 4, 4]),
    ] {
        let counted = status(&budget(spec.clone(), json!({})), &sized(pods(unready), 5), at(100));
        let found = counted.status;
        assert_eq!(
            [found.expected_pods, found.desired_healthy, found.current_healthy, found.disruptions_allowed],
            counts.map(Some),
            "{spec} {unready}"
        );
        let condition = &found.conditions.unwrap()[0];
        assert_eq!(condition.status == "True", counts[3] > 0, "{spec}");
        assert_eq!(found.observed_generation, Some(3));
    }
}

#[test]
fn owners_without_a_size_allow_nothing() {
    let pods = vec![(Owner::Unsized("DaemonSet agent".to_owned()), pod("p", "True"))];
    let counted = status(&budget(json!({ "maxUnavailable": 1 }), json!({})), &pods, at(100));
    assert_eq!(counted.status.disruptions_allowed, Some(0));
    assert_eq!(counted.status.conditions.unwrap()[0].reason, "SyncFailed");
    assert!(counted.trouble.unwrap().ends_with("DaemonSet agent has no scale"));
    let bare = vec![(Owner::None, pod("p", "True")), (Owner::None, pod("q", "True"))];
    let counted = status(&budget(json!({ "minAvailable": 1 }), json!({})), &bare, at(100));
    assert_eq!(counted.status.disruptions_allowed, Some(1));
}

#[test]
fn evictions_count_until_they_are_deletions_or_given_up() {
    let noted = json!({ "disruptedPods": {
        "p0": at(90).to_string(), "p1": at(100 - 121).to_string(), "gone": at(99).to_string(),
    } });
    let pods = sized(vec![pod("p0", "True"), pod("p1", "True"), pod("p2", "True")], 3);
    let counted = status(&budget(json!({ "minAvailable": 1 }), noted), &pods, at(100));
    assert_eq!(counted.status.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["p0"]);
    assert_eq!((counted.status.current_healthy, counted.status.disruptions_allowed), (Some(2), Some(1)));
    assert_eq!(counted.next_expiry, Some(110));
}

#[test]
fn whom_a_budget_is_about() {
    let pod = pod("p", "True");
    let with = |selector: Value| budget(json!({ "selector": selector }), json!({}));
    assert!(selects(&with(json!({})), &pod));
    assert!(selects(&with(json!({ "matchLabels": { "app": "web" } })), &pod));
    assert!(!selects(&with(json!({ "matchLabels": { "app": "db" } })), &pod));
    assert!(!selects(&with(Value::Null), &pod));
}
