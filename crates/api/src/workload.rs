//! What the kinds that make pods from a template share: rules of selector and template, columns.

use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::{Value, json};

use crate::field::{FieldError, Path};
use crate::kind::Column;
use crate::selector::{self, LabelSelector};
use crate::{metadata, pod_spec, rules, table, warnings};

/// The columns for `-o wide`.
pub(crate) const WIDE: [Column; 3] = [
    table::wide("Containers", "Names of each container in the template."),
    table::wide("Images", "Images referenced by each container in the template."),
    table::wide("Selector", "Label selector for pods."),
];

/// The selector and the template that it must match. `kind` is for the message.
pub(crate) fn validate(
    kind: &str,
    wanted: &meta::LabelSelector,
    template: Option<&PodTemplateSpec>,
    errors: &mut Vec<FieldError>,
) {
    let spec = Path::new("spec");
    let path = spec.child("selector");
    selector::validate(&path, wanted, errors);
    if is_empty(wanted) {
        let detail = format!("empty selector is invalid for {kind}");
        errors.push(FieldError::invalid(path, wanted, detail));
    }
    validate_template(kind, wanted, template, errors);
}

/// The template, and that the selector matches it.
pub(crate) fn validate_template(
    kind: &str,
    wanted: &meta::LabelSelector,
    template: Option<&PodTemplateSpec>,
    errors: &mut Vec<FieldError>,
) {
    let spec = Path::new("spec");
    let is_empty = is_empty(wanted);
    let path = spec.child("template");
    let Some(template) = template else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let meta = path.child("metadata");
    let labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    let matches = LabelSelector::from_object(wanted).is_ok_and(|s| s.matches(&labels));
    if !is_empty && !matches {
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(meta.child("labels"), &labels, detail));
    }
    validate_pod(&path, kind, template, errors);
}

fn is_empty(selector: &meta::LabelSelector) -> bool {
    selector.match_labels.is_none() && selector.match_expressions.is_none()
}

fn validate_pod(path: &Path<'_>, kind: &str, template: &PodTemplateSpec, errors: &mut Vec<FieldError>) {
    let meta = path.child("metadata");
    if let Some(template) = &template.metadata {
        metadata::labels(&meta.child("labels"), template.labels.as_ref(), errors);
        metadata::annotations(&meta.child("annotations"), template.annotations.as_ref(), errors);
    }
    let path = path.child("spec");
    let Some(pod) = &template.spec else {
        errors.push(FieldError::required(path.child("containers"), ""));
        return;
    };
    pod_spec::validate(&path, pod, errors);
    if let Some(policy) = pod.restart_policy.as_deref().filter(|policy| *policy != "Always") {
        errors.push(FieldError::not_supported(path.child("restartPolicy"), policy, &["Always"]));
    }
    if pod.active_deadline_seconds.is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(path.child("activeDeadlineSeconds"), detail));
    }
}

/// `spec.replicas` and its like.
pub(crate) fn counts(counts: &[(&str, Option<i32>)], errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    for (field, number) in counts {
        rules::not_negative(&spec.child(field), number.map(i64::from), errors);
    }
}

/// What the author of a template is warned of: all when it is new, its parts when it changed.
pub(crate) fn warnings(
    (meta, template): (&meta::ObjectMeta, Option<&PodTemplateSpec>),
    old: Option<&meta::ObjectMeta>,
) -> Vec<String> {
    if old.is_some_and(|old| old.generation == meta.generation) {
        return Vec::new();
    }
    let name = warnings::host_name(meta, "Pod names and hostnames").filter(|_| old.is_none());
    name.into_iter().chain(template.map(pod_spec::warn::template).unwrap_or_default()).collect()
}

/// The cells of [`WIDE`].
pub(crate) fn wide_cells(template: Option<&PodTemplateSpec>, selector: &meta::LabelSelector) -> [Value; 3] {
    let containers =
        template.and_then(|t| t.spec.as_ref()).map(|s| s.containers.as_slice()).unwrap_or_default();
    let join = |of: fn(&Container) -> &str| containers.iter().map(of).collect::<Vec<_>>().join(",");
    let selector = LabelSelector::from_object(selector)
        .map_or_else(|_| "<error>".to_owned(), |selector| table::or_none(selector.to_string()));
    [
        json!(join(|c| c.name.as_str())),
        json!(join(|c| c.image.as_deref().unwrap_or_default())),
        json!(selector),
    ]
}
