use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use super::*;

const LATER: &str = "2026-01-01T00:00:00Z";

fn pod(name: &str, more: Value) -> Pod {
    let mut base = json!({
        "metadata": { "name": name, "namespace": "ns", "uid": name, "labels": { "app": "web" } },
        "spec": { "containers": [] },
    });
    for (field, value) in more["metadata"].as_object().into_iter().flatten() {
        base["metadata"][field] = value.clone();
    }
    serde_json::from_value(base).unwrap()
}

fn set() -> ReplicaSet {
    let set = json!({
        "metadata": { "name": "web", "namespace": "ns", "uid": "set", "generation": 3 },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [] } },
        },
    });
    serde_json::from_value(set).unwrap()
}

#[test]
fn who_belongs_to_whom() {
    let set = set();
    let owned_by = |uid: &str| {
        let owner =
            OwnerReference { uid: uid.to_owned(), controller: Some(true), ..OwnerReference::default() };
        json!({ "metadata": { "ownerReferences": [owner] } })
    };
    let mut strange = owned_by("set");
    strange["metadata"]["labels"] = json!({ "app": "other" });
    let dying = json!({ "metadata": { "deletionTimestamp": LATER } });
    let cases = [
        (json!({}), false, Claim::Adopt),
        (json!({}), true, Claim::Leave),
        (dying, false, Claim::Leave),
        (json!({ "metadata": { "labels": { "app": "other" } } }), false, Claim::Leave),
        (owned_by("set"), false, Claim::Leave),
        (owned_by("another"), false, Claim::Leave),
        (strange.clone(), false, Claim::Release),
        (strange, true, Claim::Leave),
    ];
    for (more, deleted, expected) in cases {
        assert_eq!(
            claim_of(&pod("a", more.clone()), "set", &set.spec.selector, deleted),
            expected,
            "{more} {deleted}"
        );
    }
}

#[test]
fn a_new_pod_is_the_template_with_an_owner() {
    let set = set();
    let pod = pod_of(&set, set.spec.template.clone().unwrap());
    assert_eq!(pod.metadata.labels.unwrap()["app"], "web");
    let owner = pod.metadata.owner_references.unwrap().remove(0);
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
        ("ReplicaSet", "set", Some(true))
    );
}
