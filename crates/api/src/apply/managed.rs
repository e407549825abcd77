//! `metadata.managedFields`: who manages which fields.

use serde_json::{Map, Value, json};

use super::set::FieldSet;

/// How a writer came to its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By applying a configuration that names them.
    Apply,
    /// By changing them.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The name: `kubectl-edit`.
    pub manager: String,
    /// How.
    pub operation: Operation,
    /// In which version of the kind.
    pub api_version: String,
    /// Through which subresource, or empty.
    pub subresource: String,
    /// When, as in JSON.
    pub time: String,
}

impl Writer {
    fn is_same_as(&self, other: &Self) -> bool {
        let version = self.operation == Operation::Apply || self.api_version == other.api_version;
        version
            && self.operation == other.operation
            && self.manager == other.manager
            && self.subresource == other.subresource
    }

    /// As upstream's messages name a manager.
    fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            text += &format!(" using {}", self.api_version);
        }
        text
    }
}

/// The managers of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managers(Vec<(Writer, FieldSet)>);

/// How many managers by update are kept apart.
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

impl Managers {
    /// The managers that an update leaves for the rules to work on: those that it sent, or, from a client that knows
    /// nothing of them, those that there were. A list with one empty entry means none.
    pub fn sent(sent: Option<&Value>, stored: Option<&Value>) -> Self {
        let list = sent.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if let [only] = list
            && only.as_object().is_some_and(Map::is_empty)
        {
            return Self::default();
        }
        sent.and_then(Self::from_value)
            .filter(|m| !m.0.is_empty())
            .or_else(|| stored.and_then(Self::from_value))
            .unwrap_or_default()
    }

    /// From an object's `managedFields`; nothing when an entry is not of a known form.
    pub fn from_value(value: &Value) -> Option<Self> {
        let entry = |entry: &Value| {
            let text = |field: &str| entry[field].as_str().unwrap_or("").to_owned();
            let operation = match entry["operation"].as_str() {
                Some("Apply") => Operation::Apply,
                Some("Update") => Operation::Update,
                _ => return None,
            };
            let known = entry["fieldsType"].as_str() == Some("FieldsV1");
            let writer = Writer {
                manager: text("manager"),
                operation,
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: text("time"),
            };
            known.then(|| (writer, FieldSet::from_value(&entry["fieldsV1"])))
        };
        value.as_array()?.iter().map(entry).collect::<Option<Vec<_>>>().map(Self)
    }

    /// As `managedFields`; nothing when nobody manages anything.
    pub fn to_value(&self) -> Option<Value> {
        let mut entries: Vec<&(Writer, FieldSet)> =
            self.0.iter().filter(|(_, set)| !set.is_empty()).collect();
        entries.sort_by(|(a, _), (b, _)| {
            let order = |w: &Writer| (w.operation, w.time.clone(), w.manager.clone(), w.api_version.clone());
            (order(a), &a.subresource).cmp(&(order(b), &b.subresource))
        });
        let entry = |(writer, set): &&(Writer, FieldSet)| {
            let mut entry = json!({
                "manager": writer.manager,
                "operation": writer.operation.name(),
                "apiVersion": writer.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": set.to_value(),
            });
            for (field, text) in [("subresource", &writer.subresource), ("time", &writer.time)] {
                if !text.is_empty() {
                    entry[field] = text.as_str().into();
                }
            }
            entry
        };
        (!entries.is_empty()).then(|| entries.iter().map(entry).collect())
    }

    /// Is it the same but for the times?
    pub fn is_same_but_for_times(&self, other: &Self) -> bool {
        let timeless = |managers: &Self| {
            let mut managers = managers.clone();
            managers.0.iter_mut().for_each(|(writer, _)| writer.time.clear());
            managers.to_value()
        };
        timeless(self) == timeless(other)
    }

    /// What an applier named the last time.
    pub(super) fn applied(&self, writer: &Writer) -> Option<FieldSet> {
        self.0.iter().find(|(known, _)| known.is_same_as(writer)).map(|(_, set)| set.clone())
    }

    pub(super) fn set_applied(&mut self, writer: &Writer, set: FieldSet) {
        self.0.retain(|(known, _)| !known.is_same_as(writer));
        self.0.push((writer.clone(), set));
    }

    /// Adds what a writer changed to what it managed before.
    pub(super) fn add(&mut self, writer: &Writer, set: FieldSet) {
        if set.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| known.is_same_as(writer)) {
            Some((known, mine)) => {
                known.time.clone_from(&writer.time);
                *mine = std::mem::take(mine).union(&set);
            }
            None => self.0.push((writer.clone(), set)),
        }
    }

    /// Everybody's fields, and these.
    pub(super) fn union(&self, set: FieldSet) -> FieldSet {
        self.0.iter().fold(set, |all, (_, theirs)| all.union(theirs))
    }

    /// Takes changed and removed fields from everybody but one. The answer is who loses changed fields, and which.
    pub(super) fn take(
        &mut self,
        changed: &FieldSet,
        removed: &FieldSet,
        but: Option<&Writer>,
    ) -> Vec<(String, String)> {
        let mut conflicts = Vec::new();
        for (writer, set) in self.0.iter_mut().filter(|(w, _)| but.is_none_or(|but| !w.is_same_as(but))) {
            let lost = set.intersection(changed);
            let name = writer.shown();
            conflicts.extend(lost.paths().into_iter().map(|path| (name.clone(), path)));
            *set = set.difference(&lost).difference(removed);
        }
        conflicts
    }

    /// Folds the oldest managers by update into one, so that the list stays short.
    pub(super) fn cap(&mut self) {
        self.0.retain(|(_, set)| !set.is_empty());
        loop {
            let updaters = self.0.iter().filter(|(w, _)| w.operation == Operation::Update).count();
            let oldest = self.0.iter().enumerate();
            let oldest =
                oldest.filter(|(_, (w, _))| w.operation == Operation::Update && w.manager != ANCIENT);
            let oldest = oldest.min_by(|(_, (a, _)), (_, (b, _))| a.time.cmp(&b.time)).map(|(at, _)| at);
            let Some(oldest) = oldest.filter(|_| updaters > UPDATERS_MAX) else { return };
            let (writer, set) = self.0.remove(oldest);
            self.add(&Writer { manager: ANCIENT.to_owned(), subresource: String::new(), ..writer }, set);
        }
    }
}
