//! Watches. Order: list, then watch from the list's revision; the store keeps its history, so nothing falls between.
//! A frame is built once for each event and shared by all watchers that see it the same way. A watcher that does not
//! read is told 410 when the history has moved past it; nobody waits for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use rand::RngExt as _;
use serde_json::{Value, json};
use svcd_store::{Batch, Event, ReadError, Record, Revision, Watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::WatchPermit;
use crate::call::Call;
use crate::errors::Failure;
use crate::filter::Filter;
use crate::negotiate::Form;
use crate::query::{ListOptions, Since};
use crate::record;
use crate::represent::{IncludeObject, View, json_response};
use crate::resources::Resource;
use crate::sending;
use crate::server::ApiServer;

/// A watch whose client does not even read its end is given up this long after it.
const STUCK: Duration = Duration::from_secs(60);
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How much of the initial state is put into one chunk.
const CHUNK: usize = 64 * 1024;

impl ApiServer {
    /// GET with `watch=true`.
    pub(crate) async fn watch(
        self: &Arc<Self>,
        call: &Call,
        permit: WatchPermit,
        closing: CancellationToken,
    ) -> Result<Response<Body>, Failure> {
        let options = ListOptions::parse(&call.query, true)?;
        let filter = Filter::new(&call.target, &options)?;
        let view = View::new(&call.target.resource, call.form, &call.query)?;
        let (form, include) = (view.form, view.include);
        let opening = self.open_watch(call, &filter, &options).await?;
        let mut session = Session {
            server: Arc::clone(self),
            resource: Arc::clone(&call.target.resource),
            filter,
            form,
            include,
            bookmarks: options.bookmarks,
            closing,
            deadline: Instant::now() + options.timeout.unwrap_or_else(default_timeout),
            next_bookmark: Instant::now() + BOOKMARK_EVERY,
            initial: opening.initial.into_iter(),
            initial_end: opening.end_bookmark,
            after: opening.after,
            watch: None,
            pending: VecDeque::new(),
            columns_sent: false,
            ended: false,
            _permit: permit,
        };
        match opening.watch {
            Ok(watch) => session.watch = Some(watch),
            Err(error) => session.fail(&error.into()),
        }
        let given_up = session.deadline + STUCK;
        let frames = stream::unfold(session, |mut session| async move {
            session.next().await.map(|frame| (Ok::<_, Infallible>(frame), session))
        });
        let body = sending::until(Body::from_stream(frames), given_up, ());
        Ok(json_response(StatusCode::OK, &form.content_type(), body))
    }

    /// Finds out where a watch begins, and what it sends first.
    async fn open_watch(
        &self,
        call: &Call,
        filter: &Filter,
        options: &ListOptions,
    ) -> Result<Opening, Failure> {
        let send_initial = options.send_initial_events;
        let from_state = match (send_initial, options.since) {
            (Some(wanted), _) => wanted,
            (None, Since::At(_)) => false,
            (None, Since::Latest | Since::Any) => true,
        };
        if from_state {
            if let Since::At(wanted) = options.since {
                self.reach(wanted).await?;
            }
            let newest = ListOptions { since: Since::Any, matching: None, limit: 0, ..options.clone() };
            let found = self.find(&call.target.resource, filter, &newest).await?;
            let end_bookmark = (send_initial == Some(true) && options.bookmarks).then_some(found.revision);
            let watch = self.store.watch(&filter.prefix, found.revision).await;
            return Ok(Opening { initial: found.records, end_bookmark, after: found.revision, watch });
        }
        let current = self.store.revision();
        let after = match options.since {
            Since::At(wanted) => wanted,
            Since::Latest | Since::Any => current,
        };
        // A revision that is still to come is waited for: events up to it are left out by the session.
        let watch = self.store.watch(&filter.prefix, after.min(current)).await;
        Ok(Opening { initial: Vec::new(), end_bookmark: None, after, watch })
    }
}

/// Upstream's: between half an hour and an hour, so that clients do not all come back at once.
fn default_timeout() -> Duration {
    Duration::from_secs(rand::rng().random_range(1800..3600))
}

struct Opening {
    initial: Vec<Arc<Record>>,
    end_bookmark: Option<Revision>,
    after: Revision,
    watch: Result<Box<dyn Watch>, ReadError>,
}

/// One running watch.
struct Session {
    server: Arc<ApiServer>,
    resource: Arc<Resource>,
    filter: Filter,
    form: Form,
    include: IncludeObject,
    bookmarks: bool,
    closing: CancellationToken,
    deadline: Instant,
    next_bookmark: Instant,
    /// What is still to be sent of the state at the beginning.
    initial: std::vec::IntoIter<Arc<Record>>,
    /// The revision of the bookmark that ends the initial state, until it has been sent.
    initial_end: Option<Revision>,
    /// Nothing up to here is sent.
    after: Revision,
    watch: Option<Box<dyn Watch>>,
    pending: VecDeque<Bytes>,
    columns_sent: bool,
    ended: bool,
    _permit: WatchPermit,
}

enum Turn {
    Batch(Result<Batch, ReadError>),
    Bookmark,
    Timeout,
    Closing,
}

impl Session {
    /// The next piece of the body; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
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
            () = self.closing.cancelled() => Turn::Closing,
            batch = watch.next() => Turn::Batch(batch),
            () = tokio::time::sleep_until(self.deadline) => Turn::Timeout,
            () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => Turn::Bookmark,
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
        for event in &batch.events {
            if event.revision > self.after
                && let Some(change) = self.change(event)
            {
                self.push(event, change);
            }
        }
        self.after = self.after.max(batch.revision);
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

    /// Queues an event. What is large is queued in pieces, so that thousands of watchers that do not read hold one copy
    /// of it between them.
    fn push(&mut self, event: &Event, change: Change) {
        // What is served as it is stored is shared.
        if self.form != Form::Whole || self.resource.kind.renamed().is_some() {
            let Some(value) = self.value(event, change) else { return };
            let mut out = Vec::new();
            self.write_frame(&mut out, change, &value);
            self.pending.push_back(out.into());
        } else if event.record.value.len() > LARGEST {
            let Some(value) = self.value(event, change) else { return };
            self.pending.extend([Bytes::from_static(change.head()), value, Bytes::from_static(b"}\n")]);
        } else {
            let frame = self.server.frames.get(event, change, || {
                let value = self.value(event, change)?;
                Some(whole_frame(change, &value))
            });
            self.pending.extend(frame);
        }
    }

    /// The state that is shown: the new one, the one it was deleted in, or, for an object that no longer matches, the
    /// last one that did, at the revision of the change.
    fn value(&self, event: &Event, change: Change) -> Option<Bytes> {
        if change == Change::Deleted && !event.deleted {
            let previous = event.previous.as_deref()?;
            return Some(record::at_revision(&self.resource, previous, event.revision));
        }
        Some(event.record.value.clone())
    }

    fn write_frame(&mut self, out: &mut Vec<u8>, change: Change, value: &[u8]) {
        out.extend_from_slice(change.head());
        let view = View { resource: &self.resource, form: self.form, include: self.include };
        view.write_single(out, value, !self.columns_sent);
        self.columns_sent = true;
        out.extend_from_slice(b"}\n");
    }

    fn bookmark(&mut self) {
        self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
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
    fn fail(&mut self, error: &Failure) {
        let event: Value = json!({ "type": "ERROR", "object": error.to_value() });
        self.pending.push_back(format!("{event}\n").into());
        self.ended = true;
    }
}

/// How a watcher sees an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
    /// Nothing has changed, up to here.
    Bookmark,
}

impl Change {
    fn head(self) -> &'static [u8] {
        match self {
            Self::Added => br#"{"type":"ADDED","object":"#,
            Self::Modified => br#"{"type":"MODIFIED","object":"#,
            Self::Deleted => br#"{"type":"DELETED","object":"#,
            Self::Bookmark => br#"{"type":"BOOKMARK","object":"#,
        }
    }
}

fn whole_frame(change: Change, value: &[u8]) -> Bytes {
    [change.head(), value, b"}\n"].concat().into()
}

/// The newest frames, so that the watchers of an event share one buffer instead of building one each.
pub(crate) struct Frames {
    slots: Vec<Mutex<Option<Slot>>>,
}

struct Slot {
    revision: Revision,
    key: Arc<str>,
    change: Change,
    frame: Bytes,
}

const SLOTS: usize = 512;
/// Bigger frames are not kept: the slots stay within 8 MiB.
const LARGEST: usize = 16 * 1024;

impl Frames {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Mutex::new(None)).collect() }
    }

    fn get(&self, event: &Event, change: Change, build: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        let at = usize::try_from(event.revision.0 % SLOTS as u64).expect("less than the number of slots");
        let mut slot = self.slots[at].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = slot
            .as_ref()
            .filter(|s| s.revision == event.revision && s.change == change && s.key == event.record.key);
        if let Some(known) = known {
            return Some(known.frame.clone());
        }
        let frame = build()?;
        if frame.len() <= LARGEST {
            let key = Arc::clone(&event.record.key);
            *slot = Some(Slot { revision: event.revision, key, change, frame: frame.clone() });
        }
        Some(frame)
    }
}
