//! GET `/svcd.io/v1/snapshot`: the whole store at one revision, in the store's own format. The authority's key is not in it:
//! that never crosses the API.

use std::convert::Infallible;

use axum::body::Body;
use futures::stream;
use http::StatusCode;
use svcd_store::ListRequest;
use svcd_store::snapshot::pieces;

use crate::errors::Failure;
use crate::represent::json_response;
use crate::server::ApiServer;

/// Whether a key of the store is an object's, and not a note of the server's own.
#[must_use]
pub fn is_object(key: &str) -> bool {
    key.starts_with("/objects/")
}

impl ApiServer {
    /// Writes go on meanwhile; what the answer holds of memory is what they change.
    pub(crate) async fn snapshot(&self) -> Result<http::Response<Body>, Failure> {
        let page = self.store.list(ListRequest::default()).await?;
        let now = jiff::Timestamp::now().as_second().try_into().unwrap_or(0);
        let body = stream::iter(pieces(page, now, Vec::new()).map(Ok::<_, Infallible>));
        Ok(json_response(StatusCode::OK, "application/octet-stream", Body::from_stream(body)))
    }
}
