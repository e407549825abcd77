//! What changed between two versions of an object, as sets of fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::set::{FieldSet, Node};
use super::types::{ANY, Form, Shape, Struct};

/// Fields that are new or have another value, and fields that are gone.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) changed: FieldSet,
    pub(super) removed: FieldSet,
}

/// Compares two objects of a type.
pub(super) fn objects(form: Form, old: &Value, new: &Value) -> Change {
    let (changed, removed) = values(form, Some(old), Some(new), true);
    Change { changed: changed.below, removed: removed.below }
}

type Nodes = (Node, Node);

/// Compares what stands at one place. `always`: an absent one is as good as an empty one.
fn values(form: Form, old: Option<&Value>, new: Option<&Value>, always: bool) -> Nodes {
    let (old, new) = (old.filter(|v| !v.is_null()), new.filter(|v| !v.is_null()));
    if old == new {
        return Nodes::default();
    }
    let mut nodes = match form.shape() {
        Shape::Leaf => return leaf(old.is_some(), new.is_some()),
        Shape::Any if [old, new].into_iter().flatten().all(Value::is_object) => members(None, ANY, old, new),
        Shape::Any => return leaf(old.is_some(), new.is_some()),
        Shape::Map(form) => members(None, form, old, new),
        Shape::Struct(fields) => members(Some(fields), ANY, old, new),
        Shape::Set => elements(ANY, &by_value(old), &by_value(new)),
        Shape::Keyed(keys, form) => elements(form, &by_keys(&keys, form, old), &by_keys(&keys, form, new)),
    };
    if !always {
        nodes.0.owned |= old.is_none();
        nodes.1.owned |= new.is_none();
    }
    nodes
}

fn leaf(before: bool, after: bool) -> Nodes {
    match (before, after) {
        (true, false) => (Node::default(), Node::leaf()),
        _ => (Node::leaf(), Node::default()),
    }
}

fn members(fields: Option<&Struct>, form: Form, old: Option<&Value>, new: Option<&Value>) -> Nodes {
    let empty = Map::new();
    let old = old.and_then(Value::as_object).unwrap_or(&empty);
    let new = new.and_then(Value::as_object).unwrap_or(&empty);
    let mut nodes = Nodes::default();
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    for key in new.keys().chain(gone) {
        let field = fields.and_then(|fields| fields.get(key.as_str()));
        let (form, always) = field.map_or((form, false), |field| (field.form, field.always));
        let (changed, removed) = values(form, old.get(key), new.get(key), always);
        // Most fields stay as they are, and are not worth a name.
        for (side, node) in [(&mut nodes.0, changed), (&mut nodes.1, removed)] {
            if !node.is_empty() {
                side.below.insert(format!("f:{key}"), node);
            }
        }
    }
    nodes
}

/// The elements of a list, by what tells them apart; several where nothing does.
pub(super) type Elements<'v> = BTreeMap<String, Vec<&'v Value>>;

fn elements(form: Form, old: &Elements<'_>, new: &Elements<'_>) -> Nodes {
    let mut nodes = Nodes::default();
    let gone = old.keys().filter(|element| !new.contains_key(*element));
    for element in new.keys().chain(gone) {
        let (changed, removed) =
            match (old.get(element).map(Vec::as_slice), new.get(element).map(Vec::as_slice)) {
                (Some([old]), Some([new])) => values(form, Some(old), Some(new), false),
                (None, Some([new])) => values(form, None, Some(new), false),
                (Some([old]), None) => values(form, Some(old), None, false),
                (old, new) if old == new => Nodes::default(),
                (old, new) => leaf(old.is_some(), new.is_some()),
            };
        nodes.0.below.insert(element.clone(), changed);
        nodes.1.below.insert(element.clone(), removed);
    }
    nodes
}

pub(super) fn by_value(list: Option<&Value>) -> Elements<'_> {
    let mut out = Elements::new();
    for value in list.and_then(Value::as_array).into_iter().flatten() {
        out.entry(format!("v:{value}")).or_default().push(value);
    }
    out
}

fn by_keys<'v>(keys: &[&'static str], form: Form, list: Option<&'v Value>) -> Elements<'v> {
    let mut out = Elements::new();
    for value in list.and_then(Value::as_array).into_iter().flatten() {
        out.entry(key(keys, form, value).unwrap_or_else(|_| format!("v:{value}"))).or_default().push(value);
    }
    out
}

/// An element's keys as FieldsV1 writes them. A key that is left out has its default, or, when at least one is there, is
/// left out of the keys too. The error is the key that is missing.
pub(super) fn key(keys: &[&'static str], form: Form, item: &Value) -> Result<String, &'static str> {
    let mut out = Map::new();
    for key in keys {
        let default = || match form.shape() {
            Shape::Struct(fields) => fields.get(key).and_then(|field| field.default.clone()),
            _ => None,
        };
        match item.get(*key).filter(|v| !v.is_null()).cloned().or_else(default) {
            Some(value) => drop(out.insert((*key).to_owned(), value)),
            None if keys.len() == 1 => return Err(key),
            None => {}
        }
    }
    if out.is_empty() { Err(keys[0]) } else { Ok(format!("k:{}", Value::Object(out))) }
}
