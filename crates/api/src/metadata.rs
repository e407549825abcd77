//! The rules that every object's metadata obeys, whatever its kind: names, labels, annotations, finalizers, owners, and
//! what an update may not change.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::field::{FieldError, Path};
use crate::names::{self, NameRule};

const ANNOTATIONS_MAX: usize = 256 * 1024;
const IMMUTABLE: &str = "field is immutable";

/// Everything wrong with an object's metadata.
pub(crate) fn validate(meta: &ObjectMeta, namespaced: bool, rule: NameRule, errors: &mut Vec<FieldError>) {
    let path = Path::new("metadata");
    let generate_name = meta.generate_name.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    for message in if generate_name.is_empty() { Vec::new() } else { rule.check_prefix(generate_name) } {
        errors.push(FieldError::invalid(path.child("generateName"), generate_name, message));
    }
    if name.is_empty() {
        errors.push(FieldError::required(path.child("name"), "name or generateName is required"));
    } else {
        for message in rule.check(name) {
            errors.push(FieldError::invalid(path.child("name"), name, message));
        }
    }
    validate_namespace(meta.namespace.as_deref().unwrap_or_default(), namespaced, errors);
    if meta.generation.is_some_and(|g| g < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(path.child("generation"), meta.generation, detail));
    }
    labels(&path.child("labels"), meta.labels.as_ref(), errors);
    annotations(&path.child("annotations"), meta.annotations.as_ref(), errors);
    for (index, owner) in meta.owner_references.iter().flatten().enumerate() {
        validate_owner(&path.child("ownerReferences").index(index), owner, errors);
    }
    validate_controllers(&path.child("ownerReferences"), meta, errors);
    for finalizer in meta.finalizers.iter().flatten() {
        finalizer_name(&path.child("finalizers"), finalizer, errors);
    }
}

/// What is never stored has a place at most, and nothing else to be told from others by.
pub(crate) fn validate_virtual(meta: &ObjectMeta, errors: &mut Vec<FieldError>) {
    let place = ObjectMeta { namespace: meta.namespace.clone(), ..ObjectMeta::default() };
    if *meta != place {
        errors.push(FieldError::invalid("metadata", meta, "must be empty"));
    }
}

fn validate_namespace(namespace: &str, namespaced: bool, errors: &mut Vec<FieldError>) {
    let path = "metadata.namespace";
    match (namespaced, namespace) {
        (true, "") => errors.push(FieldError::required(path, "")),
        (true, _) => {
            errors
                .extend(names::label(namespace).into_iter().map(|m| FieldError::invalid(path, namespace, m)));
        }
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden(path, "not allowed on this type")),
    }
}

/// The keys and values of a set of labels.
pub(crate) fn labels(
    path: &Path<'_>,
    labels: Option<&BTreeMap<String, String>>,
    errors: &mut Vec<FieldError>,
) {
    for (key, value) in labels.into_iter().flatten() {
        errors.extend(names::qualified(key).into_iter().map(|m| FieldError::invalid(path, key, m)));
        errors.extend(names::label_value(value).into_iter().map(|m| FieldError::invalid(path, value, m)));
    }
}

/// The keys of a set of annotations, and their size.
pub(crate) fn annotations(
    path: &Path<'_>,
    annotations: Option<&BTreeMap<String, String>>,
    errors: &mut Vec<FieldError>,
) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        let lower = key.to_lowercase();
        errors.extend(names::qualified(&lower).into_iter().map(|m| FieldError::invalid(path, key, m)));
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_MAX));
    }
}

fn finalizer_name(path: &Path<'_>, finalizer: &str, errors: &mut Vec<FieldError>) {
    let wrong = names::qualified(finalizer);
    let known = ["orphan", "foregroundDeletion", "kubernetes"];
    if wrong.is_empty() && !finalizer.contains('/') && !known.contains(&finalizer) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(path, finalizer, detail));
    }
    errors.extend(wrong.into_iter().map(|m| FieldError::invalid(path, finalizer, m)));
}

fn validate_owner(path: &Path<'_>, owner: &OwnerReference, errors: &mut Vec<FieldError>) {
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    if version.is_empty() || version.contains('/') {
        errors.push(FieldError::invalid(
            path.child("apiVersion"),
            &owner.api_version,
            "version must not be empty",
        ));
    }
    for (field, text) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
        if text.is_empty() {
            errors.push(FieldError::invalid(path.child(field), text, "must not be empty"));
        }
    }
    if group.is_empty() && version == "v1" && owner.kind == "Event" {
        let detail = format!("{}/{} is disallowed from being an owner", owner.api_version, owner.kind);
        errors.push(FieldError::invalid(path, owner, detail));
    }
}

fn validate_controllers(path: &Path<'_>, meta: &ObjectMeta, errors: &mut Vec<FieldError>) {
    let mut first: Option<&OwnerReference> = None;
    for owner in meta.owner_references.iter().flatten().filter(|o| o.controller == Some(true)) {
        if let Some(first) = first {
            let detail = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
                first.kind, first.name, owner.kind, owner.name
            );
            errors.push(FieldError::invalid(path, &meta.owner_references, detail));
        }
        first = first.or(Some(owner));
    }
}

/// What an update may not change. System fields that the client left out have been carried over before.
pub(crate) fn validate_update(new: &ObjectMeta, old: &ObjectMeta, errors: &mut Vec<FieldError>) {
    let path = Path::new("metadata");
    validate_finalizers_while_deleting(new, old, errors);
    if new.generation < old.generation {
        let detail = "must not be decremented";
        errors.push(FieldError::invalid(path.child("generation"), new.generation, detail));
    }
    for (field, new, old) in [
        ("name", &new.name, &old.name),
        ("namespace", &new.namespace, &old.namespace),
        ("uid", &new.uid, &old.uid),
    ] {
        if new != old {
            errors.push(FieldError::invalid(path.child(field), new, IMMUTABLE));
        }
    }
    for (field, new, old) in [
        ("creationTimestamp", &new.creation_timestamp, &old.creation_timestamp),
        ("deletionTimestamp", &new.deletion_timestamp, &old.deletion_timestamp),
    ] {
        if new != old {
            errors.push(FieldError::invalid(path.child(field), new, IMMUTABLE));
        }
    }
    if new.deletion_grace_period_seconds != old.deletion_grace_period_seconds {
        let field = path.child("deletionGracePeriodSeconds");
        errors.push(FieldError::invalid(field, new.deletion_grace_period_seconds, IMMUTABLE));
    }
}

fn validate_finalizers_while_deleting(new: &ObjectMeta, old: &ObjectMeta, errors: &mut Vec<FieldError>) {
    if old.deletion_timestamp.is_none() {
        return;
    }
    let had = old.finalizers.as_deref().unwrap_or_default();
    let added: Vec<String> =
        new.finalizers.iter().flatten().filter(|f| !had.contains(f)).map(|f| format!("{f:?}")).collect();
    if !added.is_empty() {
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        errors.push(FieldError::forbidden("metadata.finalizers", detail));
    }
}

/// Fills in from the stored object the system fields that an update leaves out, and those it never decides.
pub(crate) fn carry_over(new: &mut ObjectMeta, old: &ObjectMeta) {
    if new.uid.is_none() {
        new.uid.clone_from(&old.uid);
    }
    if new.namespace.is_none() {
        new.namespace.clone_from(&old.namespace);
    }
    if new.creation_timestamp.is_none() {
        new.creation_timestamp.clone_from(&old.creation_timestamp);
    }
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    new.generation = old.generation;
    new.self_link = None;
}
