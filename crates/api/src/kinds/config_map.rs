//! ConfigMaps: text and bytes by key, at most 1 MiB, that can be made immutable.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use crate::behavior::Behavior;
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo};
use crate::{names, table};

/// The most that a ConfigMap or Secret can hold.
pub(crate) const SIZE_MAX: usize = 1024 * 1024;
/// What an immutable object says of its fields.
pub(crate) const SEALED: &str = "field is immutable when `immutable` is set";

pub(crate) struct ConfigMaps;

impl Behavior for ConfigMaps {
    type Object = ConfigMap;

    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        create_on_update: false,
        unconditional_update: true,
    };
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text(
            "Data",
            "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'.",
        ),
        table::AGE,
    ];

    fn validate(config: &ConfigMap, errors: &mut Vec<FieldError>) {
        let mut size = 0;
        for (key, value) in config.data.iter().flatten() {
            check_key(&Path::new("data"), key, errors);
            if config.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
                let detail = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(Path::new("data").key(key), key, detail));
            }
            size += value.len();
        }
        for (key, value) in config.binary_data.iter().flatten() {
            check_key(&Path::new("binaryData"), key, errors);
            size += value.0.len();
        }
        if size > SIZE_MAX {
            errors.push(FieldError::too_long("", SIZE_MAX));
        }
    }

    fn validate_update(new: &ConfigMap, old: &ConfigMap, errors: &mut Vec<FieldError>) {
        if old.immutable != Some(true) {
            return;
        }
        for (field, changed) in [
            ("immutable", new.immutable != Some(true)),
            ("data", new.data != old.data),
            ("binaryData", new.binary_data != old.binary_data),
        ] {
            if changed {
                errors.push(FieldError::forbidden(field, SEALED));
            }
        }
    }

    fn cells(config: &ConfigMap, now: Timestamp) -> Vec<Value> {
        let count =
            config.data.as_ref().map_or(0, |d| d.len()) + config.binary_data.as_ref().map_or(0, |d| d.len());
        vec![table::name(&config.metadata), json!(count), table::age(&config.metadata, now)]
    }
}

/// A key's rule, shared with Secrets.
pub(crate) fn check_key(path: &Path<'_>, key: &str, errors: &mut Vec<FieldError>) {
    for message in names::config_key(key) {
        errors.push(FieldError::invalid(path.key(key), key, message));
    }
}
