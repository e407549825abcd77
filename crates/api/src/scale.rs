//! `/scale` of whatever has replicas: the object seen as an `autoscaling/v1` Scale, and a Scale written back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::{Map, Value, json};

use crate::field::FieldError;
use crate::selector::LabelSelector;

/// The Scale of an object.
pub fn of(object: &Value) -> Value {
    let meta = &object["metadata"];
    let kept = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    let metadata: Map<String, Value> =
        kept.iter().filter_map(|key| Some(((*key).to_owned(), meta.get(key)?.clone()))).collect();
    let mut spec = Map::new();
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas != 0 {
        spec.insert("replicas".to_owned(), json!(replicas));
    }
    let mut status = json!({ "replicas": object["status"]["replicas"].as_i64().unwrap_or(0) });
    let selector = selector(&object["spec"]["selector"]).unwrap_or_default();
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec, "status": status })
}

/// A selector as text. That of a ReplicationController is plain labels.
fn selector(selector: &Value) -> Option<String> {
    let plain = selector.as_object()?.values().all(Value::is_string);
    let selector = if plain { json!({ "matchLabels": selector }) } else { selector.clone() };
    let selector: meta::LabelSelector = serde_json::from_value(selector).ok()?;
    Some(LabelSelector::from_object(&selector).ok()?.to_string())
}

/// The object with a Scale's replicas, and with its resourceVersion, so that a stale one conflicts.
///
/// # Errors
/// What is wrong with the Scale.
pub fn apply(object: &Value, scale: &Value) -> Result<Value, Vec<FieldError>> {
    let field = "spec.replicas";
    let replicas = match scale["spec"].get("replicas") {
        None | Some(Value::Null) => 0,
        Some(value) => value
            .as_i64()
            .and_then(|n| i32::try_from(n).ok())
            .ok_or_else(|| vec![FieldError::invalid(field, value, "must be a 32-bit integer")])?,
    };
    if replicas < 0 {
        return Err(vec![FieldError::invalid(field, replicas, "must be greater than or equal to 0")]);
    }
    let (wanted, actual) = (&scale["metadata"]["name"], &object["metadata"]["name"]);
    if !wanted.is_null() && wanted != actual {
        return Err(vec![FieldError::invalid(
            "metadata.name",
            wanted,
            "must match the name of the scaled object",
        )]);
    }
    let mut scaled = object.clone();
    scaled["spec"]["replicas"] = json!(replicas);
    if let Some(version) = scale["metadata"].get("resourceVersion").filter(|v| !v.is_null()) {
        scaled["metadata"]["resourceVersion"] = version.clone();
    }
    Ok(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({
            "metadata": { "name": "d", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": { "a": "b" } },
            "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "d" } } },
            "status": { "replicas": 2 },
        })
    }

    #[test]
    fn there() {
        assert_eq!(
            of(&deployment()),
            json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale",
                "metadata": { "name": "d", "namespace": "n", "uid": "u", "resourceVersion": "7" },
                "spec": { "replicas": 3 },
                "status": { "replicas": 2, "selector": "app=d" },
            })
        );
    }

    #[test]
    fn and_back() {
        let scale = json!({ "metadata": { "name": "d", "resourceVersion": "8" }, "spec": { "replicas": 5 } });
        let scaled = apply(&deployment(), &scale).unwrap();
        assert_eq!(scaled["spec"]["replicas"], 5);
        assert_eq!(scaled["metadata"]["resourceVersion"], "8");
        assert_eq!(apply(&deployment(), &json!({})).unwrap()["spec"]["replicas"], 0);
    }

    #[test]
    fn refusals() {
        for scale in [
            json!({ "spec": { "replicas": -1 } }),
            json!({ "spec": { "replicas": "many" } }),
            json!({ "metadata": { "name": "other" } }),
        ] {
            assert_eq!(apply(&deployment(), &scale).unwrap_err().len(), 1, "{scale}");
        }
    }
}
