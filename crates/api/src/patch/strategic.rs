//! Strategic merge patch: a merge patch that merges some lists by element, with directives for what a merge cannot say.
//!
//! Directives: `$patch` (`merge`, `replace`, `delete`) in an object or as an element of a merged list, `$retainKeys`,
//! `$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD`. They never reach the object.

use serde_json::{Map, Value};

use super::{PatchError, require_object};
use crate::kind::Kind;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch.
///
/// # Errors
/// When the patch is no object, a directive is malformed, or an element of a merged list lacks its key.
pub fn strategic(kind: &dyn Kind, current: &Value, patch: &Value) -> Result<Value, PatchError> {
    require_object(patch)?;
    let keys = |path: &str| kind.merge_keys(path);
    merge_value(&Merge { keys: &keys }, "", Some(current), patch)
        .map(|value| value.unwrap_or_else(|| Value::Object(Map::new())))
}

/// Looks up the merge keys of the list at a path.
type KeysOf<'a> = &'a dyn Fn(&str) -> Option<&'static [&'static str]>;

struct Merge<'a> {
    keys: KeysOf<'a>,
}

fn malformed<T>(message: String) -> Result<T, PatchError> {
    Err(PatchError::Malformed(message))
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// The value after the patch, `None` when the patch removes it.
fn merge_value(
    merge: &Merge<'_>,
    path: &str,
    current: Option<&Value>,
    patch: &Value,
) -> Result<Option<Value>, PatchError> {
    match patch {
        Value::Null => Ok(None),
        Value::Object(patch) => {
            let current = current.and_then(Value::as_object);
            Ok(merge_map(merge, path, current, patch)?.map(Value::Object))
        }
        Value::Array(patch) => {
            let current = current.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            merge_list(merge, path, current, patch).map(|list| Some(Value::Array(list)))
        }
        scalar => Ok(Some(scalar.clone())),
    }
}

fn merge_map(
    merge: &Merge<'_>,
    path: &str,
    current: Option<&Map<String, Value>>,
    patch: &Map<String, Value>,
) -> Result<Option<Map<String, Value>>, PatchError> {
    let empty = Map::new();
    let mut result = match directive(patch)? {
        Directive::Delete => return Ok(None),
        Directive::Replace => Map::new(),
        Directive::Merge => current.unwrap_or(&empty).clone(),
    };
    retain_keys(&mut result, patch)?;
    for (field, value) in patch {
        if let Some(list) = field.strip_prefix(DELETE_FROM) {
            delete_primitives(&mut result, list, value)?;
        }
    }
    for (field, value) in patch.iter().filter(|(field, _)| !field.starts_with('$')) {
        match merge_value(merge, &join(path, field), result.get(field), value)? {
            Some(value) => result.insert(field.clone(), value),
            None => result.remove(field),
        };
    }
    for (field, order) in patch {
        if let Some(list) = field.strip_prefix(SET_ORDER) {
            let listed = patch.get(list).and_then(Value::as_array);
            set_order(merge, &join(path, list), result.get_mut(list), order, listed)?;
        }
    }
    Ok(Some(result))
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Map<String, Value>) -> Result<Directive, PatchError> {
    match patch.get(PATCH) {
        None => Ok(Directive::Merge),
        Some(Value::String(text)) if text == "merge" => Ok(Directive::Merge),
        Some(Value::String(text)) if text == "replace" => Ok(Directive::Replace),
        Some(Value::String(text)) if text == "delete" => Ok(Directive::Delete),
        Some(other) => malformed(format!("unknown patch type found: {}", bare(other))),
    }
}

/// A string without its quotes.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn retain_keys(result: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    let Some(keys) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let Some(keys) = keys.as_array() else {
        return malformed("invalid patch format of retainKeys".to_owned());
    };
    for field in patch.keys().filter(|f| !f.starts_with('$')) {
        if !keys.iter().any(|k| k == field) && !patch[field].is_null() {
            return malformed(format!("field {field:?} is not in the retainKeys list"));
        }
    }
    result.retain(|field, _| keys.iter().any(|k| k == field));
    Ok(())
}

fn delete_primitives(result: &mut Map<String, Value>, list: &str, gone: &Value) -> Result<(), PatchError> {
    let Some(gone) = gone.as_array() else {
        return malformed(format!("invalid patch format of {DELETE_FROM}{list}"));
    };
    if let Some(Value::Array(values)) = result.get_mut(list) {
        values.retain(|v| !gone.contains(v));
    }
    Ok(())
}

fn merge_list(
    merge: &Merge<'_>,
    path: &str,
    current: &[Value],
    patch: &[Value],
) -> Result<Vec<Value>, PatchError> {
    let replaces = patch.iter().any(|v| v.get(PATCH).is_some_and(|d| d == "replace") && v.is_object());
    let keys = (merge.keys)(path);
    match keys {
        _ if replaces => Ok(patch.iter().filter(|v| v.get(PATCH).is_none()).cloned().collect()),
        None => Ok(patch.to_vec()),
        Some([]) => {
            let mut merged = current.to_vec();
            for value in patch.iter().filter(|v| !v.is_null()) {
                if !merged.contains(value) {
                    merged.push(value.clone());
                }
            }
            Ok(merged)
        }
        Some(keys) => merge_elements(merge, path, keys, current, patch),
    }
}

fn merge_elements(
    merge: &Merge<'_>,
    path: &str,
    keys: &[&str],
    current: &[Value],
    patch: &[Value],
) -> Result<Vec<Value>, PatchError> {
    let mut merged = current.to_vec();
    for element in patch {
        let Some(fields) = element.as_object() else {
            return malformed(format!(
                "{path}: expected an object with merge key {:?}, got {element}",
                keys[0]
            ));
        };
        let deletes = matches!(directive(fields)?, Directive::Delete);
        let Some(key) = fields.get(keys[0]) else {
            return malformed(format!("map: {element} does not contain declared merge key: {}", keys[0]));
        };
        let rivals = patch.iter().filter(|p| p.get(keys[0]) == Some(key)).count();
        let at = find(&merged, element, keys, rivals > 1);
        match (at, deletes) {
            (Some(at), true) => drop(merged.remove(at)),
            (None, true) => {}
            (Some(at), false) => {
                let value = merge_value(merge, path, Some(&merged[at]), element)?;
                merged[at] = value.unwrap_or(Value::Null);
            }
            (None, false) => merged.extend(merge_value(merge, path, None, element)?),
        }
    }
    Ok(merged)
}

/// The element that a patch's element means. The first key decides; the others only where it is not unique, on either
/// side, and then an element that differs in them is another one.
fn find(list: &[Value], element: &Value, keys: &[&str], has_rivals: bool) -> Option<usize> {
    let same = |candidate: &Value, key: &str| candidate.get(key) == element.get(key);
    let candidates: Vec<usize> = (0..list.len()).filter(|&i| same(&list[i], keys[0])).collect();
    let exact = candidates.iter().copied().find(|&i| keys.iter().all(|key| same(&list[i], key)));
    let unspecific = keys[1..].iter().all(|key| element.get(key).is_none());
    match candidates.len() {
        1 if !has_rivals => Some(candidates[0]),
        _ if unspecific => exact.or_else(|| candidates.first().copied()),
        _ => exact,
    }
}

/// Puts a merged list in the order that the client sees it in. Elements that the client does not know keep their place
/// relative to the known ones before them.
fn set_order(
    merge: &Merge<'_>,
    path: &str,
    list: Option<&mut Value>,
    order: &Value,
    listed: Option<&Vec<Value>>,
) -> Result<(), PatchError> {
    let Some(order) = order.as_array() else {
        return malformed(format!("invalid patch format of {SET_ORDER}{path}"));
    };
    let Some(Value::Array(list)) = list else { return Ok(()) };
    let Some(keys) = (merge.keys)(path) else { return Ok(()) };
    let same = |a: &Value, b: &Value| match keys {
        [] => a == b,
        [first, rest @ ..] => {
            a.get(first) == b.get(first)
                && rest.iter().all(|key| match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => a == b,
                    _ => true,
                })
        }
    };
    for element in listed.into_iter().flatten().filter(|e| e.get(PATCH).is_none()) {
        if !order.iter().any(|o| same(o, element)) {
            return malformed(format!(
                "The order in patch list:\n{order:?}\n doesn't match {SET_ORDER} list:\n{listed:?}"
            ));
        }
    }
    let (mut known, mut unknown): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for (at, element) in std::mem::take(list).into_iter().enumerate() {
        match order.iter().position(|o| same(o, &element)) {
            Some(position) => known.push((position, at, element)),
            None => unknown.push((at, element)),
        }
    }
    known.sort_by_key(|(position, at, _)| (*position, *at));
    *list = interleave(known, unknown);
    Ok(())
}

/// Unknown elements stand before the first known one that came after them.
fn interleave(known: Vec<(usize, usize, Value)>, unknown: Vec<(usize, Value)>) -> Vec<Value> {
    let mut result = Vec::with_capacity(known.len() + unknown.len());
    let mut unknown = unknown.into_iter().peekable();
    for (_, at, element) in known {
        while let Some((_, stranger)) = unknown.next_if(|(place, _)| *place < at) {
            result.push(stranger);
        }
        result.push(element);
    }
    result.extend(unknown.map(|(_, element)| element));
    result
}

#[cfg(test)]
mod tests {
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
            (
                "delete a map",
                json!({"m": {"a": 1}, "n": 1}),
                json!({"m": {"$patch": "delete"}}),
                json!({"n": 1}),
            ),
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
}
