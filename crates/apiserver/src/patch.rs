//! PATCH: the patch is applied to the newest version, and what comes out goes the way of an update. When somebody else
//! writes meanwhile, it is applied again to what they wrote, unless the patch itself names a version.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;
use svcd_api::field::FieldError;
use svcd_api::kind::{Kind, Subresource};
use svcd_api::patch::{self, PatchError};
use svcd_api::scale;

use crate::apply::APPLY_PATCH;
use crate::body::{self, media_type};
use crate::call::Call;
use crate::errors::Failure;
use crate::query::{FieldValidation, WriteOptions};
use crate::record;
use crate::server::ApiServer;
use crate::write::{ATTEMPTS, Miss, answer};
use crate::{json, metadata, subresource};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

/// A patch of one of the three kinds, parsed.
pub(crate) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Which kind of patch a media type means.
    fn of(media_type: &str) -> Result<fn(Value) -> Self, Failure> {
        match media_type {
            JSON_PATCH => Ok(Self::Json),
            MERGE_PATCH => Ok(Self::Merge),
            STRATEGIC_PATCH => Ok(Self::Strategic),
            _ => {
                Err(Failure::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH]))
            }
        }
    }

    /// The object that the patch makes of the current one. A strategic patch of something that is not of the kind (a
    /// Scale) is a merge.
    pub(crate) fn apply(&self, kind: Option<&dyn Kind>, current: &Value) -> Result<Value, Failure> {
        let patched = match (self, kind) {
            (Self::Json(patch), _) => patch::json_patch(current, patch.clone()),
            (Self::Strategic(patch), Some(kind)) => patch::strategic(kind, current, patch),
            (Self::Merge(patch) | Self::Strategic(patch), _) => patch::json_merge(current, patch),
        };
        patched.map_err(|error| match error {
            PatchError::Malformed(why) => Failure::bad_request(why),
            PatchError::Inapplicable(why) => {
                tracing::debug!(%why, "a patch does not apply");
                Failure::patch_rejected()
            }
        })
    }

    /// What upstream shows of the patch when its result cannot be decoded.
    fn shown(&self, patched: &Value) -> Value {
        match self {
            Self::Strategic(patch) => go_text(patch).into(),
            Self::Json(_) | Self::Merge(_) => patched.to_string().into(),
        }
    }
}

impl ApiServer {
    /// PATCH of an object, its status or its scale.
    pub(crate) async fn patch(&self, call: &Call, bytes: &Bytes) -> Result<Response<Body>, Failure> {
        if media_type(&call.headers) == APPLY_PATCH {
            return self.apply(call, bytes).await;
        }
        // First of all: by a 415 a client learns that it must apply in YAML, whatever else it asked for.
        let kind = Patch::of(&media_type(&call.headers))?;
        let options = WriteOptions::parse(&call.query, "PatchOptions")?;
        if call.query.has("force") {
            let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
            return Err(Failure::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
        }
        let (value, duplicates) =
            json::parse(bytes).map_err(|error| Failure::bad_request(error.to_string()))?;
        let patch = kind(value);
        let resource = call.resource();
        for round in 0..ATTEMPTS {
            let stored = self.existing(resource, call.target.namespace(), call.target.name()).await?;
            let old = record::parse(resource, &stored.value);
            let new = match call.target.subresource {
                Some(Subresource::Scale) => {
                    let scaled = patch.apply(None, &scale::of(&old))?;
                    subresource::apply_scale(&old, &scaled)?
                }
                _ => self.patched(call, &patch, &duplicates, &old, (options.field_validation, round == 0))?,
            };
            match self.replace(call, &stored, &old, new, options.dry_run).await {
                Ok(written) if call.target.subresource == Some(Subresource::Scale) => {
                    return Ok(subresource::scale_answer(&written));
                }
                Ok(written) => return answer(call, StatusCode::OK, &written),
                Err(Miss::Raced(_)) => {}
                Err(Miss::Refused(failure)) => return Err(failure),
            }
        }
        Err(Failure::modified(resource.info, call.target.name()))
    }

    /// The patched object, decoded.
    fn patched(
        &self,
        call: &Call,
        patch: &Patch,
        duplicates: &[String],
        old: &Value,
        (validation, first): (FieldValidation, bool),
    ) -> Result<Value, Failure> {
        let resource = call.resource();
        let patched = patch.apply(Some(resource.kind), old)?;
        body::check_type(resource, &patched)?;
        let refuse = |why: String| {
            let error = FieldError::invalid("patch", patch.shown(&patched), why);
            Failure::invalid("", "", "", &[error])
        };
        let decoded = resource.kind.decode(patched.clone()).map_err(&refuse)?;
        let problems = body::problems(&decoded.unknown, duplicates);
        match validation {
            FieldValidation::Strict if !problems.is_empty() => {
                return Err(refuse(format!("strict decoding error: {}", problems.join(", "))));
            }
            FieldValidation::Warn if first => problems.into_iter().for_each(|problem| call.warn(problem)),
            _ => {}
        }
        let mut object = decoded.object;
        metadata::place(&mut object, &call.target)?;
        Ok(object)
    }
}

/// A value as Go's `%+v` shows it; upstream puts patches into messages that way.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let members: Vec<String> =
                keys.into_iter().map(|k| format!("{k}:{}", go_text(&map[k]))).collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_are_shown_as_go_shows_them() {
        let patch = json!({ "spec": { "bogus": 1, "a": ["x", true] }, "metadata": { "labels": null } });
        assert_eq!(go_text(&patch), "map[metadata:map[labels:<nil>] spec:map[a:[x true] bogus:1]]");
    }
}
