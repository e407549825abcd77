//! `events.k8s.io/v1`: the Events of the core group under newer names.

use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use super::{Events, rules};
use crate::behavior::Adapter;
use crate::field::FieldError;
use crate::kind::{Kind, KindInfo};
use crate::renamed::Renamed;
use crate::wire::Json;

static STORED: &dyn Kind = &Adapter::<Events>::new();

pub(crate) static EVENTS: Renamed = Renamed {
    info: &KindInfo {
        group: "events.k8s.io",
        version: "v1",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        create_on_update: true,
        unconditional_update: true,
    },
    stored: STORED,
    fields: &[
        ("regarding", "involvedObject"),
        ("note", "message"),
        ("reportingController", "reportingComponent"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
    ],
    selectable: &[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "type",
    ],
    validate,
};

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = STORED.validate(new, old);
    for error in errors.iter_mut().filter(|error| error.field == "reportingComponent") {
        "reportingController".clone_into(&mut error.field);
    }
    match (Event::from_json(new), old.map(Event::from_json)) {
        (Ok(new), None) => rules::strict(&new, &mut errors),
        (Ok(new), Some(Ok(old))) => rules::strict_update(&new, &old, &mut errors),
        (Err(why), _) | (_, Some(Err(why))) => errors.push(FieldError::internal("", why)),
    }
    errors
}
