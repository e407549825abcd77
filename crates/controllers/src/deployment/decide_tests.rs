use serde_json::{Value, json};

use super::*;

fn merge(target: &mut Value, patch: &Value) {
    match patch.as_object() {
        Some(fields) => fields.iter().for_each(|(key, value)| merge(&mut target[key], value)),
        None => *target = patch.clone(),
    }
}

pub(in crate::deployment) fn deployment(replicas: i32, more: Value) -> Deployment {
    let mut base = json!({
        "metadata": { "name": "web", "namespace": "ns", "uid": "d", "generation": 7 },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": template("now"),
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 1 } },
        },
    });
    merge(&mut base, &more);
    serde_json::from_value(base).unwrap()
}

fn template(image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "c", "image": image }] } })
}

/// A set: its template's image, the size it is told, the pods it has, the available ones.
pub(in crate::deployment) fn set(
    image: &str,
    size: i32,
    actual: i32,
    available: i32,
    annotations: Value,
) -> Arc<ReplicaSet> {
    let mut template = template(image);
    template["metadata"]["labels"][TEMPLATE_HASH] = image.into();
    Arc::new(
        serde_json::from_value(json!({
            "metadata": { "name": format!("web-{image}"), "uid": image, "annotations": annotations },
            "spec": { "replicas": size, "selector": { "matchLabels": { "app": "web" } }, "template": template },
            "status": { "replicas": actual, "readyReplicas": available, "availableReplicas": available },
        }))
        .unwrap(),
    )
}

fn sized(list: Vec<(Arc<ReplicaSet>, i32)>) -> Vec<(String, i32)> {
    list.into_iter().map(|(set, size)| (set.metadata.uid.clone().unwrap(), size)).collect()
}

fn names(list: &[(&str, i32)]) -> Vec<(String, i32)> {
    list.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
}

#[test]
fn the_set_with_the_template_is_the_present_one() {
    let sets = [set("then", 1, 1, 1, json!({})), set("now", 1, 1, 1, json!({}))];
    let rollout = Rollout::of(&deployment(2, json!({})), &sets);
    assert_eq!(rollout.current.unwrap().metadata.uid.as_deref(), Some("now"));
    assert_eq!(rollout.old[0].metadata.uid.as_deref(), Some("then"));
}

#[test]
fn bounds_are_numbers_or_shares() {
    let text = |surge: Value, unavailable: Value| json!({ "spec": { "strategy": { "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } } } });
    let cases = [
        (10, json!(2), json!(3), (12, 3)),
        (10, json!("25%"), json!("25%"), (13, 2)),
        (1, json!("25%"), json!("25%"), (2, 0)),
        (3, json!(0), json!(9), (3, 3)),
        (4, json!(0), json!(0), (4, 1)),
        (4, json!("0%"), json!("10%"), (4, 1)),
    ];
    for (replicas, surge, unavailable, expected) in cases {
        let rollout = Rollout::of(&deployment(replicas, text(surge.clone(), unavailable.clone())), &[]);
        let found = (rollout.max_pods(), rollout.max_unavailable());
        assert_eq!(found, expected, "{replicas} {surge} {unavailable}");
    }
}

#[test]
fn a_rollout_goes_step_by_step() {
    // Old: size, available; new: size, available → the new set's size, and the old one's.
    let cases = [
        ((4, 4), (0, 0), 1, Some(3)),
        // The old set was told 3, but its status still says 4: no second step on old news.
        ((3, 4), (1, 0), 2, None),
        ((3, 3), (1, 0), 2, None),
        ((3, 3), (2, 1), 2, Some(2)),
        ((2, 2), (2, 2), 3, Some(1)),
        ((1, 1), (3, 3), 4, Some(0)),
        // Unhealthy old pods do no good: they go first.
        ((4, 1), (1, 0), 1, Some(3)),
        ((4, 0), (1, 1), 1, Some(2)),
        ((0, 0), (4, 4), 4, None),
    ];
    for ((old, old_available), (new, new_available), target, shrunk) in cases {
        let sets =
            [set("then", old, old, old_available, json!({})), set("now", new, new, new_available, json!({}))];
        let rollout = Rollout::of(&deployment(4, json!({})), &sets);
        let case = format!("old {old} ({old_available}), new {new} ({new_available})");
        assert_eq!(rollout.current_target(), target, "{case}");
        let found = sized(rollout.shrink_old(rollout.current_target()));
        assert_eq!(
            found,
            shrunk.map(|size| ("then".to_owned(), size)).into_iter().collect::<Vec<_>>(),
            "{case}"
        );
    }
}

#[test]
fn from_any_state_the_bounds_hold_and_the_end_is_reached() {
    for replicas in 1..6 {
        for (surge, unavailable) in [(1, 0), (0, 1), (2, 2), (1, 1)] {
            let strategy = json!({ "spec": { "strategy": { "rollingUpdate": {
                "maxSurge": surge, "maxUnavailable": unavailable,
            } } } });
            let deployment = deployment(replicas, strategy);
            let (mut old, mut new) = (replicas, 0);
            let mut steps = 0;
            while (old, new) != (0, replicas) {
                // Everything that was started has become available in the meantime.
                let sets = [set("then", old, old, old, json!({})), set("now", new, new, new, json!({}))];
                let rollout = Rollout::of(&deployment, &sets);
                let available = new;
                new = rollout.current_target();
                if let Some((_, size)) = rollout.shrink_old(new).first() {
                    old = *size;
                }
                assert!(old + new <= replicas + surge, "{old} + {new} of {replicas} +{surge}");
                assert!(
                    old + available >= replicas - unavailable,
                    "{old} + {available} of {replicas} -{unavailable}"
                );
                steps += 1;
                assert!(steps < 50, "stuck at {old} + {new} of {replicas} +{surge} -{unavailable}");
            }
        }
    }
}

#[test]
fn a_resize_during_a_rollout_is_shared() {
    let noted = |desired: &str, max: &str| json!({ DESIRED: desired, MAX: max });
    let single = [set("now", 3, 3, 3, noted("3", "4"))];
    let rollout = Rollout::of(&deployment(7, json!({})), &single);
    assert!(rollout.is_scaling());
    assert_eq!(sized(rollout.proportional()), names(&[("now", 7)]));

    let sets = [set("then", 8, 8, 8, noted("10", "11")), set("now", 3, 3, 0, noted("10", "11"))];
    let rollout = Rollout::of(&deployment(20, json!({})), &sets);
    assert_eq!(sized(rollout.proportional()), names(&[("then", 15), ("now", 6)]));
    let rollout = Rollout::of(&deployment(5, json!({})), &sets);
    let shares = sized(rollout.proportional());
    assert_eq!(shares.iter().map(|(_, size)| size).sum::<i32>(), 6);
    let rollout = Rollout::of(&deployment(10, json!({})), &sets);
    assert!(!rollout.is_scaling());
    let rollout = Rollout::of(&deployment(0, json!({})), &sets);
    assert_eq!(sized(rollout.proportional()), names(&[("then", 0), ("now", 0)]));
}

#[test]
fn revisions_count_up() {
    let revised = |image: &str, revision: &str| set(image, 0, 0, 0, json!({ REVISION: revision }));
    let deployment = deployment(1, json!({}));
    assert_eq!(Rollout::of(&deployment, &[]).revision(), 1);
    assert_eq!(Rollout::of(&deployment, &[revised("then", "4")]).revision(), 5);
    assert_eq!(Rollout::of(&deployment, &[revised("then", "4"), revised("now", "5")]).revision(), 5);
    // Rolled back: the set's earlier revision goes into its history.
    let back = [revised("then", "4"), revised("now", "2")];
    let rollout = Rollout::of(&deployment, &back);
    assert_eq!(rollout.revision(), 5);
    let noted = annotations(&deployment, &back[1], &rollout);
    assert_eq!((noted[REVISION].as_str(), noted[REVISION_HISTORY].as_str()), ("5", "2"));
}

#[test]
fn a_new_set_carries_the_template_its_hash_and_the_annotations() {
    let annotated =
        json!({ "metadata": { "annotations": { "note": "x", REVISION: "9", LAST_APPLIED: "{}" } } });
    let deployment = deployment(4, annotated);
    let set = new_set(&deployment, &Rollout::of(&deployment, &[]), None);
    assert!(has_template(&set, &deployment));
    let hash = set.metadata.labels.as_ref().unwrap()[TEMPLATE_HASH].clone();
    assert_eq!(set.metadata.name, Some(format!("web-{hash}")));
    assert_eq!(set.spec.selector.match_labels.as_ref().unwrap()[TEMPLATE_HASH], hash);
    let annotations = set.metadata.annotations.unwrap();
    let seen: Vec<_> = annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(seen, [(DESIRED, "4"), (MAX, "5"), (REVISION, "1"), ("note", "x")]);
}

#[test]
fn the_oldest_unused_sets_are_forgotten() {
    let revised =
        |image: &str, size: i32, revision: &str| set(image, size, size, size, json!({ REVISION: revision }));
    let sets = [revised("c", 0, "3"), revised("a", 0, "1"), revised("busy", 1, "2"), revised("d", 0, "4")];
    let rollout = Rollout::of(&deployment(1, json!({ "spec": { "revisionHistoryLimit": 1 } })), &sets);
    let gone: Vec<_> = rollout.forgotten().iter().map(|set| set.metadata.uid.clone().unwrap()).collect();
    assert_eq!(gone, ["a", "c"]);
}
