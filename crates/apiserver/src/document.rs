//! Finished documents (discovery, OpenAPI): built once, served with an entity tag, so that a client's cache is answered
//! with 304.

use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A document and its tag.
pub(crate) struct Document {
    body: Bytes,
    content_type: &'static str,
    /// The tag, without quotes; also the `hash` in OpenAPI's addresses.
    pub(crate) hash: String,
}

impl Document {
    pub(crate) fn json(value: &Value) -> Self {
        Self::new(value.to_string().into(), "application/json")
    }

    pub(crate) fn new(body: Bytes, content_type: &'static str) -> Self {
        let digest = Sha256::digest(&body);
        let hash = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Self { body, content_type, hash }
    }

    /// The document, or 304 to a client that has it.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Response<Body> {
        let tag = format!("\"{}\"", self.hash);
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
        let fresh = known.flat_map(|v| v.split(',')).any(|t| t.trim().trim_start_matches("W/") == tag);
        let (status, body) = if fresh {
            (StatusCode::NOT_MODIFIED, Body::empty())
        } else {
            (StatusCode::OK, Body::from(self.body.clone()))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(ETAG, HeaderValue::from_str(&tag).expect("hexadecimal in quotes"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        response
    }
}
