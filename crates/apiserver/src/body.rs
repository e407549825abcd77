//! Request bodies: read with a limit and a deadline, then parsed and held against the kind. A body that trickles in is
//! given up; nothing is held locked while it does.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;
use svcd_api::protobuf;

use crate::call::Call;
use crate::errors::Failure;
use crate::json;
use crate::query::FieldValidation;
use crate::resources::Resource;

/// Reads a body whole.
pub(crate) async fn read(
    body: Body,
    headers: &HeaderMap,
    limit: usize,
    within: Duration,
) -> Result<Bytes, Failure> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(Failure::body_too_large(limit));
    }
    let collected = tokio::time::timeout(within, Limited::new(body, limit).collect()).await;
    match collected {
        Err(_) => Err(Failure::body_timeout()),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::body_too_large(limit)),
        Ok(Err(error)) => Err(Failure::bad_request(format!("the body of the request broke off: {error}"))),
    }
}

/// The media type of the body, lower-cased and without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

const OBJECT_TYPES: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// A parsed body, with the paths of the fields that stand in it twice.
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
}

/// Parses an object that was sent as JSON, YAML or protobuf.
pub(crate) fn parse_object(headers: &HeaderMap, body: &[u8]) -> Result<Parsed, Failure> {
    match media_type(headers).as_str() {
        "" | "application/json" | "text/plain" | "application/octet-stream" => parse_json(body),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "application/vnd.yaml" => parse_yaml(body),
        protobuf::MEDIA_TYPE => parse_protobuf(body),
        _ => Err(Failure::unsupported_media_type(OBJECT_TYPES)),
    }
}

fn parse_protobuf(body: &[u8]) -> Result<Parsed, Failure> {
    let value = protobuf::decode(body).map_err(|why| {
        Failure::bad_request(format!("couldn't get version/kind; protobuf parse error: {why}"))
    })?;
    Ok(Parsed { value, duplicates: Vec::new() })
}

/// Parses JSON.
pub(crate) fn parse_json(body: &[u8]) -> Result<Parsed, Failure> {
    let (value, duplicates) = json::parse(body).map_err(|error| {
        Failure::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
    })?;
    Ok(Parsed { value, duplicates })
}

/// More open brackets than this are no object of ours. The scanner looks at all that are open for each new one, so that a
/// body full of them would keep it busy for hours; it would find the nesting too deep only after that.
const OPEN_BRACKETS: usize = 2000;

/// Parses YAML (and so JSON).
pub(crate) fn parse_yaml(body: &[u8]) -> Result<Parsed, Failure> {
    // Most of what is sent as YAML is JSON (`kubectl apply --server-side`), which is read in one pass.
    if let Ok((value, duplicates)) = json::parse(body) {
        return Ok(Parsed { value, duplicates });
    }
    if open_brackets(body) > OPEN_BRACKETS {
        return Err(Failure::bad_request("yaml: cannot be read: it is nested too deeply"));
    }
    let value = serde_norway::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("yaml: cannot be read: {error}")))?;
    Ok(Parsed { value, duplicates: Vec::new() })
}

/// The most brackets that are open at once; those in texts are counted too, and usually close again.
fn open_brackets(body: &[u8]) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in body {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The body of options (DeleteOptions); nothing at all when it is empty.
pub(crate) fn parse_options(headers: &HeaderMap, body: &[u8]) -> Result<Value, Failure> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let value = parse_object(headers, body)?.value;
    if value.is_object() {
        Ok(value)
    } else {
        Err(Failure::bad_request("the options in the body are not an object"))
    }
}

/// Decodes an object against its kind, minding fields that it does not have.
pub(crate) fn decode(call: &Call, parsed: Parsed, validation: FieldValidation) -> Result<Value, Failure> {
    let resource = call.resource();
    check_type(resource, &parsed.value)?;
    let decoded = resource.kind.decode(parsed.value).map_err(|why| cannot_handle(resource, &why))?;
    let problems = problems(&decoded.unknown, &parsed.duplicates);
    if !problems.is_empty() {
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => problems.into_iter().for_each(|problem| call.warn(problem)),
            FieldValidation::Strict => {
                return Err(cannot_handle(
                    resource,
                    &format!("strict decoding error: {}", problems.join(", ")),
                ));
            }
        }
    }
    Ok(decoded.object)
}

/// What strict validation has to say.
pub(crate) fn problems(unknown: &[String], duplicates: &[String]) -> Vec<String> {
    let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
    unknown.chain(duplicates.iter().map(|path| format!("duplicate field {path:?}"))).collect()
}

fn cannot_handle(resource: &Resource, why: &str) -> Failure {
    let info = resource.info;
    Failure::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        info.kind, info.version, info.kind
    ))
}

/// Does the object say that it is of this kind (or nothing)?
pub(crate) fn check_type(resource: &Resource, value: &Value) -> Result<(), Failure> {
    let Some(object) = value.as_object() else {
        return Err(cannot_handle(resource, "json: the object is not a JSON object"));
    };
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if !api_version.is_empty() && api_version != resource.api_version {
        return Err(Failure::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            resource.api_version
        )));
    }
    if !kind.is_empty() && kind != resource.info.kind {
        let why = format!("the kind in the data is {kind:?}, and this path takes {:?}", resource.info.kind);
        return Err(cannot_handle(resource, &why));
    }
    Ok(())
}
