//! A pod's volumes: named once, each of one kind.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Volume;
use serde_json::Value;

use crate::field::{FieldError, Path};
use crate::rules;

/// Names one of its kinds.
pub(super) fn has_source(volume: &Volume) -> bool {
    !sources(volume).is_empty()
}

/// The kinds that a volume names, which should be one.
fn sources(volume: &Volume) -> Vec<String> {
    let Ok(Value::Object(fields)) = serde_json::to_value(volume) else { return Vec::new() };
    fields.into_iter().map(|(field, _)| field).filter(|field| field != "name").collect()
}

/// Everything wrong with the volumes; returns their names.
pub(super) fn validate<'a>(
    path: &Path<'_>,
    volumes: &'a [Volume],
    errors: &mut Vec<FieldError>,
) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        if volume.name.is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        } else {
            rules::label(&path.child("name"), &volume.name, errors);
        }
        if !names.insert(volume.name.as_str()) {
            errors.push(FieldError::duplicate(path.child("name"), &volume.name));
        }
        let sources = sources(volume);
        if sources.is_empty() {
            errors.push(FieldError::required(path, "must specify a volume type"));
        }
        for source in sources.iter().skip(1) {
            errors.push(FieldError::forbidden(path.child(source), "may not specify more than 1 volume type"));
        }
    }
    names
}
