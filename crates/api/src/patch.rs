//! The three patches that clients send, as functions from the current object and the patch to the wanted object. What
//! comes out has not been decoded: it goes the way of every other write from there.

pub(crate) mod keys;
mod strategic;

pub use strategic::strategic;

use serde_json::Value;
use thiserror::Error;

/// Why a patch cannot be applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatchError {
    /// It is no patch at all: 400.
    #[error("{0}")]
    Malformed(String),
    /// It is one, but does not fit the object: 422.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Inapplicable(String),
}

/// Operations a JSON patch may have, as upstream limits them.
const JSON_PATCH_MAX_OPERATIONS: usize = 10_000;

/// RFC 7396.
///
/// # Errors
/// When the patch is no object.
pub fn json_merge(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    require_object(patch)?;
    let mut merged = current.clone();
    json_patch::merge(&mut merged, patch);
    Ok(merged)
}

/// RFC 6902.
///
/// # Errors
/// When the patch is no list of operations, or one of them fails.
pub fn json_patch(current: &Value, patch: Value) -> Result<Value, PatchError> {
    if patch.as_array().is_some_and(|list| list.len() > JSON_PATCH_MAX_OPERATIONS) {
        let message =
            format!("The allowed maximum operations in a JSON patch is {JSON_PATCH_MAX_OPERATIONS}");
        return Err(PatchError::Malformed(message));
    }
    let patch: json_patch::Patch =
        serde_json::from_value(patch).map_err(|e| PatchError::Malformed(e.to_string()))?;
    let mut patched = current.clone();
    json_patch::patch(&mut patched, &patch).map_err(|e| PatchError::Inapplicable(e.to_string()))?;
    Ok(patched)
}

fn require_object(patch: &Value) -> Result<(), PatchError> {
    let what = match patch {
        Value::Object(_) => return Ok(()),
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    };
    let message = format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}");
    Err(PatchError::Malformed(message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_replaces_lists_and_drops_nulls() {
        let current = json!({ "spec": { "ports": [1, 2], "type": "A", "x": { "y": 1 } } });
        let patch = json!({ "spec": { "ports": [3], "type": null, "x": { "z": 2 } } });
        assert_eq!(
            json_merge(&current, &patch).unwrap(),
            json!({ "spec": { "ports": [3], "x": { "y": 1, "z": 2 } } })
        );
        assert!(matches!(json_merge(&current, &json!([])), Err(PatchError::Malformed(_))));
    }

    #[test]
    fn json_patch_applies_all_or_nothing() {
        let current = json!({ "spec": { "ports": [] } });
        let add = json!([{ "op": "add", "path": "/spec/ports/-", "value": 81 }]);
        assert_eq!(json_patch(&current, add).unwrap(), json!({ "spec": { "ports": [81] } }));
        for bad in [
            json!([{ "op": "replace", "path": "/spec/nosuch/x", "value": 1 }]),
            json!([{ "op": "test", "path": "/spec/ports", "value": 1 }]),
        ] {
            assert!(matches!(json_patch(&current, bad), Err(PatchError::Inapplicable(_))));
        }
        assert!(matches!(json_patch(&current, json!({})), Err(PatchError::Malformed(_))));
    }
}
