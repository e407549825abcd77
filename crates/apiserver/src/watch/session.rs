//! One running watch: what is sent first, then what happens, until its time is up, the server closes or something fails.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use svcd_store::{Batch, Event, ReadError, Record, Revision, Watch};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::frames::{self, Change, Seen, TAIL};
use crate::admission::WatchPermit;
use crate::errors::Failure;
use crate::filter::Filter;
use crate::negotiate::Form;
use crate::record;
use crate::represent::{IncludeObject, View};
use crate::resources::Resource;
use crate::server::ApiServer;

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How much of the initial state is put into one chunk.
const CHUNK: usize = 64 * 1024;

/// One running watch.
pub(super) struct Session {
    pub(super) server: Arc<ApiServer>,
    pub(super) resource: Arc<Resource>,
    pub(super) filter: Filter,
    pub(super) form: Form,
    pub(super) include: IncludeObject,
    pub(super) bookmarks: bool,
    pub(super) clock: Clock,
    /// What is still to be sent of the state at the beginning.
    pub(super) initial: std::vec::IntoIter<Arc<Record>>,
    /// The revision of the bookmark that ends the initial state, until it has been sent.
    pub(super) initial_end: Option<Revision>,
    /// Nothing up to here is sent.
    pub(super) after: Revision,
    pub(super) watch: Option<Box<dyn Watch>>,
    pub(super) pending: VecDeque<Bytes>,
    pub(super) columns_sent: bool,
    pub(super) ended: bool,
    pub(super) _permit: WatchPermit,
}

/// What a watch waits for besides events. It lasts as long as the watch: to set up a timer for every batch of events would
/// be the better part of sending one.
pub(super) struct Clock {
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Pin<Box<Sleep>>,
    bookmark: Pin<Box<Sleep>>,
}

impl Clock {
    pub(super) fn new(closing: CancellationToken, deadline: Instant) -> Self {
        Self {
            closing: Box::pin(closing.cancelled_owned()),
            deadline: Box::pin(tokio::time::sleep_until(deadline)),
            bookmark: Box::pin(tokio::time::sleep(BOOKMARK_EVERY)),
        }
    }
}

enum Turn {
    Batch(Result<Batch, ReadError>),
    Bookmark,
    Timeout,
    Closing,
}

impl Session {
    /// The next piece of the body; `None` ends it.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.initial_chunk() {
                return Some(chunk);
            }
            if let Some(frame) = self.pending.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            match self.turn().await {
                Turn::Batch(Ok(batch)) => self.take(&batch),
                Turn::Batch(Err(ReadError::Closed)) | Turn::Closing => self.ended = true,
                Turn::Batch(Err(error)) => self.fail(&error.into()),
                Turn::Bookmark => self.bookmark(),
                Turn::Timeout => {
                    self.bookmark();
                    self.ended = true;
                }
            }
        }
    }

    /// Waits for whatever comes first.
    async fn turn(&mut self) -> Turn {
        let Some(watch) = &mut self.watch else { return Turn::Closing };
        tokio::select! {
            biased;
            () = &mut self.clock.closing => Turn::Closing,
            batch = watch.next() => Turn::Batch(batch),
            () = &mut self.clock.deadline => Turn::Timeout,
            () = &mut self.clock.bookmark, if self.bookmarks => Turn::Bookmark,
        }
    }

    /// A chunk of ADDED events for the state at the beginning, with the bookmark that ends it.
    fn initial_chunk(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.len() < CHUNK {
            let Some(record) = self.initial.next() else {
                if let Some(revision) = self.initial_end.take() {
                    self.write_bookmark(&mut out, revision, true);
                }
                break;
            };
            self.write_frame(&mut out, Change::Added, &record.value);
        }
        (!out.is_empty()).then(|| out.into())
    }

    fn take(&mut self, batch: &Batch) {
        let new = batch.events.iter().filter(|event| event.revision > self.after);
        let seen: Vec<Seen<'_>> =
            new.filter_map(|event| Some(Seen { event, change: self.change(event)? })).collect();
        self.after = self.after.max(batch.revision);
        if self.is_as_stored() {
            self.share(&seen);
        } else {
            seen.iter().for_each(|seen| self.render(seen));
        }
    }

    /// What this watcher sees of an event.
    fn change(&self, event: &Event) -> Option<Change> {
        let before = event.previous.as_deref().filter(|r| self.filter.matches(&self.resource, r));
        let after = if event.deleted { None } else { Some(&*event.record) };
        let after = after.filter(|r| self.filter.matches(&self.resource, r));
        match (before.is_some(), after.is_some()) {
            (false, false) => None,
            (false, true) => Some(Change::Added),
            (true, true) => Some(Change::Modified),
            (true, false) => Some(Change::Deleted),
        }
    }

    /// What is served as it is stored is the same for all watchers.
    fn is_as_stored(&self) -> bool {
        self.form == Form::Whole && self.resource.kind.renamed().is_none()
    }

    /// Queues events whose bytes are shared. What is large is queued in pieces, so that thousands of watchers that do not
    /// read hold one copy of it between them.
    fn share(&mut self, seen: &[Seen<'_>]) {
        for run in frames::runs(seen) {
            match run {
                [large] if large.is_large() => {
                    let value = self.value(large);
                    let pieces = [Bytes::from_static(large.change.head()), value, Bytes::from_static(TAIL)];
                    self.pending.extend(pieces);
                }
                run => {
                    let bytes = self.server.runs.get(run, || self.whole_frames(run));
                    self.pending.push_back(bytes);
                }
            }
        }
    }

    fn whole_frames(&self, run: &[Seen<'_>]) -> Bytes {
        let mut out = Vec::with_capacity(run.iter().map(Seen::length).sum());
        for seen in run {
            out.extend_from_slice(seen.change.head());
            out.extend_from_slice(&self.value(seen));
            out.extend_from_slice(TAIL);
        }
        out.into()
    }

    /// Queues an event in a form that is this watcher's own.
    fn render(&mut self, seen: &Seen<'_>) {
        let mut out = Vec::new();
        let value = self.value(seen);
        self.write_frame(&mut out, seen.change, &value);
        self.pending.push_back(out.into());
    }

    /// The state that is shown: the new one, the one it was deleted in, or, for an object that no longer matches, the
    /// last one that did, at the revision of the change.
    fn value(&self, Seen { event, change }: &Seen<'_>) -> Bytes {
        match event.previous.as_deref() {
            Some(previous) if *change == Change::Deleted && !event.deleted => {
                record::at_revision(&self.resource, previous, event.revision)
            }
            _ => event.record.value.clone(),
        }
    }

    fn write_frame(&mut self, out: &mut Vec<u8>, change: Change, value: &[u8]) {
        out.extend_from_slice(change.head());
        let view = View { resource: &self.resource, form: self.form, include: self.include };
        view.write_single(out, value, !self.columns_sent);
        self.columns_sent = true;
        out.extend_from_slice(TAIL);
    }

    fn bookmark(&mut self) {
        self.clock.bookmark.as_mut().reset(Instant::now() + BOOKMARK_EVERY);
        let Some(watch) = self.watch.as_ref().filter(|_| self.bookmarks) else { return };
        // A revision that the store has not come to is promised to nobody.
        let reached = watch.progress();
        if reached >= self.after {
            let mut frame = Vec::new();
            self.write_bookmark(&mut frame, reached, false);
            self.pending.push_back(frame.into());
        }
    }

    /// A bookmark is an object of the watched kind with nothing but a revision, in the form that all others have.
    fn write_bookmark(&mut self, out: &mut Vec<u8>, revision: Revision, ends_initial: bool) {
        let note = if ends_initial { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
        let object = format!(r#"{}{revision}"{note}}}}}"#, self.resource.head);
        self.write_frame(out, Change::Bookmark, object.as_bytes());
    }

    /// Tells the client what went wrong, as the last thing it hears.
    pub(super) fn fail(&mut self, error: &Failure) {
        let event: Value = json!({ "type": "ERROR", "object": error.to_value() });
        self.pending.push_back(format!("{event}\n").into());
        self.ended = true;
    }
}
