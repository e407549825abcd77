//! Where a pod may run: tolerations, spreading, affinity.

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use crate::field::{FieldError, Path};
use crate::{names, rules, selector};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn validate(path: &Path<'_>, spec: &PodSpec, errors: &mut Vec<FieldError>) {
    let tolerations = path.child("tolerations");
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        validate_toleration(&tolerations.index(index), toleration, errors);
    }
    spreading(&path.child("topologySpreadConstraints"), spec, errors);
    node_affinity(path, spec, errors);
}

fn validate_toleration(path: &Path<'_>, toleration: &Toleration, errors: &mut Vec<FieldError>) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, operator) = (text(&toleration.key), text(&toleration.operator));
    let (value, effect) = (text(&toleration.value), text(&toleration.effect));
    if !key.is_empty() {
        let messages = names::qualified(&key);
        errors.extend(messages.into_iter().map(|m| FieldError::invalid(path.child("key"), &key, m)));
    } else if operator != "Exists" {
        let detail =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(path.child("operator"), &operator, detail));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(path.child("effect"), &effect, detail));
    }
    match operator.as_str() {
        "" | "Equal" => {
            let messages = names::label_value(&value);
            errors
                .extend(messages.into_iter().map(|m| FieldError::invalid(path.child("operator"), &value, m)));
        }
        "Exists" if !value.is_empty() => {
            let detail = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(path.child("operator"), toleration, detail));
        }
        operator => rules::one_of(&path.child("operator"), operator, &["Equal", "Exists"], errors),
    }
    if !effect.is_empty() {
        rules::one_of(&path.child("effect"), &effect, EFFECTS, errors);
    }
}

fn spreading(path: &Path<'_>, spec: &PodSpec, errors: &mut Vec<FieldError>) {
    for (index, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let path = path.index(index);
        rules::positive(&path.child("maxSkew"), Some(i64::from(constraint.max_skew)), errors);
        match constraint.topology_key.as_str() {
            "" => errors.push(FieldError::required(path.child("topologyKey"), "can not be empty")),
            key => {
                let messages = names::qualified(key);
                let path = path.child("topologyKey");
                errors.extend(messages.into_iter().map(|m| FieldError::invalid(path, key, m)));
            }
        }
        let words = &["DoNotSchedule", "ScheduleAnyway"];
        rules::one_of(&path.child("whenUnsatisfiable"), &constraint.when_unsatisfiable, words, errors);
        if let Some(wanted) = &constraint.label_selector {
            selector::validate(&path.child("labelSelector"), wanted, errors);
        }
    }
}

fn node_affinity(path: &Path<'_>, spec: &PodSpec, errors: &mut Vec<FieldError>) {
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let Some(required) = required else { return };
    let path = path.child("affinity");
    let path = path.child("nodeAffinity");
    let path = path.child("requiredDuringSchedulingIgnoredDuringExecution");
    let path = path.child("nodeSelectorTerms");
    if required.node_selector_terms.is_empty() {
        errors.push(FieldError::required(path, "must have at least one node selector term"));
    }
    for (index, term) in required.node_selector_terms.iter().enumerate() {
        let path = path.index(index);
        let path = path.child("matchExpressions");
        for (index, expression) in term.match_expressions.iter().flatten().enumerate() {
            let path = path.index(index);
            let messages = names::qualified(&expression.key);
            let key = path.child("key");
            errors.extend(messages.into_iter().map(|m| FieldError::invalid(key, &expression.key, m)));
            let has_values = expression.values.is_some();
            match expression.operator.as_str() {
                "In" | "NotIn" if !has_values => {
                    let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                    errors.push(FieldError::required(path.child("values"), detail));
                }
                "Exists" | "DoesNotExist" if has_values => {
                    let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.push(FieldError::forbidden(path.child("values"), detail));
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
                other => {
                    let detail = "not a valid selector operator";
                    errors.push(FieldError::invalid(path.child("operator"), other, detail));
                }
            }
        }
    }
}
