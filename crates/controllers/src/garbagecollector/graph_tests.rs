use serde_json::{Value, json};

use super::*;

fn meta(uid: &str, owners: &[(&str, bool)], more: Value) -> ObjectMeta {
    let owners: Vec<Value> = owners
        .iter()
        .map(|(owner, blocks)| {
            json!({ "apiVersion": "v1", "kind": "K", "name": owner, "uid": owner, "blockOwnerDeletion": blocks })
        })
        .collect();
    let mut meta = json!({ "name": uid, "uid": uid, "ownerReferences": owners });
    if let Some(fields) = more.as_object() {
        fields.iter().for_each(|(key, value)| meta[key] = value.clone());
    }
    serde_json::from_value(meta).unwrap()
}

fn foreground() -> Value {
    json!({ "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FOREGROUND] })
}

fn resource() -> Arc<ApiResource> {
    Arc::new(ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&()))
}

fn uids(names: &[&str]) -> Vec<Uid> {
    names.iter().map(|name| Uid::of(name)).collect()
}

#[test]
fn uids_are_numbers() {
    let text = "6a2f1c1e-0d5f-4c39-9a30-0f6a6f1c2b11";
    assert_eq!(Uid::of(text).to_string(), text.replace('-', ""));
    assert_eq!(Uid::of("not a uuid"), Uid::of("not a uuid"));
    assert_ne!(Uid::of("a"), Uid::of("b"));
}

#[test]
fn an_owner_that_goes_draws_attention_to_its_dependents() {
    let mut graph = Graph::default();
    assert!(graph.seen(&resource(), &meta("o", &[], Value::Null)).is_empty());
    assert!(graph.seen(&resource(), &meta("d", &[("o", false)], Value::Null)).is_empty());
    assert_eq!(graph.gone(Uid::of("o")), uids(&["d"]));
    assert!(!graph.is_live(Uid::of("o")));
    assert!(graph.gone(Uid::of("d")).is_empty());
    assert!(graph.dependents(Uid::of("o")).is_empty());
}

#[test]
fn a_dependent_of_an_unknown_owner_is_worth_a_look() {
    let mut graph = Graph::default();
    assert_eq!(graph.seen(&resource(), &meta("d", &[("o", false)], Value::Null)), uids(&["d"]));
}

#[test]
fn an_owner_in_the_foreground_is_looked_at_whenever_a_dependent_goes() {
    let mut graph = Graph::default();
    graph.seen(&resource(), &meta("o", &[], Value::Null));
    graph.seen(&resource(), &meta("d", &[("o", true)], Value::Null));
    assert_eq!(graph.seen(&resource(), &meta("o", &[], foreground())), uids(&["o"]));
    assert_eq!(graph.leaving(Uid::of("o")), Leaving::Foreground);
    assert!(blocks(&graph.item(Uid::of("d")).unwrap(), "o"));
    assert_eq!(graph.gone(Uid::of("d")), uids(&["o"]));
}

#[test]
fn losing_an_owner_reference_is_losing_the_tie() {
    let mut graph = Graph::default();
    graph.seen(&resource(), &meta("o", &[], Value::Null));
    graph.seen(&resource(), &meta("d", &[("o", true)], Value::Null));
    graph.seen(&resource(), &meta("d", &[], Value::Null));
    assert!(graph.gone(Uid::of("o")).is_empty());
    assert!(graph.item(Uid::of("d")).is_none());
}

#[test]
fn absence_is_remembered_until_disproved() {
    let mut graph = Graph::default();
    graph.remember_absent(Uid::of("o"));
    assert!(graph.is_absent(Uid::of("o")));
    graph.seen(&resource(), &meta("o", &[], Value::Null));
    assert!(!graph.is_absent(Uid::of("o")));
}

#[test]
fn how_objects_leave() {
    let deleted =
        |finalizers: Value| json!({ "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": finalizers });
    let cases = [
        (json!({ "finalizers": [FOREGROUND] }), Leaving::No),
        (deleted(json!([])), Leaving::Plain),
        (deleted(json!(["mine"])), Leaving::Plain),
        (deleted(json!(["mine", FOREGROUND])), Leaving::Foreground),
        (deleted(json!([ORPHAN])), Leaving::Orphan),
    ];
    for (more, expected) in cases {
        assert_eq!(leaving(&meta("o", &[], more.clone())), expected, "{more}");
    }
}

#[test]
fn verdicts_are_upstreams() {
    let owner = |name: &str| OwnerReference { uid: name.to_owned(), ..OwnerReference::default() };
    let states = |list: &[Owner]| -> Vec<(OwnerReference, Owner)> {
        list.iter().enumerate().map(|(n, state)| (owner(&n.to_string()), *state)).collect()
    };
    use Owner::{Dangling, Solid, Waiting};
    let cases: Vec<(&[Owner], bool, Verdict)> = vec![
        (&[], false, Verdict::Keep),
        (&[Solid], false, Verdict::Keep),
        (&[Solid, Solid], true, Verdict::Keep),
        (&[Solid, Dangling], false, Verdict::Release(vec![owner("0")])),
        (&[Waiting, Solid], true, Verdict::Release(vec![owner("1")])),
        (&[Dangling], true, Verdict::Delete),
        (&[Waiting], false, Verdict::Delete),
        (&[Waiting], true, Verdict::DeleteForeground),
        (&[Dangling, Waiting], true, Verdict::DeleteForeground),
    ];
    for (list, has_dependents, expected) in cases {
        assert_eq!(verdict(&states(list), has_dependents), expected, "{list:?} {has_dependents}");
    }
}
