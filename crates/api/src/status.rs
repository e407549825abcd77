//! Errors as Kubernetes clients know them: `Status` objects with upstream's code, reason, message and causes. Only
//! failures can be built.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::apply::Conflict;
use crate::field::FieldError;

/// Which resource an error is about: `services`, or `deployments.apps` in messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceName {
    /// API group, empty for core.
    pub group: Cow<'static, str>,
    /// Plural (or, for [`ApiError::invalid`], the kind).
    pub resource: Cow<'static, str>,
}

impl ResourceName {
    /// A resource's name.
    pub fn new(group: impl Into<Cow<'static, str>>, resource: impl Into<Cow<'static, str>>) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

impl From<&crate::kind::KindInfo> for ResourceName {
    fn from(info: &crate::kind::KindInfo) -> Self {
        Self::new(info.group, info.plural)
    }
}

impl std::fmt::Display for ResourceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&*self.group, &*self.resource) {
            ("", resource) => f.write_str(resource),
            (group, resource) => write!(f, "{resource}.{group}"),
        }
    }
}

/// `status.details`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Details {
    name: String,
    group: Cow<'static, str>,
    kind: Cow<'static, str>,
    uid: String,
    causes: Vec<Value>,
    retry_after_seconds: u32,
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{message}")]
pub struct ApiError {
    code: u16,
    reason: &'static str,
    message: String,
    details: Option<Box<Details>>,
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, resource: &ResourceName, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.name = name.to_owned();
        details.group = resource.group.clone();
        details.kind = resource.resource.clone();
        self
    }

    fn with_cause(mut self, cause: Value) -> Self {
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// Asks the client to come back after so many seconds.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// 404: `services "x" not found`.
    pub fn not_found(resource: &ResourceName, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {name:?} not found")).about(resource, name)
    }

    /// 404 for a path that is not served.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
            .about(&ResourceName::default(), "")
    }

    /// 409: `services "x" already exists`.
    pub fn already_exists(resource: &ResourceName, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{resource} {name:?} already exists")).about(resource, name)
    }

    /// 409: `Operation cannot be fulfilled on services "x": WHY`.
    pub fn conflict(resource: &ResourceName, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// 409 for a write against another version than the stored one.
    pub fn modified(resource: &ResourceName, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 409 for an apply that would take fields from others: `Apply failed with 1 conflict: …`.
    pub fn apply_conflict(conflicts: &[Conflict]) -> Self {
        let list = match conflicts {
            [one] => format!("1 conflict: conflict with {}: {}", one.manager, one.field),
            many => {
                let mut managers: Vec<&str> = many.iter().map(|c| c.manager.as_str()).collect();
                managers.sort_unstable();
                managers.dedup();
                let mut lines = Vec::new();
                for manager in managers {
                    lines.push(format!("conflicts with {manager}:"));
                    let theirs = many.iter().filter(|c| c.manager == manager);
                    lines.extend(theirs.map(|c| format!("- {}", c.field)));
                }
                format!("{} conflicts: {}", many.len(), lines.join("\n"))
            }
        };
        let mut error = Self::new(409, "Conflict", format!("Apply failed with {list}"));
        error.details.get_or_insert_default().causes = conflicts
            .iter()
            .map(|c| {
                let message = format!("conflict with {}", c.manager);
                json!({ "reason": "FieldManagerConflict", "message": message, "field": c.field })
            })
            .collect();
        error
    }

    /// 500 without a reason: what upstream makes of errors that it did not foresee, and kubectl shows as they are.
    pub fn unexplained(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 422: `Service "x" is invalid: …`. `kind` is the kind with its group.
    pub fn invalid(kind: &ResourceName, name: &str, errors: &[FieldError]) -> Self {
        // Aggregated errors are shown once each.
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for text in errors.iter().map(ToString::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error =
            Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {list}")).about(kind, name);
        error.details.get_or_insert_default().causes = errors.iter().map(FieldError::cause).collect();
        error
    }

    /// 422 for a request that could not be carried out as asked, such as a JSON patch that does not apply.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// 403: `services "x" is forbidden: WHY`; without a name `services is forbidden: WHY`.
    pub fn forbidden(resource: &ResourceName, name: &str, why: &str) -> Self {
        let message = match (resource.to_string().as_str(), name) {
            ("", _) => format!("forbidden: {why}"),
            (resource, "") => format!("{resource} is forbidden: {why}"),
            (resource, name) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    /// 403 for creating in a namespace that is being deleted.
    pub fn namespace_terminating(resource: &ResourceName, name: &str, namespace: &str) -> Self {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        Self::forbidden(resource, name, &why).with_cause(json!({
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }))
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 405: `the server does not allow this method on the requested resource`.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .about(&ResourceName::default(), "")
    }

    /// 410 for a watch or a list page from a revision that is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415: the body's media type is not one of the accepted ones.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 406: none of the media types that the client accepts can be written.
    pub fn not_acceptable(available: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", available.join(", "));
        Self::new(406, "NotAcceptable", message)
    }

    /// 504.
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", message.into()))
            .with_retry_after(retry_after_seconds)
    }

    /// 504 for a revision that has not been reached yet.
    pub fn resource_version_too_large(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        Self::timeout(message, 1).with_cause(json!({
            "reason": "ResourceVersionTooLarge",
            "message": "Too large resource version",
        }))
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).with_retry_after(retry_after_seconds)
    }

    /// 429 for an eviction that a budget forbids. Without a time to come back: clients that evict have their own.
    pub(crate) fn budget_exceeded(why: &str) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        Self::new(429, "TooManyRequests", message)
            .with_cause(json!({ "reason": "DisruptionBudget", "message": why }))
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 500. The message goes to the client: say nothing here that belongs in the log only.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
            .with_cause(json!({ "message": message }))
    }

    /// The HTTP status, 400 or above.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// `NotFound`, `Conflict`, …
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Seconds for the `Retry-After` header.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0)
    }

    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some(map) = status.as_object_mut().filter(|_| self.reason.is_empty()) {
            map.remove("reason");
        }
        if let Some(details) = &self.details {
            status["details"] = details.to_value();
        }
        status
    }
}

impl serde::Serialize for ApiError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let texts =
            [("name", &*self.name), ("group", &*self.group), ("kind", &*self.kind), ("uid", &*self.uid)];
        let mut map: Map<String, Value> = texts
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(key, text)| (key.to_owned(), json!(text)))
            .collect();
        if !self.causes.is_empty() {
            map.insert("causes".to_owned(), json!(self.causes));
        }
        if self.retry_after_seconds > 0 {
            map.insert("retryAfterSeconds".to_owned(), json!(self.retry_after_seconds));
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> ResourceName {
        ResourceName::new("", "services")
    }

    #[test]
    fn not_found_names_the_group() {
        let error = ApiError::not_found(&ResourceName::new("apps", "deployments"), "nope");
        assert_eq!(
            error.to_value(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "deployments.apps \"nope\" not found", "reason": "NotFound", "code": 404,
                "details": { "name": "nope", "group": "apps", "kind": "deployments" },
            })
        );
    }

    #[test]
    fn invalid_lists_its_causes() {
        let kind = ResourceName::new("", "Service");
        let one = [FieldError::required("spec.ports", "")];
        let error = ApiError::invalid(&kind, "b1", &one);
        assert_eq!(error.message(), r#"Service "b1" is invalid: spec.ports: Required value"#);
        assert_eq!(
            error.to_value()["details"]["causes"],
            json!([{ "reason": "FieldValueRequired", "message": "Required value", "field": "spec.ports" }])
        );
        let two = [FieldError::required("a", ""), FieldError::forbidden("b", "no")];
        assert_eq!(
            ApiError::invalid(&kind, "b1", &two).message(),
            r#"Service "b1" is invalid: [a: Required value, b: Forbidden: no]"#
        );
    }

    #[test]
    fn forbidden_with_and_without_a_name() {
        let message = |resource, name| ApiError::forbidden(&resource, name, "no").message().to_owned();
        assert_eq!(message(services(), "web"), r#"services "web" is forbidden: no"#);
        assert_eq!(message(services(), ""), "services is forbidden: no");
        assert_eq!(message(ResourceName::default(), ""), "forbidden: no");
    }

    #[test]
    fn future_revisions_say_when_to_come_back() {
        let error = ApiError::resource_version_too_large(9, 5);
        let value = error.to_value();
        assert_eq!(error.code(), 504);
        assert_eq!(value["message"], "Timeout: Too large resource version: 9, current: 5");
        assert_eq!(value["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(error.retry_after_seconds(), Some(1));
    }

    #[test]
    fn every_error_is_a_failure() {
        let all = [
            ApiError::unauthorized(),
            ApiError::bad_request("x"),
            ApiError::method_not_allowed(),
            ApiError::expired("x"),
            ApiError::gone("x"),
            ApiError::too_large("x"),
            ApiError::unsupported_media_type(&["application/json"]),
            ApiError::not_acceptable(&["application/json"]),
            ApiError::too_many_requests("x", 1),
            ApiError::service_unavailable("x"),
            ApiError::internal("x"),
            ApiError::modified(&services(), "x"),
            ApiError::already_exists(&services(), "x"),
            ApiError::namespace_terminating(&services(), "x", "ns"),
        ];
        for error in all {
            assert!(error.code() >= 400, "{error}");
            assert_eq!(error.to_value()["status"], "Failure", "{error}");
        }
    }
}
