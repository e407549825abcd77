//! Answers that are sent piece by piece end in bounded time, whether or not the client reads them: when the time is up,
//! what is left of one is dropped, with everything that was held for it, and the client's next read fails.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use axum::body::{Body, HttpBody as _};
use futures::{StreamExt as _, stream};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Is this answer sent in pieces?
pub(crate) fn is_long(body: &Body) -> bool {
    body.size_hint().exact().is_none()
}

/// The same body, given up at a point in time. `held` is dropped with its last piece.
pub(crate) fn until(body: Body, deadline: Instant, held: impl Send + 'static) -> Body {
    let content = Arc::new(Mutex::new(Some((body.into_data_stream(), held))));
    let expiring = Arc::downgrade(&content);
    // A client that reads nothing is not asked again, so the time has to run by itself.
    let timer = AbortOnDropHandle::new(tokio::spawn(async move {
        tokio::time::sleep_until(deadline).await;
        if let Some(expiring) = expiring.upgrade() {
            drop(expiring.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }));
    let mut ended = false;
    Body::from_stream(stream::poll_fn(move |context| {
        let _ = &timer;
        if ended {
            return Poll::Ready(None);
        }
        let mut content = content.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((body, _)) = content.as_mut() else {
            ended = true;
            let late = io::Error::new(io::ErrorKind::TimedOut, "the answer was not read in time");
            return Poll::Ready(Some(Err(axum::Error::new(late))));
        };
        let piece = body.poll_next_unpin(context);
        if matches!(piece, Poll::Ready(None)) {
            ended = true;
            *content = None;
        }
        piece
    }))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http_body_util::BodyExt as _;

    use super::*;

    fn pieces() -> Body {
        Body::from_stream(stream::iter(["a", "b"].map(Ok::<_, Infallible>)))
    }

    #[tokio::test]
    async fn what_is_read_in_time_arrives_whole_and_lets_go_of_what_it_held() {
        let held = Arc::new(());
        assert!(is_long(&pieces()) && !is_long(&Body::from("short")));
        let body = until(pieces(), Instant::now() + Duration::from_secs(60), Arc::clone(&held));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "ab");
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn what_is_not_read_is_dropped_when_the_time_is_up() {
        let held = Arc::new(());
        let mut body = until(pieces(), Instant::now() + Duration::from_secs(60), Arc::clone(&held));
        assert!(body.frame().await.unwrap().is_ok());
        drop(body);
        assert_eq!(Arc::strong_count(&held), 1, "nor does it last when the client goes away");
        let mut body = until(pieces(), Instant::now(), Arc::clone(&held));
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }
}
