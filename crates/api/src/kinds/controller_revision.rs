//! ControllerRevisions: what a DaemonSet's or StatefulSet's template was, for going back to it.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use crate::behavior::Behavior;
use crate::field::FieldError;
use crate::kind::{Column, KindInfo};
use crate::{rules, table};

pub(crate) struct ControllerRevisions;

impl Behavior for ControllerRevisions {
    type Object = ControllerRevision;

    const INFO: &'static KindInfo = &KindInfo {
        group: "apps",
        version: "v1",
        kind: "ControllerRevision",
        plural: "controllerrevisions",
        singular: "controllerrevision",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        create_on_update: false,
        unconditional_update: true,
    };
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text("Controller", "Controller of the object"),
        table::text("Revision", "Revision indicates the revision of the state represented by Data."),
        table::AGE,
    ];

    fn validate(revision: &ControllerRevision, errors: &mut Vec<FieldError>) {
        if revision.data.0.is_null() {
            errors.push(FieldError::required("data", "data is mandatory"));
        } else if !revision.data.0.is_object() {
            errors.push(FieldError::invalid("data", &revision.data, "must be a valid JSON object"));
        }
        let number = revision.revision.unwrap_or_default();
        if number < 0 {
            errors.push(FieldError::invalid("revision", number, "must be greater than or equal to 0"));
        }
    }

    fn validate_update(new: &ControllerRevision, old: &ControllerRevision, errors: &mut Vec<FieldError>) {
        if new.data.0 != old.data.0 {
            errors.push(FieldError::invalid("data", &new.data, rules::IMMUTABLE));
        }
    }

    fn cells(revision: &ControllerRevision, now: Timestamp) -> Vec<Value> {
        let owners = revision.metadata.owner_references.iter().flatten();
        let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
        let controller = controller.map_or_else(
            || table::NONE.to_owned(),
            |owner| {
                let kind = owner.kind.to_lowercase();
                match owner.api_version.split_once('/') {
                    Some((group, _)) => format!("{kind}.{group}/{}", owner.name),
                    None => format!("{kind}/{}", owner.name),
                }
            },
        );
        vec![
            table::name(&revision.metadata),
            json!(controller),
            json!(revision.revision.unwrap_or_default()),
            table::age(&revision.metadata, now),
        ]
    }
}
