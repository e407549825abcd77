//! A running watch: a place in the history. It holds no events of its own, so a slow watcher costs nothing.
//!
//! Promises: whole revisions, in order, once each; progress while its prefix is quiet, without being woken for it. Is
//! overtaken by compaction only when an event that it had still to see is gone: a quiet prefix may be watched for ever.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::interests::Interest;
use super::shared::Shared;
use crate::{Batch, Event, ReadError, Revision, Watch};

/// A batch ends with the revision in which it reaches this many events.
const BATCH: usize = 1000;

pub(super) struct Cursor {
    shared: Arc<Shared>,
    prefix: Arc<str>,
    interest: Arc<Interest>,
    signal: watch::Receiver<()>,
    after: Revision,
}

impl Cursor {
    pub(super) fn start(shared: Arc<Shared>, prefix: &str, after: Revision) -> Result<Self, ReadError> {
        let prefix: Arc<str> = prefix.into();
        let interest = shared.watch(&prefix, after)?;
        let signal = interest.subscribe();
        Ok(Self { shared, prefix, interest, signal, after })
    }

    /// The events that are there already; `None` after having moved on to the newest revision.
    fn take(&mut self) -> Result<Option<Batch>, ReadError> {
        let state = self.shared.open()?;
        let newest = state.revision();
        if self.interest.last() > self.after {
            if self.interest.forgotten() > self.after {
                return Err(ReadError::Compacted { requested: self.after, oldest: state.oldest() });
            }
            let batch = collect(state.events_after(self.after), &self.prefix, newest);
            self.after = batch.revision.max(self.after);
            return Ok((!batch.events.is_empty()).then_some(batch));
        }
        self.after = self.after.max(newest);
        Ok(None)
    }
}

fn collect<'a>(events: impl Iterator<Item = &'a Arc<Event>>, prefix: &str, newest: Revision) -> Batch {
    let mut batch: Vec<Arc<Event>> = Vec::new();
    for event in events.filter(|event| event.record.key.starts_with(prefix)) {
        if batch.len() >= BATCH
            && let Some(last) = batch.last()
            && last.revision < event.revision
        {
            let revision = last.revision;
            return Batch { events: batch, revision };
        }
        batch.push(event.clone());
    }
    Batch { events: batch, revision: newest }
}

#[async_trait]
impl Watch for Cursor {
    async fn next(&mut self) -> Result<Batch, ReadError> {
        loop {
            // Marked as seen before looking, so that what comes after the look ends the wait.
            self.signal.mark_unchanged();
            if let Some(batch) = self.take()? {
                return Ok(batch);
            }
            self.signal.changed().await.map_err(|_| ReadError::Closed)?;
        }
    }

    fn progress(&self) -> Revision {
        let state = self.shared.state();
        if self.interest.last() <= self.after { self.after.max(state.revision()) } else { self.after }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.shared.unwatch(&self.prefix);
    }
}
