//! What Events must be. Old ones little; those with an `eventTime` more; those written through `events.k8s.io` also leave
//! alone what only old ones have, and do not change but for their series. The field names in errors are upstream's.

use k8s_openapi::api::core::v1::Event;
use serde::Serialize;

use crate::field::{FieldError, Path};
use crate::names;
use crate::rules::IMMUTABLE;

const LONGEST: usize = 128;
const LONGEST_MESSAGE: usize = 1024;

/// What both groups ask.
pub(super) fn legacy(event: &Event, controller_field: &str, errors: &mut Vec<FieldError>) {
    let own = text(&event.metadata.namespace);
    let about = text(&event.involved_object.namespace);
    let fits = match (&event.event_time, about) {
        (None, "") => own == "default",
        (None, about) => own == about,
        // Events about objects without a namespace live in the default one.
        (Some(_), "") => ["default", "kube-system"].contains(&own),
        (Some(_), _) => true,
    };
    if !fits {
        let detail = "does not match event.namespace";
        errors.push(FieldError::invalid("involvedObject.namespace", about, detail));
    }
    if event.event_time.is_some() {
        timed(event, controller_field, errors);
    }
}

fn timed(event: &Event, controller_field: &str, errors: &mut Vec<FieldError>) {
    let controller = text(&event.reporting_component);
    if controller.is_empty() {
        errors.push(FieldError::required(controller_field, ""));
    }
    let messages = names::qualified(controller);
    errors.extend(messages.into_iter().map(|m| FieldError::invalid(controller_field, controller, m)));
    for (field, value) in [
        ("reportingInstance", &event.reporting_instance),
        ("action", &event.action),
        ("reason", &event.reason),
    ] {
        if text(value).is_empty() {
            errors.push(FieldError::required(field, ""));
        }
        at_most(LONGEST, field, text(value), errors);
    }
    at_most(LONGEST_MESSAGE, "message", text(&event.message), errors);
}

fn at_most(max: usize, field: &str, value: &str, errors: &mut Vec<FieldError>) {
    if value.len() > max {
        errors.push(FieldError::invalid(field, "", format!("can have at most {max} characters")));
    }
}

/// What `events.k8s.io` asks of a new one.
pub(super) fn strict(event: &Event, errors: &mut Vec<FieldError>) {
    series(event, errors);
    if event.event_time.is_none() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = text(&event.type_);
    if !["Normal", "Warning"].contains(&kind) {
        errors.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
    }
    let source = event.source.as_ref().is_some_and(|s| s.component.is_some() || s.host.is_some());
    for (field, is_set) in [
        ("firstTimestamp", event.first_timestamp.is_some()),
        ("lastTimestamp", event.last_timestamp.is_some()),
        ("count", event.count.is_some()),
        ("source", source),
    ] {
        if is_set {
            errors.push(FieldError::invalid(field, "", "needs to be unset"));
        }
    }
}

fn series(event: &Event, errors: &mut Vec<FieldError>) {
    let Some(series) = &event.series else { return };
    let path = Path::new("series");
    if series.count.unwrap_or(0) < 2 {
        errors.push(FieldError::invalid(path.child("count"), "", "should be at least 2"));
    }
    if series.last_observed_time.is_none() {
        errors.push(FieldError::required(path.child("lastObservedTime"), ""));
    }
}

/// What `events.k8s.io` asks of a change.
pub(super) fn strict_update(new: &Event, old: &Event, errors: &mut Vec<FieldError>) {
    if new.series != old.series {
        series(new, errors);
    }
    fixed("involvedObject", &new.involved_object, &old.involved_object, errors);
    fixed("reason", &new.reason, &old.reason, errors);
    fixed("message", &new.message, &old.message, errors);
    fixed("source", &new.source, &old.source, errors);
    fixed("firstTimestamp", &new.first_timestamp, &old.first_timestamp, errors);
    fixed("lastTimestamp", &new.last_timestamp, &old.last_timestamp, errors);
    fixed("count", &new.count, &old.count, errors);
    fixed("type", &new.type_, &old.type_, errors);
    fixed("eventTime", &new.event_time, &old.event_time, errors);
    fixed("action", &new.action, &old.action, errors);
    fixed("related", &new.related, &old.related, errors);
    fixed("reportingController", &new.reporting_component, &old.reporting_component, errors);
    fixed("reportingInstance", &new.reporting_instance, &old.reporting_instance, errors);
}

fn fixed<T: PartialEq + Serialize>(field: &str, new: &T, old: &T, errors: &mut Vec<FieldError>) {
    if new != old {
        errors.push(FieldError::invalid(field, new, IMMUTABLE));
    }
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}
