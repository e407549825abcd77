//! What a watcher sees of events, as the bytes that are sent. The frames that follow each other are one piece of the body,
//! a run, and watchers that see the same events the same way share one copy of it.
//!
//! Promises: the runs that are kept, and those that a watcher who does not read holds, are at most [`LARGEST`] long; what
//! is larger is sent from the record itself.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use svcd_store::Event;

/// How a watcher sees an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Modified,
    Deleted,
    /// Nothing has changed, up to here.
    Bookmark,
}

/// What ends a frame.
pub(super) const TAIL: &[u8] = b"}\n";

impl Change {
    /// What begins a frame; the object follows.
    pub(super) const fn head(self) -> &'static [u8] {
        match self {
            Self::Added => br#"{"type":"ADDED","object":"#,
            Self::Modified => br#"{"type":"MODIFIED","object":"#,
            Self::Deleted => br#"{"type":"DELETED","object":"#,
            Self::Bookmark => br#"{"type":"BOOKMARK","object":"#,
        }
    }
}

/// An event as a watcher sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) event: &'a Arc<Event>,
    pub(super) change: Change,
}

impl Seen<'_> {
    /// About the length of its frame.
    pub(super) fn length(&self) -> usize {
        self.change.head().len() + self.event.record.value.len() + TAIL.len()
    }

    /// Too large for a run?
    pub(super) fn is_large(&self) -> bool {
        self.length() > LARGEST
    }
}

/// Longest run: a record of TLS.
const LARGEST: usize = 16 * 1024;

/// Cuts events into runs; what is large stands alone. Every watcher of the same events cuts them at the same places.
pub(super) fn runs<'s, 'e>(seen: &'s [Seen<'e>]) -> impl Iterator<Item = &'s [Seen<'e>]> {
    let mut rest = seen;
    std::iter::from_fn(move || {
        let mut length = 0;
        let fits = rest.iter().take_while(|seen| {
            length += seen.length();
            length <= LARGEST
        });
        let (run, after) = rest.split_at_checked(fits.count().max(1))?;
        rest = after;
        Some(run)
    })
}

/// The newest runs, so that the watchers of the same events share one buffer instead of building one each.
pub(crate) struct Runs {
    slots: Vec<Mutex<Option<Run>>>,
}

struct Run {
    events: Vec<(Weak<Event>, Change)>,
    bytes: Bytes,
}

impl Run {
    fn is_of(&self, seen: &[Seen<'_>]) -> bool {
        let same = |((event, change), seen): (&(Weak<Event>, Change), &Seen<'_>)| {
            std::ptr::eq(event.as_ptr(), Arc::as_ptr(seen.event)) && *change == seen.change
        };
        self.events.len() == seen.len() && self.events.iter().zip(seen).all(same)
    }
}

/// All runs together stay within 8 MiB.
const SLOTS: usize = 512;

impl Runs {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Mutex::new(None)).collect() }
    }

    /// The bytes of a run, built by the first who asks for it.
    pub(super) fn get(&self, seen: &[Seen<'_>], build: impl FnOnce() -> Bytes) -> Bytes {
        let mut slot = self.slots[slot_of(seen)].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = slot.as_ref().filter(|run| run.is_of(seen)) {
            return known.bytes.clone();
        }
        let bytes = build();
        let events = seen.iter().map(|seen| (Arc::downgrade(seen.event), seen.change)).collect();
        *slot = Some(Run { events, bytes: bytes.clone() });
        bytes
    }
}

/// Runs that begin with the same revision, of watchers that do not see the same, have different places most of the time.
fn slot_of(seen: &[Seen<'_>]) -> usize {
    let first = seen.first().map_or(0, |seen| seen.event.revision.0);
    usize::try_from(first % SLOTS as u64).map_or(0, |first| (first + 31 * seen.len()) % SLOTS)
}

#[cfg(test)]
mod tests {
    use svcd_store::{Record, Revision};

    use super::*;

    fn event(revision: u64, length: usize) -> Arc<Event> {
        let revision = Revision(revision);
        let record = Record {
            key: "k".into(),
            value: vec![b'x'; length].into(),
            meta: Bytes::new(),
            created: revision,
            modified: revision,
        };
        Arc::new(Event { revision, deleted: false, record: Arc::new(record), previous: None })
    }

    fn added(event: &Arc<Event>) -> Seen<'_> {
        Seen { event, change: Change::Added }
    }

    #[test]
    fn runs_end_where_a_record_of_tls_does_and_what_is_large_stands_alone() {
        let lengths = [10_000, 5_000, 5_000, 20_000, 100, 100];
        let events: Vec<_> = lengths.iter().zip(1..).map(|(length, at)| event(at, *length)).collect();
        let seen: Vec<_> = events.iter().map(added).collect();
        let cut: Vec<usize> = runs(&seen).map(<[_]>::len).collect();
        assert_eq!(cut, [2, 1, 1, 2]);
        assert!(seen[3].is_large() && !seen[0].is_large());
        assert_eq!(runs(&[]).count(), 0);
    }

    #[test]
    fn who_sees_the_same_shares_one_copy() {
        let (known, events) = (Runs::new(), [event(7, 1), event(8, 1)]);
        let seen: Vec<_> = events.iter().map(added).collect();
        let first = known.get(&seen, || Bytes::from(vec![1]));
        let second = known.get(&seen, || unreachable!("it is known"));
        assert_eq!(first.as_ptr(), second.as_ptr());
    }

    #[test]
    fn who_sees_something_else_gets_something_else() {
        let (known, first, twin) = (Runs::new(), event(7, 1), event(7, 1));
        let answer = |seen: &[Seen<'_>], bytes: &'static [u8]| known.get(seen, || Bytes::from_static(bytes));
        assert_eq!(answer(&[added(&first)], b"added"), "added");
        let modified = Seen { event: &first, change: Change::Modified };
        assert_eq!(answer(&[modified], b"modified"), "modified");
        assert_eq!(answer(&[added(&twin)], b"another of that revision"), "another of that revision");
        let more = event(8, 1);
        assert_eq!(answer(&[added(&twin), added(&more)], b"both"), "both");
    }
}
