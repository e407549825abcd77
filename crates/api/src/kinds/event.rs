//! Events: what happened to an object, and how often. Stored as the core group has them; `events.k8s.io` serves the same
//! objects under newer names and with stricter rules.

mod renamed;
mod rules;

pub(crate) use renamed::EVENTS;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::{Value, json};

use crate::behavior::Behavior;
use crate::field::FieldError;
use crate::kind::{Column, KindInfo};
use crate::table;

pub(crate) struct Events;

impl Behavior for Events {
    type Object = Event;

    const INFO: &'static KindInfo = &KindInfo {
        group: "",
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
    };
    const COLUMNS: &'static [Column] = &[
        table::text("Last Seen", "The time at which the most recent occurrence of this event was recorded."),
        table::text("Type", "Type of this event (Normal, Warning), new types could be added in the future"),
        table::text(
            "Reason",
            "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.",
        ),
        table::text("Object", "The object that this event is about."),
        table::wide(
            "Subobject",
            "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement.",
        ),
        table::wide(
            "Source",
            "The component reporting this event. Should be a short machine understandable string.",
        ),
        table::text("Message", "A human-readable description of the status of this operation."),
        table::wide(
            "First Seen",
            "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)",
        ),
        table::wide("Count", "The number of times this event has occurred."),
        table::wide("Name", table::NAME.description),
    ];
    const SELECTABLE: &'static [&'static str] = &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ];

    fn validate(event: &Event, errors: &mut Vec<FieldError>) {
        rules::legacy(event, "reportingComponent", errors);
    }

    fn selectable(event: &Event) -> Vec<String> {
        let about = &event.involved_object;
        let source = event.source.as_ref().and_then(|s| s.component.as_ref());
        [
            about.kind.as_ref(),
            about.namespace.as_ref(),
            about.name.as_ref(),
            about.uid.as_ref(),
            about.api_version.as_ref(),
            about.resource_version.as_ref(),
            about.field_path.as_ref(),
            event.reason.as_ref(),
            event.reporting_component.as_ref(),
            source.or(event.reporting_component.as_ref()),
            event.type_.as_ref(),
        ]
        .into_iter()
        .map(|text| text.cloned().unwrap_or_default())
        .collect()
    }

    fn cells(event: &Event, now: Timestamp) -> Vec<Value> {
        let text = |text: &Option<String>| json!(text.as_deref().unwrap_or_default());
        let (first, last, count) = times(event, now);
        vec![
            json!(last),
            text(&event.type_),
            text(&event.reason),
            json!(object(event)),
            text(&event.involved_object.field_path),
            json!(source(event)),
            json!(event.message.as_deref().unwrap_or_default().trim()),
            json!(first),
            json!(count),
            table::name(&event.metadata),
        ]
    }
}

/// First and last time, and how often.
fn times(event: &Event, now: Timestamp) -> (String, String, i32) {
    let first = event
        .first_timestamp
        .as_ref()
        .map(|t| t.0)
        .or_else(|| event.event_time.as_ref().map(|t| t.0))
        .map_or_else(|| "<unknown>".to_owned(), |t| table::since_timestamp(t, now));
    let last =
        event.last_timestamp.as_ref().map_or_else(|| first.clone(), |t| table::since_timestamp(t.0, now));
    match &event.series {
        Some(series) => {
            let last = series.last_observed_time.as_ref().map_or(last, |t| table::since_timestamp(t.0, now));
            (first, last, series.count.unwrap_or_default())
        }
        None => (first, last, event.count.unwrap_or(1)),
    }
}

fn object(event: &Event) -> String {
    let kind = event.involved_object.kind.as_deref().unwrap_or_default().to_lowercase();
    match event.involved_object.name.as_deref() {
        None | Some("") => kind,
        Some(name) => format!("{kind}/{name}"),
    }
}

fn source(event: &Event) -> String {
    let pick = |first: Option<&String>, second: &Option<String>| {
        first.filter(|text| !text.is_empty()).or(second.as_ref()).cloned().unwrap_or_default()
    };
    let source = event.source.as_ref();
    let component = pick(source.and_then(|s| s.component.as_ref()), &event.reporting_component);
    let host = pick(source.and_then(|s| s.host.as_ref()), &event.reporting_instance);
    if host.is_empty() { component } else { format!("{component}, {host}") }
}
