use proptest::prelude::*;
use serde_json::json;

use super::*;

fn keys_of(path: &str) -> Option<&'static [&'static str]> {
    match path {
        "list" | "list.inner" => Some(&["name"]),
        "ports" => Some(&["port", "protocol"]),
        "set" => Some(&[]),
        _ => None,
    }
}

fn apply(current: Value, patch: Value) -> Result<Value, PatchError> {
    let merged = merge_value(&Merge { keys: &keys_of }, "", Some(&current), &patch)?;
    Ok(merged.unwrap_or_else(|| json!({})))
}

#[test]
fn merges() {
    for (name, current, patch, want) in [
        ("fields", json!({"a": 1, "b": 2}), json!({"b": null, "c": 3}), json!({"a": 1, "c": 3})),
        ("nested", json!({"m": {"a": 1}}), json!({"m": {"b": 2}}), json!({"m": {"a": 1, "b": 2}})),
        ("atomic list", json!({"other": [1, 2]}), json!({"other": [3]}), json!({"other": [3]})),
        ("set", json!({"set": ["a"]}), json!({"set": ["b", "a"]}), json!({"set": ["a", "b"]})),
        (
            "by key",
            json!({"list": [{"name": "a", "v": 1}, {"name": "b"}]}),
            json!({"list": [{"name": "a", "w": 2}, {"name": "c"}]}),
            json!({"list": [{"name": "a", "v": 1, "w": 2}, {"name": "b"}, {"name": "c"}]}),
        ),
        (
            "lists in lists",
            json!({"list": [{"name": "a", "inner": [{"name": "x"}]}]}),
            json!({"list": [{"name": "a", "inner": [{"name": "y"}]}]}),
            json!({"list": [{"name": "a", "inner": [{"name": "x"}, {"name": "y"}]}]}),
        ),
        (
            "delete an element",
            json!({"list": [{"name": "a"}, {"name": "b"}]}),
            json!({"list": [{"name": "a", "$patch": "delete"}, {"name": "z", "$patch": "delete"}]}),
            json!({"list": [{"name": "b"}]}),
        ),
        (
            "replace a list",
            json!({"list": [{"name": "a"}]}),
            json!({"list": [{"name": "b"}, {"$patch": "replace"}]}),
            json!({"list": [{"name": "b"}]}),
        ),
        (
            "replace an element",
            json!({"list": [{"name": "a", "v": 1}]}),
            json!({"list": [{"name": "a", "w": 1, "$patch": "merge"}]}),
            json!({"list": [{"name": "a", "v": 1, "w": 1}]}),
        ),
        (
            "replace a map",
            json!({"m": {"a": 1}}),
            json!({"m": {"b": 2, "$patch": "replace"}}),
            json!({"m": {"b": 2}}),
        ),
        ("delete a map", json!({"m": {"a": 1}, "n": 1}), json!({"m": {"$patch": "delete"}}), json!({"n": 1})),
        (
            "retain keys",
            json!({"m": {"a": 1, "b": 2}}),
            json!({"m": {"$retainKeys": ["b", "c"], "c": 3}}),
            json!({"m": {"b": 2, "c": 3}}),
        ),
        (
            "delete primitives",
            json!({"set": ["a", "b", "c"]}),
            json!({"$deleteFromPrimitiveList/set": ["a", "c"]}),
            json!({"set": ["b"]}),
        ),
        (
            "order of a list",
            json!({"list": [{"name": "a"}, {"name": "b"}]}),
            json!({"$setElementOrder/list": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "list": [{"name": "c"}]}),
            json!({"list": [{"name": "c"}, {"name": "b"}, {"name": "a"}]}),
        ),
        (
            "a new element comes before one that only the server knows",
            json!({"list": [{"name": "old"}, {"name": "server"}]}),
            json!({
                "$setElementOrder/list": [{"name": "new"}],
                "list": [{"name": "old", "$patch": "delete"}, {"name": "new"}],
            }),
            json!({"list": [{"name": "new"}, {"name": "server"}]}),
        ),
        (
            "order of a set",
            json!({"set": ["a", "x", "b"]}),
            json!({"$setElementOrder/set": ["b", "a"]}),
            json!({"set": ["x", "b", "a"]}),
        ),
        (
            "no directives in new maps",
            json!({}),
            json!({"m": {"$patch": "replace", "a": 1}}),
            json!({"m": {"a": 1}}),
        ),
        ("no nulls in new maps", json!({}), json!({"m": {"a": null, "b": 1}}), json!({"m": {"b": 1}})),
    ] {
        assert_eq!(apply(current, patch), Ok(want), "{name}");
    }
}

#[test]
fn a_second_key_tells_twins_apart() {
    let twins = json!({"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]});
    let patch = json!({"ports": [{"port": 53, "protocol": "TCP", "n": 1}]});
    assert_eq!(
        apply(twins.clone(), patch).unwrap()["ports"],
        json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP", "n": 1}])
    );
    // One of its number: the protocol changes.
    let single = json!({"ports": [{"port": 80, "protocol": "TCP"}]});
    let patch = json!({"ports": [{"port": 80, "protocol": "UDP"}]});
    assert_eq!(apply(single, patch).unwrap()["ports"], json!([{"port": 80, "protocol": "UDP"}]));
    // Both come at once.
    let patch = json!({"ports": [{"port": 9, "protocol": "UDP"}, {"port": 9, "protocol": "TCP"}]});
    assert_eq!(apply(json!({}), patch.clone()).unwrap(), patch);
    let gone = json!({"ports": [{"port": 53, "protocol": "UDP", "$patch": "delete"}]});
    assert_eq!(apply(twins, gone).unwrap()["ports"], json!([{"port": 53, "protocol": "TCP"}]));
}

#[test]
fn refusals() {
    for patch in [
        json!({"m": {"$patch": "frobnicate"}}),
        json!({"list": [{"v": 1}]}),
        json!({"list": [1]}),
        json!({"m": {"$retainKeys": "a"}}),
        json!({"m": {"$retainKeys": ["a"], "b": 1}}),
        json!({"$setElementOrder/list": [], "list": [{"name": "a"}]}),
        json!({"$deleteFromPrimitiveList/set": 1}),
    ] {
        let result = apply(json!({"m": {}, "set": ["a"]}), patch.clone());
        assert!(matches!(result, Err(PatchError::Malformed(_))), "{patch}: {result:?}");
    }
}

/// The patch that a client computes from two objects, with the directives that kubectl uses.
fn diff(path: &str, from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for field in from.keys().filter(|f| !to.contains_key(*f)) {
        patch.insert(field.clone(), Value::Null);
    }
    for (field, wanted) in to {
        let path = join(path, field);
        match (from.get(field), wanted, keys_of(&path)) {
            (Some(now), wanted, _) if now == wanted => {}
            (Some(Value::Array(now)), Value::Array(wanted), Some(keys)) => {
                diff_list(&mut patch, field, &path, keys, now, wanted);
            }
            (Some(now @ Value::Object(_)), wanted @ Value::Object(_), _) => {
                patch.insert(field.clone(), diff(&path, now, wanted));
            }
            _ => {
                patch.insert(field.clone(), wanted.clone());
            }
        }
    }
    Value::Object(patch)
}

fn diff_list(
    patch: &mut Map<String, Value>,
    field: &str,
    path: &str,
    keys: &[&str],
    now: &[Value],
    wanted: &[Value],
) {
    patch.insert(
        format!("{SET_ORDER}{field}"),
        wanted.iter().map(|w| keys.first().map_or_else(|| w.clone(), |k| json!({ *k: w[*k] }))).collect(),
    );
    let Some(key) = keys.first() else {
        let gone: Vec<_> = now.iter().filter(|v| !wanted.contains(v)).cloned().collect();
        patch.insert(format!("{DELETE_FROM}{field}"), Value::Array(gone));
        patch.insert(field.to_owned(), Value::Array(wanted.to_vec()));
        return;
    };
    let mut list: Vec<Value> = Vec::new();
    for gone in now.iter().filter(|n| !wanted.iter().any(|w| w[*key] == n[*key])) {
        list.push(json!({ *key: gone[*key], PATCH: "delete" }));
    }
    for element in wanted {
        match now.iter().find(|n| n[*key] == element[*key]) {
            Some(before) => {
                let mut change = diff(path, before, element);
                change[*key] = element[*key].clone();
                list.push(change);
            }
            None => list.push(element.clone()),
        }
    }
    patch.insert(field.to_owned(), Value::Array(list));
}

fn element() -> impl Strategy<Value = (String, Value)> {
    let inner = prop::collection::btree_map("[a-c]", 0..9, 0..3);
    ("[a-f]", 0..9, inner).prop_map(|(name, v, inner)| {
        let inner: Vec<_> = inner.into_iter().map(|(name, v)| json!({"name": name, "v": v})).collect();
        (name.clone(), json!({"name": name, "v": v, "inner": inner}))
    })
}

fn object() -> impl Strategy<Value = Value> {
    let list = prop::collection::vec(element(), 0..5).prop_map(|list| {
        let mut seen = std::collections::BTreeSet::new();
        list.into_iter().filter(|(name, _)| seen.insert(name.clone())).map(|(_, v)| v).collect::<Vec<_>>()
    });
    let set = prop::collection::btree_set("[a-e]", 0..4)
        .prop_flat_map(|set| Just(Vec::from_iter(set)).prop_shuffle());
    let fields = prop::collection::btree_map("[x-z]", 0..9, 0..3);
    (list, set, prop::collection::vec(0..9, 0..3), fields)
        .prop_map(|(list, set, other, m)| json!({"list": list, "set": set, "other": other, "m": m}))
}

proptest! {
    #[test]
    fn a_computed_patch_yields_the_target(from in object(), to in object()) {
        let patch = diff("", &from, &to);
        prop_assert_eq!(apply(from, patch.clone()).unwrap(), to, "{}", patch);
    }

    #[test]
    fn an_empty_patch_changes_nothing(object in object()) {
        prop_assert_eq!(apply(object.clone(), json!({})).unwrap(), object);
    }
}
