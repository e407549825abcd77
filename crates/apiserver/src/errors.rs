//! Refusals on their way to the client: `svcd_api`'s Status errors, and the little that HTTP wants beyond them. What is
//! internal goes to the log and not to the client.

use axum::body::Body;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;
use svcd_api::apply::Conflict;
use svcd_api::field::FieldError;
use svcd_api::kind::KindInfo;
use svcd_api::{ApiError, ResourceName};
use svcd_store::{CommitError, ReadError, Revision};

use crate::represent::{json_response, value_response};

/// A refused request.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<ApiError>,
    code: StatusCode,
    continue_token: Option<String>,
    /// Instead of the error's own.
    message: Option<String>,
    /// Sent as `text/plain` instead of a Status: what upstream does for paths that it does not serve.
    plain: bool,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { error: Box::new(error), code, continue_token: None, message: None, plain: false }
    }
}

impl Failure {
    fn coded(mut self, code: StatusCode) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn with_continue(mut self, token: String) -> Self {
        self.continue_token = Some(token);
        self
    }

    pub(crate) fn code(&self) -> StatusCode {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_else(|| self.error.message())
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        ApiError::bad_request(message).into()
    }

    pub(crate) fn unauthorized() -> Self {
        ApiError::unauthorized().into()
    }

    /// `services "x" is forbidden: WHY`.
    pub(crate) fn forbidden(info: &KindInfo, name: &str, why: &str) -> Self {
        ApiError::forbidden(&info.into(), name, why).into()
    }

    pub(crate) fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        let why = format!("User {user:?} cannot {verb} path {path:?}");
        ApiError::forbidden(&ResourceName::default(), "", &why).into()
    }

    /// A create in a namespace that is on its way out.
    pub(crate) fn terminating(info: &KindInfo, name: &str, namespace: &str) -> Self {
        ApiError::namespace_terminating(&info.into(), name, namespace).into()
    }

    pub(crate) fn not_found(info: &KindInfo, name: &str) -> Self {
        ApiError::not_found(&info.into(), name).into()
    }

    /// A kind or subresource that a served version of a group does not have. kubectl shows the message of a `Status`;
    /// of a plain 404 it makes a longer one.
    pub(crate) fn no_such_resource() -> Self {
        ApiError::no_such_path().into()
    }

    /// A path that the server does not have.
    pub(crate) fn no_such_path() -> Self {
        Self { plain: true, ..ApiError::no_such_path().into() }
    }

    pub(crate) fn method_not_allowed() -> Self {
        ApiError::method_not_allowed().into()
    }

    /// 405 for what a pod does that no node here does yet.
    pub(crate) fn pods_cannot(what: &str) -> Self {
        let message = format!("svcd does not serve pods/{what} yet: look at the pod on its node");
        Self { message: Some(message), ..ApiError::method_not_allowed().into() }
    }

    pub(crate) fn not_acceptable(available: &[&str]) -> Self {
        ApiError::not_acceptable(available).into()
    }

    pub(crate) fn unsupported_media_type(accepted: &[&str]) -> Self {
        ApiError::unsupported_media_type(accepted).into()
    }

    /// 415 with a sentence of its own.
    pub(crate) fn unsupported(message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..ApiError::unsupported_media_type(&[]).into() }
    }

    pub(crate) fn already_exists(info: &KindInfo, name: &str) -> Self {
        ApiError::already_exists(&info.into(), name).into()
    }

    /// `Operation cannot be fulfilled on services "x": WHY`.
    pub(crate) fn conflict(info: &KindInfo, name: &str, why: &str) -> Self {
        ApiError::conflict(&info.into(), name, why).into()
    }

    /// An apply that would take fields from others.
    pub(crate) fn apply_conflict(conflicts: &[Conflict]) -> Self {
        ApiError::apply_conflict(conflicts).into()
    }

    /// A configuration that does not fit its type.
    pub(crate) fn untyped(message: String) -> Self {
        ApiError::unexplained(message).into()
    }

    /// A write against another version than the stored one.
    pub(crate) fn modified(info: &KindInfo, name: &str) -> Self {
        ApiError::modified(&info.into(), name).into()
    }

    /// `Service "x" is invalid: …`, with a cause for each field.
    pub(crate) fn invalid(
        group: &'static str,
        kind: &'static str,
        name: &str,
        errors: &[FieldError],
    ) -> Self {
        ApiError::invalid(&ResourceName::new(group, kind), name, errors).into()
    }

    /// A patch that fits the syntax but not the object.
    pub(crate) fn patch_rejected() -> Self {
        ApiError::unprocessable("the server rejected our request due to an error in our request").into()
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        ApiError::expired(message).into()
    }

    pub(crate) fn too_old(requested: Revision, oldest: Revision) -> Self {
        Self::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    pub(crate) fn too_large_revision(requested: Revision, current: Revision) -> Self {
        ApiError::resource_version_too_large(requested.0, current.0).into()
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        ApiError::too_large(format!("Request entity too large: limit is {limit}")).into()
    }

    pub(crate) fn timeout(why: &str) -> Self {
        ApiError::timeout(why, 0).into()
    }

    pub(crate) fn body_timeout() -> Self {
        let error = ApiError::timeout("the body of the request did not arrive in time", 1);
        Self::from(error).coded(StatusCode::REQUEST_TIMEOUT)
    }

    pub(crate) fn too_many_requests() -> Self {
        let message = "the server has received too many requests and has asked us to try again later";
        ApiError::too_many_requests(message, 1).into()
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        ApiError::service_unavailable(message).with_retry_after(1).into()
    }

    /// The client is told this much; say the rest in the log.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        ApiError::internal(message).into()
    }

    /// The Status object.
    pub(crate) fn to_value(&self) -> Value {
        let mut status = self.error.to_value();
        status["code"] = self.code.as_u16().into();
        status["message"] = self.message().into();
        if let Some(token) = &self.continue_token {
            status["metadata"]["continue"] = token.as_str().into();
        }
        status
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let status = self.to_value();
        let mut response = if self.plain {
            json_response(self.code, "text/plain; charset=utf-8", "404 page not found\n")
        } else {
            self.status_response(&status)
        };
        response.extensions_mut().insert(Refusal(status));
        response
    }

    fn status_response(&self, status: &Value) -> Response<Body> {
        let mut response = value_response(self.code, status);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.error.retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The Status of a refusal, beside the answer that carries it: for the logs.
#[derive(Clone)]
pub(crate) struct Refusal(pub(crate) Value);

impl Refusal {
    pub(crate) fn message(&self) -> Option<&str> {
        self.0["message"].as_str()
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Compacted { requested, oldest } => Self::too_old(requested, oldest),
            ReadError::Future { requested, current } => Self::too_large_revision(requested, current),
            ReadError::Closed => Self::unavailable("the server is shutting down"),
            ReadError::Engine(why) => {
                tracing::error!(%why, "the store cannot be read");
                Self::internal("the store cannot be read")
            }
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict { key, .. } => {
                tracing::warn!(%key, "a write kept losing against other writers");
                Self::unavailable("the object kept changing while it was being written; try again")
            }
            CommitError::Full(why) => {
                tracing::debug!(%why, "no space left for the store");
                // No time to try again after: it takes somebody to make room.
                Self::from(ApiError::service_unavailable(
                    "the server's disk is full; free some space on it and try again",
                ))
                .coded(StatusCode::INSUFFICIENT_STORAGE)
            }
            CommitError::Invalid(why) => {
                tracing::error!(%why, "a transaction is malformed");
                Self::internal("the write could not be put into one transaction")
            }
            CommitError::Closed => Self::unavailable("the server is shutting down"),
            CommitError::Engine(why) => {
                tracing::error!(%why, "the store cannot be written");
                Self::internal("the store cannot be written")
            }
        }
    }
}
