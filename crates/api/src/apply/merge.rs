//! An applied configuration: does it fit the type, which fields does it name, what does it make of the live object, and
//! what goes because it names it no longer.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::compare::{by_value, key};
use super::set::{FieldSet, Node};
use super::types::{ANY, Form, Shape};

/// Holds a configuration against its type. The error is upstream's text.
pub(super) fn check(form: Form, config: &Value) -> Result<(), String> {
    let mut faults = Vec::new();
    check_value(form, config, "", &mut faults);
    match faults.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => {
            Err(format!("errors:\n{}", many.iter().map(|f| format!("  {f}")).collect::<Vec<_>>().join("\n")))
        }
    }
}

fn check_value(form: Form, value: &Value, path: &str, faults: &mut Vec<String>) {
    match (form.shape(), value) {
        (Shape::Struct(fields), Value::Object(map)) => {
            for (name, value) in map {
                let path = format!("{path}.{name}");
                match fields.get(name.as_str()) {
                    Some(field) => check_value(field.form, value, &path, faults),
                    None => faults.push(format!("{path}: field not declared in schema")),
                }
            }
        }
        (Shape::Map(form), Value::Object(map)) => {
            for (name, value) in map {
                check_value(form, value, &format!("{path}.{name}"), faults);
            }
        }
        (Shape::Keyed(keys, form), Value::Array(list)) => check_list(&keys, form, list, path, faults),
        (Shape::Set, Value::Array(list)) => {
            let mut seen = BTreeSet::new();
            for item in list.iter().filter(|item| !seen.insert(item.to_string())) {
                faults.push(format!("{path}: duplicate entries for key [={item}]"));
            }
        }
        (Shape::Struct(_) | Shape::Map(_), Value::Null) | (Shape::Keyed(..) | Shape::Set, Value::Null) => {}
        (Shape::Struct(_) | Shape::Map(_), other) => {
            faults.push(format!("{path}: expected map, got {}", go(other)))
        }
        (Shape::Keyed(..) | Shape::Set, other) => {
            faults.push(format!("{path}: expected list, got {}", go(other)))
        }
        (Shape::Leaf | Shape::Any, _) => {}
    }
}

fn check_list(keys: &[&'static str], form: Form, list: &[Value], path: &str, faults: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        match key(keys, form, item) {
            Err(missing) => faults.push(format!(
                "{path}: element {index}: associative list with keys has an element that omits key field {missing:?} \
                 (and doesn't have default value)"
            )),
            Ok(element) => {
                let mut named = FieldSet::default();
                named.insert(element.clone(), Node::leaf());
                let shown = named.paths().concat();
                if !seen.insert(element) {
                    faults.push(format!("{path}: duplicate entries for key {shown}"));
                }
                check_value(form, item, &format!("{path}{shown}"), faults);
            }
        }
    }
}

/// A value of the wrong form, as upstream shows it.
fn go(value: &Value) -> String {
    format!("&{{{}}}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// The fields that a configuration names.
pub(super) fn fields(form: Form, config: &Value) -> FieldSet {
    node(form, config).below
}

fn node(form: Form, value: &Value) -> Node {
    let mut out = Node::default();
    match (form.shape(), value) {
        (Shape::Struct(known), Value::Object(map)) => {
            for (name, value) in map {
                let mut below = node(known.get(name.as_str()).map_or(ANY, |field| field.form), value);
                below.owned |= value.is_null() || value.as_object().is_some_and(Map::is_empty);
                out.below.insert(format!("f:{name}"), below);
            }
        }
        (Shape::Map(form), Value::Object(map)) => members(form, map, &mut out),
        (Shape::Any, Value::Object(map)) => members(ANY, map, &mut out),
        (Shape::Set, list @ Value::Array(_)) => {
            for element in by_value(Some(list)).into_keys() {
                out.below.insert(element, Node::leaf());
            }
        }
        (Shape::Keyed(keys, form), Value::Array(list)) => {
            for item in list {
                if let Ok(element) = key(&keys, form, item) {
                    out.below.insert(element, Node { owned: true, below: fields(form, item) });
                }
            }
        }
        _ => out.owned = true,
    }
    out
}

fn members(form: Form, map: &Map<String, Value>, out: &mut Node) {
    for (name, value) in map {
        out.below.insert(format!("f:{name}"), Node { owned: true, below: fields(form, value) });
    }
}

/// The live object with the configuration's fields in it.
pub(super) fn merge(form: Form, live: &Value, config: &Value) -> Value {
    match (form.shape(), live, config) {
        (Shape::Struct(known), Value::Object(live), Value::Object(config)) => {
            merge_members(live, config, |name| known.get(name).map_or(ANY, |field| field.form))
        }
        (Shape::Map(form), Value::Object(live), Value::Object(config)) => {
            merge_members(live, config, |_| form)
        }
        (Shape::Any, Value::Object(live), Value::Object(config)) => merge_members(live, config, |_| ANY),
        (Shape::Set, Value::Array(live), Value::Array(config)) => {
            merge_lists(live, config, ANY, |item| format!("v:{item}"))
        }
        (Shape::Keyed(keys, form), Value::Array(live), Value::Array(config)) => {
            merge_lists(live, config, form, |item| key(&keys, form, item).unwrap_or_default())
        }
        _ => config.clone(),
    }
}

fn merge_members(
    live: &Map<String, Value>,
    config: &Map<String, Value>,
    form: impl Fn(&str) -> Form,
) -> Value {
    let mut out = live.clone();
    for (name, value) in config {
        let merged = live.get(name).map_or_else(|| value.clone(), |live| merge(form(name), live, value));
        out.insert(name.clone(), merged);
    }
    Value::Object(out)
}

/// The configuration's order holds; what only the live list has keeps its place before what follows it there.
fn merge_lists(live: &[Value], config: &[Value], form: Form, id: impl Fn(&Value) -> String) -> Value {
    let wanted: BTreeSet<String> = config.iter().map(&id).collect();
    let mine: Vec<(String, &Value)> = live.iter().map(|item| (id(item), item)).collect();
    let mut out = Vec::new();
    let mut next = 0;
    for item in config {
        let element = id(item);
        let place = mine.iter().position(|(live, _)| *live == element);
        let until = match place {
            Some(place) => place.max(next),
            None => next + mine[next..].iter().take_while(|(live, _)| !wanted.contains(live)).count(),
        };
        out.extend(
            mine[next..until].iter().filter(|(live, _)| !wanted.contains(live)).map(|(_, v)| (*v).clone()),
        );
        next = until;
        match place {
            Some(place) => {
                out.push(merge(form, mine[place].1, item));
                next = next.max(place + 1);
            }
            None => out.push(item.clone()),
        }
    }
    out.extend(mine[next..].iter().filter(|(live, _)| !wanted.contains(live)).map(|(_, v)| (*v).clone()));
    Value::Array(out)
}

/// Takes out what the applier named the last time and nobody names now.
pub(super) fn prune(form: Form, merged: &Value, before: Option<&FieldSet>, managed: &FieldSet) -> Value {
    let Some(before) = before else { return merged.clone() };
    let (mut last, mut kept) = (before.clone(), managed.clone());
    own_named(form, &mut last);
    own_named(form, &mut kept);
    remove(form, merged, &last.difference(&kept)).unwrap_or_else(|| Value::Object(Map::new()))
}

/// A field of a struct is in the set when something below it is.
fn own_named(form: Form, set: &mut FieldSet) {
    let in_struct = matches!(form.shape(), Shape::Struct(_));
    for (element, node) in set.nodes_mut() {
        node.owned |= in_struct && element.starts_with("f:") && !node.below.is_empty();
        own_named(form.below(element), &mut node.below);
    }
}

/// A value without these fields; nothing when nothing is left of it.
fn remove(form: Form, value: &Value, set: &FieldSet) -> Option<Value> {
    if set.is_empty() {
        return Some(value.clone());
    }
    let without = |form: Form, element: &str, value: &Value| match set.get(element) {
        Some(node) if node.owned => None,
        Some(node) => remove(form, value, &node.below),
        None => Some(value.clone()),
    };
    match (form.shape(), value) {
        (Shape::Struct(_) | Shape::Map(_) | Shape::Any, Value::Object(map)) => {
            let left = map.iter().filter_map(|(name, value)| {
                let element = format!("f:{name}");
                Some((name.clone(), without(form.below(&element), &element, value)?))
            });
            let left: Map<String, Value> = left.collect();
            (!left.is_empty()).then_some(Value::Object(left))
        }
        (Shape::Set, Value::Array(list)) => {
            let left = list.iter().filter_map(|item| without(ANY, &format!("v:{item}"), item)).collect();
            some_list(left)
        }
        (Shape::Keyed(keys, form), Value::Array(list)) => {
            let left = list.iter().filter_map(|item| match key(&keys, form, item) {
                Ok(element) => without(form, &element, item),
                Err(_) => Some(item.clone()),
            });
            some_list(left.collect())
        }
        _ => Some(value.clone()),
    }
}

fn some_list(list: Vec<Value>) -> Option<Value> {
    (!list.is_empty()).then_some(Value::Array(list))
}
