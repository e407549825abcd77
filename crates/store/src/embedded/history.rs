//! The events of the recent past, in order: what watches read, and what takes a list back to an older revision.
//!
//! Promises: holds every event after [`History::oldest`], none before it, and never a part of a revision.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::{Event, Record, Revision};

/// How much of the past is kept. Events leave when they are older than `age`, or earlier when there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Events are kept this long, if the other bounds allow it.
    pub age: Duration,
    /// At most about this many events.
    pub events: usize,
    /// At most about this many bytes of memory.
    pub bytes: usize,
}

impl Default for HistoryBounds {
    fn default() -> Self {
        Self { age: Duration::from_secs(600), events: 200_000, bytes: 48 << 20 }
    }
}

/// A wall clock in milliseconds: ages must mean something after a restart.
pub(super) type Millis = u64;

/// An event in the history.
#[derive(Debug)]
pub(super) struct Kept {
    event: Arc<Event>,
    time: Millis,
    cost: usize,
}

impl Kept {
    pub(super) fn event(&self) -> &Arc<Event> {
        &self.event
    }
}

#[derive(Debug)]
pub(super) struct History {
    events: VecDeque<Kept>,
    bytes: usize,
    oldest: Revision,
}

impl History {
    pub(super) fn starting_at(oldest: Revision) -> Self {
        Self { events: VecDeque::new(), bytes: 0, oldest }
    }

    /// The oldest revision whose state is known: every event after it is here.
    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }

    pub(super) fn push(&mut self, event: Arc<Event>, time: Millis) {
        let cost = cost(&event);
        self.bytes += cost;
        self.events.push_back(Kept { event, time, cost });
    }

    /// Lets go of what is out of bounds, whole revisions at a time, and hands it out to be freed outside of locks.
    pub(super) fn trim(&mut self, bounds: &HistoryBounds, now: Millis) -> Vec<Kept> {
        let age = Millis::try_from(bounds.age.as_millis()).unwrap_or(Millis::MAX);
        let expired = now.saturating_sub(age);
        let mut gone = Vec::new();
        while let Some(front) = self.events.front() {
            let crowded = self.events.len() > bounds.events || self.bytes > bounds.bytes;
            let torn = front.event.revision == self.oldest;
            if !torn && !crowded && front.time >= expired {
                break;
            }
            self.oldest = front.event.revision;
            self.bytes -= front.cost;
            gone.extend(self.events.pop_front());
        }
        gone
    }

    /// The events after a revision, in order.
    pub(super) fn after(&self, revision: Revision) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let start = self.events.partition_point(|kept| kept.event.revision <= revision);
        self.events.range(start..).map(|kept| &kept.event)
    }

    /// What the keys under a prefix that have changed since `revision` were then; `None` for those not yet there.
    pub(super) fn undo(&self, revision: Revision, prefix: &str) -> BTreeMap<&str, Option<&Arc<Record>>> {
        // Newest first: the last one to speak for a key is the first event after the revision.
        self.after(revision)
            .rev()
            .filter(|event| event.record.key.starts_with(prefix))
            .map(|event| (&*event.record.key, event.previous.as_ref()))
            .collect()
    }
}

/// What an event costs in memory, about: its record (the previous one is another event's) and the bookkeeping.
fn cost(event: &Event) -> usize {
    const OVERHEAD: usize = 256;
    event.record.key.len() + event.record.value.len() + event.record.meta.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn event(revision: u64) -> Arc<Event> {
        let revision = Revision(revision);
        let record = Record {
            key: "k".into(),
            value: Bytes::new(),
            meta: Bytes::new(),
            created: revision,
            modified: revision,
        };
        Arc::new(Event { revision, deleted: false, record: Arc::new(record), previous: None })
    }

    /// Revisions 2 to 11 of two events each, one a second.
    fn history() -> History {
        let mut history = History::starting_at(Revision(1));
        for revision in 2..=11 {
            for _ in 0..2 {
                history.push(event(revision), revision * 1000);
            }
        }
        history
    }

    fn kept(history: &History) -> Vec<u64> {
        history.after(Revision(0)).map(|event| event.revision.0).collect()
    }

    const ROOMY: HistoryBounds =
        HistoryBounds { age: Duration::from_secs(60), events: 100, bytes: usize::MAX };

    #[test]
    fn what_is_within_bounds_stays() {
        let mut history = history();
        assert!(history.trim(&ROOMY, 11_000).is_empty());
        assert_eq!((history.oldest(), kept(&history).len()), (Revision(1), 20));
        // A clock that was set back takes nothing.
        assert!(history.trim(&ROOMY, 0).is_empty());
    }

    #[test]
    fn old_events_leave() {
        let mut history = history();
        history.trim(&HistoryBounds { age: Duration::from_secs(3), ..ROOMY }, 11_500);
        assert_eq!((history.oldest(), kept(&history)), (Revision(8), vec![9, 9, 10, 10, 11, 11]));
        history.trim(&ROOMY, 1_000_000);
        assert_eq!((history.oldest(), kept(&history)), (Revision(11), vec![]));
    }

    #[test]
    fn revisions_leave_whole() {
        let mut history = history();
        let gone = history.trim(&HistoryBounds { events: 5, ..ROOMY }, 11_000);
        assert_eq!((gone.len(), history.oldest(), kept(&history)), (16, Revision(9), vec![10, 10, 11, 11]));
    }

    #[test]
    fn bytes_are_counted() {
        let mut history = history();
        let each = cost(&event(2));
        history.trim(&HistoryBounds { bytes: 4 * each, ..ROOMY }, 11_000);
        assert_eq!((kept(&history).len(), history.bytes), (4, 4 * each));
    }
}
