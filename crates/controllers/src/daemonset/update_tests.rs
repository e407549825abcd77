use serde_json::{Value, json};

use super::super::decide::tests::{at, place, pod, set};
use super::*;
use crate::kit::meta;

fn rolling(bounds: Value) -> DaemonSet {
    set(json!({ "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": bounds } }))
}

fn steps(set: &DaemonSet, places: &[Place]) -> (Vec<String>, Vec<String>) {
    let plan = plan(set, places, "new", at(100));
    let deleted = plan.delete.iter().map(|pod| meta::name(&pod.metadata).to_owned()).collect();
    (plan.create, deleted)
}

#[test]
fn as_many_go_as_may_be_missing() {
    let places = [
        place("n1", Fit::Wanted, vec![pod("a", "old", Some(1))]),
        place("n2", Fit::Wanted, vec![pod("b", "old", Some(1))]),
        place("n3", Fit::Wanted, vec![pod("c", "old", None)]),
        place("n4", Fit::Wanted, vec![pod("d", "new", Some(1))]),
    ];
    for (most, deleted) in [
        (json!(1), vec!["c"]),
        (json!(2), vec!["c", "a"]),
        (json!("50%"), vec!["c", "a"]),
        (json!("100%"), vec!["c", "a", "b"]),
    ] {
        let set = rolling(json!({ "maxUnavailable": most, "maxSurge": 0 }));
        assert_eq!(
            steps(&set, &places),
            (vec![], deleted.into_iter().map(str::to_owned).collect()),
            "{most}"
        );
    }
    let on_delete = set(json!({ "updateStrategy": { "type": "OnDelete" } }));
    assert_eq!(steps(&on_delete, &places), (vec![], vec![]));
}

#[test]
fn new_pods_come_before_the_old_ones_go() {
    let set = rolling(json!({ "maxUnavailable": 0, "maxSurge": 1 }));
    assert!(surges(&set));
    let before = [
        place("n1", Fit::Wanted, vec![pod("a", "old", Some(1))]),
        place("n2", Fit::Wanted, vec![pod("b", "old", Some(1))]),
    ];
    assert_eq!(steps(&set, &before), (vec!["n1".to_owned()], vec![]));
    let starting = [
        place("n1", Fit::Wanted, vec![pod("a", "old", Some(1)), pod("a2", "new", None)]),
        place("n2", Fit::Wanted, vec![pod("b", "old", Some(1))]),
    ];
    assert_eq!(steps(&set, &starting), (vec![], vec![]));
    let serving = [
        place("n1", Fit::Wanted, vec![pod("a", "old", Some(1)), pod("a2", "new", Some(2))]),
        place("n2", Fit::Wanted, vec![pod("b", "old", Some(1))]),
    ];
    assert_eq!(steps(&set, &serving), (vec!["n2".to_owned()], vec!["a".to_owned()]));
    let idle = [
        place("n1", Fit::Wanted, vec![pod("a", "old", None)]),
        place("n2", Fit::Kept, vec![pod("b", "old", Some(1))]),
    ];
    assert_eq!(steps(&set, &idle), (vec!["n1".to_owned()], vec![]));
}
