//! The end of a request is the end of its answer's body: that is when the log says it, with a copy of the body where it
//! is wanted.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::Response;

use super::Record;
use super::event::LARGEST_BODY;

/// The same answer; when its body has been sent, or given up, the record is said.
pub(crate) fn tap(response: Response<Body>, record: Record) -> Response<Body> {
    let copied = record.wants_response().then(BytesMut::new);
    response.map(|body| Body::new(Tap { body, copied, too_large: false, record }))
}

struct Tap {
    body: Body,
    /// What has been sent, as far as it is wanted.
    copied: Option<BytesMut>,
    too_large: bool,
    record: Record,
}

impl Tap {
    fn copy(&mut self, piece: &Bytes) {
        if let Some(copied) = &mut self.copied {
            self.too_large |= copied.len() + piece.len() > LARGEST_BODY;
            if self.too_large {
                self.copied = None;
            } else {
                copied.extend_from_slice(piece);
            }
        }
    }
}

impl HttpBody for Tap {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(piece) = frame.data_ref()
        {
            self.copy(&piece.clone());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if self.too_large {
            self.record.response(None);
        } else if let Some(copied) = self.copied.take() {
            self.record.response(Some(copied.freeze()));
        }
    }
}
