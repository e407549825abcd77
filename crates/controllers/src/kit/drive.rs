//! The loop of a controller: take a key, make it so, take the next.

use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;

use super::queue::Queue;
use crate::Error;

/// When a key that was brought to its wanted state is to be looked at again without being told to.
pub(crate) type Again = Option<Duration>;

/// Works on the queue's keys for ever, on up to `width` of them at a time.
///
/// A failure is tried again, after 2 ms at first; staleness is no failure worth a warning.
pub(crate) async fn drive<T, F, R>(name: &'static str, queue: Arc<Queue<T>>, width: usize, reconcile: F)
where
    T: Clone + Eq + Hash + Display + Send + 'static,
    F: Fn(T) -> R,
    R: Future<Output = Result<Again, Error>>,
{
    let keys = stream::unfold((), |()| async { Some((queue.next().await, ())) });
    let work = |key: T| {
        let result = reconcile(key.clone());
        let queue = &queue;
        async move {
            settle(name, queue, &key, result.await);
            queue.done(&key);
        }
    };
    keys.for_each_concurrent(width, work).await;
}

fn settle<T>(name: &'static str, queue: &Arc<Queue<T>>, key: &T, result: Result<Again, Error>)
where
    T: Clone + Eq + Hash + Display + Send + 'static,
{
    match result {
        Ok(again) => {
            queue.forget(key);
            if let Some(delay) = again {
                queue.add_after(key.clone(), delay);
            }
        }
        Err(error) => {
            if error.is_stale() {
                tracing::debug!(controller = name, %key, %error, "stale, retrying");
            } else {
                tracing::warn!(controller = name, %key, %error, "reconcile failed, retrying");
            }
            queue.add_after(key.clone(), queue.back_off(key));
        }
    }
}
