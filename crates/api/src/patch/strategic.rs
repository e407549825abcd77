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
            let before = current.and_then(|current| current.get(list)).and_then(Value::as_array);
            let lists = Lists { before: before.map_or(&[], Vec::as_slice), listed };
            set_order(merge, &join(path, list), result.get_mut(list), order, &lists)?;
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

/// Where a merged list comes from.
struct Lists<'a> {
    /// The list before the patch.
    before: &'a [Value],
    /// The list in the patch.
    listed: Option<&'a Vec<Value>>,
}

/// Puts a merged list in the order that the client sees it in. Of an element that the client knows and one that it does
/// not know, the one that was first before stays first; an element that is new comes before those that the client does
/// not know.
fn set_order(
    merge: &Merge<'_>,
    path: &str,
    list: Option<&mut Value>,
    order: &Value,
    Lists { before, listed }: &Lists<'_>,
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
    for element in listed.iter().copied().flatten().filter(|e| e.get(PATCH).is_none()) {
        if !order.iter().any(|o| same(o, element)) {
            return malformed(format!(
                "The order in patch list:\n{order:?}\n doesn't match {SET_ORDER} list:\n{listed:?}"
            ));
        }
    }
    let place = |element: &Value| before.iter().position(|b| same(b, element));
    let (mut known, mut unknown): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for element in std::mem::take(list) {
        match order.iter().position(|o| same(o, &element)) {
            Some(position) => known.push((position, place(&element), element)),
            None => unknown.push((place(&element), element)),
        }
    }
    known.sort_by_key(|(position, ..)| *position);
    *list = interleave(known, unknown);
    Ok(())
}

/// Each unknown element stands before the first known one that it stood before already.
fn interleave(known: Vec<(usize, Option<usize>, Value)>, unknown: Vec<(Option<usize>, Value)>) -> Vec<Value> {
    let mut result = Vec::with_capacity(known.len() + unknown.len());
    let mut unknown = unknown.into_iter().peekable();
    for (_, at, element) in known {
        let came_first = |place: Option<usize>| place.zip(at).is_some_and(|(place, at)| place < at);
        while let Some((_, stranger)) = unknown.next_if(|(place, _)| came_first(*place)) {
            result.push(stranger);
        }
        result.push(element);
    }
    result.extend(unknown.map(|(_, element)| element));
    result
}

#[cfg(test)]
mod tests;
