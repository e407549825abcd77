//! Kinds that are another kind under other names: the same objects, stored once, served in two groups. Everything is the
//! stored kind's but the names of some fields, and the rules that the other group has on top.
//!
//! `managedFields` is not translated: each entry has the names of the version that its writer used, and says which.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::addresses::Cluster;
use crate::field::FieldError;
use crate::kind::{Claim, Column, Decoded, Grant, Kind, KindInfo, Subresource};

/// A kind under other names.
pub struct Renamed {
    pub(crate) info: &'static KindInfo,
    /// As which its objects are stored.
    pub(crate) stored: &'static dyn Kind,
    /// Top-level fields that have another name: the one here, the one there.
    pub(crate) fields: &'static [(&'static str, &'static str)],
    pub(crate) selectable: &'static [&'static str],
    /// Everything wrong with a new object, or the change to it; both as they are stored.
    pub(crate) validate: fn(&Value, Option<&Value>) -> Vec<FieldError>,
}

impl Renamed {
    /// The kind that is stored.
    pub fn stored(&self) -> &'static dyn Kind {
        self.stored
    }

    /// An object as it is stored.
    pub fn to_stored(&self, object: &Value) -> Value {
        translated(object.clone(), self.stored.info(), self.fields.iter().copied())
    }

    /// A stored object as it is served here.
    pub fn from_stored(&self, object: Value) -> Value {
        translated(object, self.info, self.fields.iter().map(|(here, there)| (*there, *here)))
    }

    /// A path (`regarding.name`) as the stored kind has it.
    pub fn stored_path(&self, path: &str) -> String {
        with_first(path, self.fields.iter().copied())
    }

    fn path(&self, stored: &str) -> String {
        with_first(stored, self.fields.iter().map(|(here, there)| (*there, *here)))
    }

    /// Does to the object what `change` does to the stored one.
    fn through<R>(&self, object: &mut Value, change: impl FnOnce(&mut Value) -> R) -> R {
        let mut stored = self.to_stored(object);
        let result = change(&mut stored);
        *object = self.from_stored(stored);
        result
    }
}

fn translated<'a>(
    mut object: Value,
    info: &KindInfo,
    fields: impl Iterator<Item = (&'a str, &'a str)>,
) -> Value {
    let Some(map) = object.as_object_mut() else { return object };
    for (from, to) in fields {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
    map.insert("apiVersion".to_owned(), json!(info.api_version()));
    map.insert("kind".to_owned(), json!(info.kind));
    object
}

/// The path with its first segment renamed.
fn with_first<'a>(path: &str, mut fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (first, rest) = path.split_at(end);
    let name = fields.find(|(from, _)| *from == first).map_or(first, |(_, to)| to);
    format!("{name}{rest}")
}

impl Kind for Renamed {
    fn info(&self) -> &'static KindInfo {
        self.info
    }

    fn decode(&self, mut raw: Value) -> Result<Decoded, String> {
        let mut unknown = Vec::new();
        if let Some(map) = raw.as_object_mut() {
            // The other group's names mean nothing in this one.
            let foreign = self.fields.iter().filter(|(_, there)| map.remove(*there).is_some());
            unknown.extend(foreign.map(|(_, there)| (*there).to_owned()));
        }
        let decoded = self.stored.decode(self.to_stored(&raw))?;
        unknown.extend(decoded.unknown.iter().map(|path| self.path(path)));
        Ok(Decoded { object: self.from_stored(decoded.object), unknown })
    }

    fn set_defaults(&self, object: &mut Value) {
        self.through(object, |stored| self.stored.set_defaults(stored));
    }

    fn prepare_create(&self, object: &mut Value, cluster: &Cluster) -> Vec<FieldError> {
        self.through(object, |stored| self.stored.prepare_create(stored, cluster))
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, cluster: &Cluster) -> Vec<FieldError> {
        let old = self.to_stored(old);
        self.through(new, |stored| self.stored.prepare_update(stored, &old, cluster))
    }

    fn prepare_part(&self, part: Subresource, new: &mut Value, old: &Value, now: Timestamp) {
        let old = self.to_stored(old);
        self.through(new, |stored| self.stored.prepare_part(part, stored, &old, now));
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        (self.validate)(&self.to_stored(new), old.map(|old| self.to_stored(old)).as_ref())
    }

    fn validate_part(&self, part: Subresource, new: &Value, old: &Value) -> Vec<FieldError> {
        self.stored.validate_part(part, &self.to_stored(new), &self.to_stored(old))
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        self.stored.warnings(&self.to_stored(new), old.map(|old| self.to_stored(old)).as_ref())
    }

    fn renamed(&self) -> Option<&Renamed> {
        Some(self)
    }

    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let stored = self.stored.selectable_fields(&self.to_stored(object));
        let value = |name: &str| {
            let path = self.stored_path(name);
            stored.iter().find(|(known, _)| *known == path).map(|(_, value)| value.clone())
        };
        self.selectable.iter().map(|name| (*name, value(name).unwrap_or_default())).collect()
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        self.selectable
    }

    fn columns(&self) -> &'static [Column] {
        self.stored.columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.stored.cells(&self.to_stored(object), now)
    }

    fn claims(&self, object: &Value) -> Vec<Claim> {
        self.stored.claims(&self.to_stored(object))
    }

    fn grant(&self, object: &mut Value, grants: &[Grant]) {
        self.through(object, |stored| self.stored.grant(stored, grants));
    }

    fn deletion_grace_seconds(&self, object: &Value) -> Option<i64> {
        self.stored.deletion_grace_seconds(&self.to_stored(object))
    }

    fn merge_keys(&self, path: &str) -> Option<&'static [&'static str]> {
        self.stored.merge_keys(&self.stored_path(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;

    fn kind() -> &'static dyn Kind {
        registry().by_kind("events.k8s.io/v1", "Event").unwrap()
    }

    #[test]
    fn names_change_and_nothing_else_does() {
        let here = json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "e" },
            "regarding": { "name": "p" }, "note": "n", "deprecatedCount": 2, "reason": "r",
            "reportingController": "c", "series": { "count": 3 } });
        let there = json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e" },
            "involvedObject": { "name": "p" }, "message": "n", "count": 2, "reason": "r",
            "reportingComponent": "c", "series": { "count": 3 } });
        let renamed = kind().renamed().unwrap();
        assert_eq!(renamed.to_stored(&here), there);
        assert_eq!(renamed.from_stored(there), here);
    }

    #[test]
    fn the_names_of_the_other_group_are_unknown_in_this_one() {
        let raw =
            json!({ "regarding": { "name": "p", "odd": 1 }, "message": "m", "note": "n", "more": true });
        let decoded = kind().decode(raw).unwrap();
        assert_eq!(decoded.unknown, ["message", "regarding.odd", "more"]);
        assert_eq!(
            decoded.object,
            json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {}, "note": "n",
                "regarding": { "name": "p" } })
        );
    }

    #[test]
    fn every_renamed_field_and_selector_is_one_of_the_stored_kind() {
        let renamed = kind().renamed().unwrap();
        let known = renamed.stored().selectable_field_names();
        for name in kind().selectable_field_names() {
            assert!(known.contains(&renamed.stored_path(name).as_str()), "{name}");
        }
        assert_eq!(renamed.stored_path("regarding.name"), "involvedObject.name");
        assert_eq!(renamed.stored_path("regarding"), "involvedObject");
        assert_eq!(renamed.stored_path("reason"), "reason");
    }
}
