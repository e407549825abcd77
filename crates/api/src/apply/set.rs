//! Sets of fields, and their form in `managedFields` (FieldsV1): `f:name` a field, `k:{…}` an element of a list by its keys,
//! `v:…` one by its value; `.` the thing itself, where only parts of it stand beside it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of fields. The elements are as FieldsV1 writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    nodes: BTreeMap<String, Node>,
}

/// One element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// In the set itself.
    pub(super) owned: bool,
    pub(super) below: FieldSet,
}

impl Node {
    pub(super) fn leaf() -> Self {
        Self { owned: true, below: FieldSet::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.owned && self.below.is_empty()
    }
}

/// What no one manages: the object's identity, and what only the server writes.
const IDENTITY: &[&str] = &[
    "f:name",
    "f:namespace",
    "f:creationTimestamp",
    "f:selfLink",
    "f:uid",
    "f:generation",
    "f:managedFields",
    "f:resourceVersion",
    "f:deletionTimestamp",
    "f:deletionGracePeriodSeconds",
];

impl FieldSet {
    /// No field at all?
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn insert(&mut self, element: String, node: Node) {
        if !node.is_empty() {
            self.nodes.insert(element, node);
        }
    }

    pub(super) fn get(&self, element: &str) -> Option<&Node> {
        self.nodes.get(element)
    }

    pub(super) fn nodes_mut(&mut self) -> impl Iterator<Item = (&String, &mut Node)> {
        self.nodes.iter_mut()
    }

    pub(super) fn remove(&mut self, element: &str) {
        self.nodes.remove(element);
    }

    pub(super) fn retain(&mut self, elements: &[&str]) {
        self.nodes.retain(|element, _| elements.contains(&element.as_str()));
    }

    pub(super) fn strip_identity(&mut self) {
        self.remove("f:apiVersion");
        self.remove("f:kind");
        if let Some(metadata) = self.nodes.get_mut("f:metadata") {
            metadata.owned = false;
            metadata.below.nodes.retain(|element, _| !IDENTITY.contains(&element.as_str()));
            if metadata.is_empty() {
                self.remove("f:metadata");
            }
        }
    }

    /// The fields of both.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (element, theirs) in &other.nodes {
            let mine = self.nodes.entry(element.clone()).or_default();
            mine.owned |= theirs.owned;
            mine.below = std::mem::take(&mut mine.below).union(&theirs.below);
        }
        self
    }

    /// The fields that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (element, mine) in &self.nodes {
            if let Some(theirs) = other.nodes.get(element) {
                let below = mine.below.intersection(&theirs.below);
                out.insert(element.clone(), Node { owned: mine.owned && theirs.owned, below });
            }
        }
        out
    }

    /// The fields that are not in the other one.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (element, mine) in &self.nodes {
            let node = match other.nodes.get(element) {
                None => mine.clone(),
                Some(theirs) => {
                    Node { owned: mine.owned && !theirs.owned, below: mine.below.difference(&theirs.below) }
                }
            };
            out.insert(element.clone(), node);
        }
        out
    }

    /// Every field as upstream's messages write it, in order.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths("", &mut out);
        out
    }

    fn collect_paths(&self, prefix: &str, out: &mut Vec<String>) {
        for (element, node) in &self.nodes {
            let path = format!("{prefix}{}", shown(element));
            if node.owned {
                out.push(path.clone());
            }
            node.below.collect_paths(&path, out);
        }
    }

    /// As FieldsV1.
    pub fn to_value(&self) -> Value {
        let node = |node: &Node| {
            let Value::Object(mut map) = node.below.to_value() else { return Value::Null };
            if node.owned && !map.is_empty() {
                map.insert(".".to_owned(), Value::Object(Map::new()));
            }
            Value::Object(map)
        };
        Value::Object(self.nodes.iter().map(|(element, below)| (element.clone(), node(below))).collect())
    }

    /// From FieldsV1; what is not of that form is not in the set.
    pub fn from_value(value: &Value) -> Self {
        let mut out = Self::default();
        for (element, inner) in value.as_object().into_iter().flatten().filter(|(e, _)| *e != ".") {
            let below = Self::from_value(inner);
            let owned = below.is_empty() || inner.get(".").is_some();
            if let Some(element) = canonical(element) {
                out.insert(element, Node { owned, below });
            }
        }
        out
    }
}

/// An element as we write it: keys in order, no blanks.
fn canonical(element: &str) -> Option<String> {
    let (kind, rest) = element.split_at_checked(2)?;
    match kind {
        "f:" => Some(element.to_owned()),
        "k:" | "v:" | "i:" => Some(format!("{kind}{}", serde_json::from_str::<Value>(rest).ok()?)),
        _ => None,
    }
}

fn shown(element: &str) -> String {
    let (kind, rest) = element.split_at_checked(2).unwrap_or((element, ""));
    match kind {
        "f:" => format!(".{rest}"),
        "v:" => format!("[={rest}]"),
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        _ => format!("[{rest}]"),
    }
}
