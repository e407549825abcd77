//! Server-side apply, without I/O: who manages which fields of an object (`metadata.managedFields`), what a write takes
//! from others, and what an applied configuration makes of an object. The rules are those of upstream's
//! structured-merge-diff: how lists and maps merge is read from upstream's own schemas.
//!
//! Refuses: to look at the clock or at a request; the API server says who writes, how, and when.

mod compare;
mod managed;
mod merge;
mod set;
mod types;

pub use managed::{Managers, Operation, Writer};
pub use set::FieldSet;

use serde_json::Value;

use crate::kind::KindInfo;

/// What a write is about: the kind, and the part of its objects that the write can touch.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The kind.
    pub info: &'a KindInfo,
    /// `status`, `approval`, or empty for the object itself.
    pub subresource: &'a str,
    /// The kind's objects have a status that only `/status` writes.
    pub has_status: bool,
}

impl Scope<'_> {
    fn form(self) -> Option<types::Form> {
        types::of(&self.info.api_version(), self.info.kind)
    }

    /// Takes out of a set what this write cannot touch, and what no one manages.
    fn within(self, mut set: FieldSet) -> FieldSet {
        set.strip_identity();
        match self.subresource {
            "" if self.has_status => set.remove("f:status"),
            "status" | "approval" => set.retain(&["f:status", "f:metadata"]),
            _ => {}
        }
        set
    }
}

/// A field that somebody else manages, and wants otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who, as upstream's messages say it: `"kubectl"`, `"edit" using v1`.
    pub manager: String,
    /// `.spec.ports[port=80,protocol="TCP"].name`
    pub field: String,
}

/// Why a configuration cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// It is not of the kind's type; the sentences of upstream's, one for each fault.
    Untyped(String),
    /// Others manage these fields.
    Conflicts(Vec<Conflict>),
}

/// What comes of applying.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The wanted object, without `managedFields`.
    pub object: Value,
    /// Who manages it then.
    pub managers: Managers,
}

/// The managers after an update from `old` (an empty object for a create) to `new`, both without regard to their
/// `managedFields`: the writer takes what it changed.
pub fn track(
    scope: Scope<'_>,
    old: &Value,
    new: &Value,
    mut managers: Managers,
    writer: &Writer,
) -> Managers {
    let Some(form) = scope.form() else { return managers };
    let change = compare::objects(form, old, new);
    let (changed, removed) = (scope.within(change.changed), scope.within(change.removed));
    managers.take(&changed, &removed, None);
    managers.add(writer, changed);
    managers.cap();
    managers
}

/// Applies a configuration to the live object (an empty one when there is none).
///
/// # Errors
/// When the configuration does not fit the type, or, without force, fields are in conflict.
pub fn apply(
    scope: Scope<'_>,
    live: &Value,
    config: &Value,
    managers: Managers,
    (writer, force): (&Writer, bool),
) -> Result<Applied, ApplyError> {
    let Some(form) = scope.form() else {
        return Err(ApplyError::Untyped("the kind has no schema".to_owned()));
    };
    merge::check(form, config).map_err(ApplyError::Untyped)?;
    let set = merge::fields(form, config);
    let before = managers.applied(writer);
    let mut next = managers;
    next.set_applied(writer, scope.within(set.clone()));
    let merged = merge::merge(form, live, config);
    let object = merge::prune(form, &merged, before.as_ref(), &next.union(set));
    let change = compare::objects(form, live, &object);
    let (changed, removed) = (scope.within(change.changed), scope.within(change.removed));
    let conflicts = next.take(&changed, &removed, Some(writer));
    if !force && !conflicts.is_empty() {
        let conflicts = tolerated(form, live, writer, conflicts);
        if !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
    }
    Ok(Applied { object, managers: next })
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The configuration that `kubectl apply` left on the client's side.
pub fn last_applied(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][LAST_APPLIED].as_str()
}

/// Writes the configuration where `kubectl apply` on the client's side looks for it.
pub fn set_last_applied(object: &mut Value, config: &Value) {
    object["metadata"]["annotations"][LAST_APPLIED] = format!("{config}\n").into();
}

/// kubectl, coming from applies on the client's side, may take what it has applied there and nobody changed since.
fn tolerated(
    form: types::Form,
    live: &Value,
    writer: &Writer,
    conflicts: Vec<(String, String)>,
) -> Vec<Conflict> {
    let mine = last_applied(live)
        .filter(|_| writer.manager == "kubectl")
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .map(|last| {
            let change = compare::objects(form, &last, live);
            merge::fields(form, &last).difference(&change.changed).difference(&change.removed).paths()
        })
        .unwrap_or_default();
    let theirs = conflicts.into_iter().filter(|(_, field)| !mine.contains(field));
    theirs.map(|(manager, field)| Conflict { manager, field }).collect()
}

#[cfg(test)]
mod tests;
