use serde_json::json;

use super::*;
use crate::registry;

fn service() -> Scope<'static> {
    let info = registry().by_kind("v1", "Service").unwrap().info();
    Scope { info, subresource: "", has_status: true }
}

fn writer(manager: &str, operation: Operation) -> Writer {
    Writer {
        manager: manager.to_owned(),
        operation,
        api_version: "v1".to_owned(),
        subresource: String::new(),
        time: "2026-01-01T00:00:00Z".to_owned(),
    }
}

fn by(manager: &str) -> Writer {
    writer(manager, Operation::Apply)
}

fn config(labels: Value, ports: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a", "labels": labels },
            "spec": { "ports": ports } })
}

fn fields_of(managers: &Managers, at: usize) -> Value {
    managers.to_value().unwrap()[at]["fieldsV1"].clone()
}

#[test]
fn a_create_manages_what_it_wrote_and_says_dot_where_upstream_does() {
    let object = json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "a", "uid": "u", "labels": { "app": "a" }, "finalizers": ["x/y"] },
        "spec": { "type": "ClusterIP", "selector": { "app": "a" }, "clusterIPs": ["1"],
                  "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 80 }] },
        "status": { "loadBalancer": {} } });
    let managers = track(
        service(),
        &json!({}),
        &object,
        Managers::default(),
        &writer("kubectl-create", Operation::Update),
    );
    assert_eq!(
        fields_of(&managers, 0),
        json!({
            "f:metadata": { "f:finalizers": { ".": {}, "v:\"x/y\"": {} }, "f:labels": { ".": {}, "f:app": {} } },
            "f:spec": {
                "f:clusterIPs": {}, "f:selector": {}, "f:type": {},
                "f:ports": { ".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {
                    ".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {} } },
            },
        })
    );
}

#[test]
fn applying_names_fields_defaults_keys_and_leaves_others_alone() {
    let live = config(json!({ "b": "1" }), json!([{ "port": 53, "protocol": "UDP", "name": "dns" }]));
    let mine = config(json!({ "a": "1" }), json!([{ "port": 53, "name": "tcp" }]));
    let applied = apply(service(), &live, &mine, Managers::default(), (&by("m1"), false)).unwrap();
    assert_eq!(applied.object["metadata"]["labels"], json!({ "a": "1", "b": "1" }));
    assert_eq!(applied.object["spec"]["ports"].as_array().unwrap().len(), 2);
    assert_eq!(
        fields_of(&applied.managers, 0),
        json!({
            "f:metadata": { "f:labels": { "f:a": {} } },
            "f:spec": { "f:ports": { "k:{\"port\":53,\"protocol\":\"TCP\"}": { ".": {}, "f:name": {}, "f:port": {} } } },
        })
    );
}

#[test]
fn another_value_is_a_conflict_until_it_is_forced() {
    let first = apply(
        service(),
        &json!({}),
        &config(json!({ "v": "1" }), json!([])),
        Managers::default(),
        (&by("m1"), false),
    )
    .unwrap();
    let theirs = config(json!({ "v": "2" }), json!([]));
    let refused =
        apply(service(), &first.object, &theirs, first.managers.clone(), (&by("m2"), false)).unwrap_err();
    let conflict = Conflict { manager: "\"m1\"".to_owned(), field: ".metadata.labels.v".to_owned() };
    assert_eq!(refused, ApplyError::Conflicts(vec![conflict]));
    let forced = apply(service(), &first.object, &theirs, first.managers, (&by("m2"), true)).unwrap();
    assert_eq!(forced.object["metadata"]["labels"]["v"], "2");
    let list = forced.managers.to_value().unwrap();
    let owners: Vec<&Value> =
        list.as_array().unwrap().iter().filter(|entry| entry.to_string().contains("f:v")).collect();
    assert!(owners.len() == 1 && owners[0]["manager"] == "m2", "{list}");
    // The same value is owned by both, without a conflict.
    let shared = apply(service(), &forced.object, &theirs, forced.managers, (&by("m3"), false)).unwrap();
    assert_eq!(shared.object["metadata"]["labels"]["v"], "2");
}

#[test]
fn what_is_no_longer_named_goes_unless_somebody_else_has_it() {
    let ports = json!([{ "port": 80, "name": "a" }, { "port": 81, "name": "b" }]);
    let first = apply(
        service(),
        &json!({}),
        &config(json!({ "x": "1", "y": "1" }), ports),
        Managers::default(),
        (&by("m1"), false),
    )
    .unwrap();
    let second = apply(
        service(),
        &first.object,
        &config(json!({ "y": "1" }), json!([])),
        first.managers,
        (&by("m2"), false),
    )
    .unwrap();
    let less = config(json!({}), json!([{ "port": 81, "name": "b" }]));
    let third = apply(service(), &second.object, &less, second.managers, (&by("m1"), false)).unwrap();
    assert_eq!(third.object["metadata"]["labels"], json!({ "y": "1" }));
    assert_eq!(third.object["spec"]["ports"], json!([{ "port": 81, "name": "b" }]));
}

#[test]
fn an_update_takes_fields_from_appliers() {
    let first = apply(
        service(),
        &json!({}),
        &config(json!({ "v": "1", "w": "1" }), json!([])),
        Managers::default(),
        (&by("m1"), false),
    )
    .unwrap();
    let mut edited = first.object.clone();
    edited["metadata"]["labels"] = json!({ "v": "2" });
    let managers =
        track(service(), &first.object, &edited, first.managers, &writer("kubectl-edit", Operation::Update));
    let list = managers.to_value().unwrap();
    let edit = list.as_array().unwrap().iter().find(|e| e["manager"] == "kubectl-edit").unwrap();
    assert_eq!(edit["fieldsV1"], json!({ "f:metadata": { "f:labels": { "f:v": {} } } }));
    let again =
        apply(service(), &edited, &config(json!({ "v": "1" }), json!([])), managers, (&by("m1"), false))
            .unwrap_err();
    let conflict =
        Conflict { manager: "\"kubectl-edit\" using v1".to_owned(), field: ".metadata.labels.v".to_owned() };
    assert_eq!(again, ApplyError::Conflicts(vec![conflict]));
}

#[test]
fn kubectl_may_take_what_it_applied_on_the_clients_side() {
    let mine = config(json!({ "v": "1" }), json!([{ "port": 80 }]));
    let mut live = mine.clone();
    set_last_applied(&mut live, &mine);
    let before = track(
        service(),
        &json!({}),
        &live,
        Managers::default(),
        &writer("kubectl-client-side-apply", Operation::Update),
    );
    let next = config(json!({ "v": "2" }), json!([{ "port": 80 }]));
    assert!(apply(service(), &live, &next, before.clone(), (&by("kubectl"), false)).is_ok());
    assert!(apply(service(), &live, &next, before.clone(), (&by("other"), false)).is_err());
    live["metadata"]["labels"]["v"] = "3".into();
    assert!(apply(service(), &live, &next, before, (&by("kubectl"), false)).is_err());
}

#[test]
fn configurations_that_do_not_fit_are_refused_in_upstreams_words() {
    let refusal =
        |config: Value| match apply(service(), &json!({}), &config, Managers::default(), (&by("m"), false)) {
            Err(ApplyError::Untyped(why)) => why,
            other => panic!("{other:?}"),
        };
    assert_eq!(refusal(json!({ "spec": { "bogus": 1 } })), ".spec.bogus: field not declared in schema");
    let twice = json!({ "spec": { "ports": [{ "port": 1 }, { "port": 1, "protocol": "TCP" }] } });
    assert_eq!(refusal(twice), ".spec.ports: duplicate entries for key [port=1,protocol=\"TCP\"]");
    assert_eq!(refusal(json!({ "spec": { "ports": "x" } })), ".spec.ports: expected list, got &{x}");
}

#[test]
fn managed_fields_are_read_as_they_are_written() {
    let object = config(json!({ "app": "a" }), json!([{ "port": 80 }]));
    let managers =
        track(service(), &json!({}), &object, Managers::default(), &writer("m", Operation::Update));
    let value = managers.to_value().unwrap();
    assert_eq!(Managers::from_value(&value).unwrap(), managers);
    assert_eq!(Managers::sent(Some(&json!([{}])), Some(&value)), Managers::default());
    assert_eq!(Managers::sent(Some(&json!([])), Some(&value)), managers);
}

#[test]
fn many_updaters_are_folded() {
    let mut managers = Managers::default();
    let mut old = json!({});
    for at in 0..20 {
        let mut new = old.clone();
        new["metadata"]["labels"][format!("l{at}")] = "x".into();
        managers = track(service(), &old, &new, managers, &writer(&format!("m{at}"), Operation::Update));
        old = new;
    }
    let list = managers.to_value().unwrap();
    assert!(list.as_array().unwrap().len() <= 11);
    assert!(list.to_string().contains("ancient-changes"));
}

mod properties {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[a-e]", "[12]", 0..4)
    }

    fn ports() -> impl Strategy<Value = Vec<Value>> {
        let ports = proptest::collection::btree_map((1..5_u16, any::<bool>()), "[a-c]", 0..4);
        ports.prop_map(|ports| {
            let port = |((port, udp), name): ((u16, bool), String)| {
                json!({ "port": port, "protocol": if udp { "UDP" } else { "TCP" }, "name": name })
            };
            ports.into_iter().map(port).collect()
        })
    }

    fn configs() -> impl Strategy<Value = Value> {
        (labels(), ports()).prop_map(|(labels, ports)| config(json!(labels), json!(ports)))
    }

    proptest! {
        #[test]
        fn applying_twice_changes_nothing(live in configs(), mine in configs()) {
            let once = apply(service(), &live, &mine, Managers::default(), (&by("m"), true)).unwrap();
            let twice = apply(service(), &once.object, &mine, once.managers.clone(), (&by("m"), false)).unwrap();
            prop_assert_eq!(&once.object, &twice.object);
            prop_assert_eq!(once.managers, twice.managers);
        }

        #[test]
        fn what_two_apply_side_by_side_survives(one in labels(), two in labels(), next in labels()) {
            let named = |prefix: &str, labels: &BTreeMap<String, String>| {
                let labels: BTreeMap<String, String> =
                    labels.iter().map(|(k, v)| (format!("{prefix}{k}"), v.clone())).collect();
                config(json!(labels), json!([]))
            };
            let first = apply(service(), &json!({}), &named("x", &one), Managers::default(), (&by("m1"), false)).unwrap();
            let second = apply(service(), &first.object, &named("y", &two), first.managers, (&by("m2"), false)).unwrap();
            let third = apply(service(), &second.object, &named("x", &next), second.managers, (&by("m1"), false)).unwrap();
            let mut wanted: BTreeMap<String, String> = next.iter().map(|(k, v)| (format!("x{k}"), v.clone())).collect();
            wanted.extend(two.iter().map(|(k, v)| (format!("y{k}"), v.clone())));
            let found: BTreeMap<String, String> =
                serde_json::from_value(third.object["metadata"].get("labels").cloned().unwrap_or_else(|| json!({}))).unwrap();
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn a_forced_apply_gets_what_it_names(live in configs(), mine in configs()) {
            let before = track(service(), &json!({}), &live, Managers::default(), &writer("u", Operation::Update));
            let applied = apply(service(), &live, &mine, before, (&by("m"), true)).unwrap();
            for (label, value) in mine["metadata"]["labels"].as_object().unwrap() {
                prop_assert_eq!(&applied.object["metadata"]["labels"][label], value);
            }
            for port in mine["spec"]["ports"].as_array().unwrap() {
                prop_assert!(applied.object["spec"]["ports"].as_array().unwrap().contains(port));
            }
        }
    }
}
