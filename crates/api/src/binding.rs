//! `/binding` of pods: the scheduler's decision, written once.

use k8s_openapi::api::core::v1::Binding;
use serde_json::{Value, json};

use crate::decode;
use crate::status::{ApiError, ResourceName};

/// The pod on the node that the Binding names, with the condition `PodScheduled`.
///
/// # Errors
/// A malformed Binding is a bad request; a pod that is being deleted, or has a node, is a conflict.
pub fn bind(pod: &Value, binding: &Value, now: jiff::Timestamp) -> Result<Value, ApiError> {
    let binding = decode::typed::<Binding>(binding).map_err(|e| ApiError::bad_request(e.to_string()))?.object;
    let pods = ResourceName::new("", "pods");
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let node = binding.target.name.unwrap_or_default();
    if node.is_empty() || binding.target.kind.is_some_and(|kind| kind != "Node") {
        return Err(ApiError::bad_request("a Binding's target must be a Node with a name"));
    }
    if binding.metadata.uid.is_some_and(|uid| pod["metadata"]["uid"] != uid.as_str()) {
        return Err(ApiError::conflict(&pods, name, "the Binding is for another pod of this name"));
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        let why = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(ApiError::conflict(&pods, name, &why));
    }
    match pod["spec"]["nodeName"].as_str() {
        None | Some("") => Ok(bound(pod, &node, now)),
        Some(taken) => {
            let why = format!("pod {name} is already assigned to node {taken:?}");
            Err(ApiError::conflict(&pods, name, &why))
        }
    }
}

fn bound(pod: &Value, node: &str, now: jiff::Timestamp) -> Value {
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = json!(node);
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let scheduled = json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": now });
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|c| c["type"] != "PodScheduled");
    conditions.push(scheduled);
    pod["status"]["conditions"] = Value::Array(conditions);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(node: &str) -> Value {
        json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": node } })
    }

    #[test]
    fn binds_once() {
        let pod = json!({ "metadata": { "name": "p" }, "spec": {}, "status": { "phase": "Pending" } });
        let bound = bind(&pod, &binding("n1"), jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(bound["spec"]["nodeName"], "n1");
        assert_eq!(
            bound["status"]["conditions"],
            json!([{ "type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z" }])
        );
        let again = bind(&bound, &binding("n2"), jiff::Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(again.code(), 409);
        assert!(again.message().ends_with(r#"pod p is already assigned to node "n1""#), "{again}");
    }

    #[test]
    fn refusals() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let pod = json!({ "metadata": { "name": "p" }, "spec": {} });
        assert_eq!(bind(&pod, &binding(""), now).unwrap_err().code(), 400);
        assert_eq!(bind(&pod, &json!({ "target": 1 }), now).unwrap_err().code(), 400);
        let dying = json!({ "metadata": { "name": "p", "deletionTimestamp": "x" }, "spec": {} });
        assert_eq!(bind(&dying, &binding("n1"), now).unwrap_err().code(), 409);
        let other = json!({ "metadata": { "name": "p", "uid": "1" }, "target": { "name": "n1" } });
        assert_eq!(bind(&pod, &other, now).unwrap_err().code(), 409);
    }
}
