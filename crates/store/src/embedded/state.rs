//! The store's whole state in memory: the newest records, the history, the revision. Pure: no disk, no locks, no clock.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use super::change::Change;
use super::history::{History, HistoryBounds, Kept, Millis};
use crate::{Event, ListRequest, Page, ReadError, Record, Revision};

/// The revision of a store in which nothing was ever written.
pub(super) const EMPTY: Revision = Revision(1);

#[derive(Debug)]
pub(super) struct State {
    records: BTreeMap<Arc<str>, Arc<Record>>,
    revision: Revision,
    history: History,
    bytes: u64,
}

impl State {
    pub(super) fn empty() -> Self {
        Self::starting_with(BTreeMap::new(), EMPTY)
    }

    /// A state without a past.
    pub(super) fn starting_with(records: BTreeMap<Arc<str>, Arc<Record>>, revision: Revision) -> Self {
        let bytes = records.values().map(|record| size(record)).sum();
        Self { records, revision, history: History::starting_at(revision), bytes }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn oldest(&self) -> Revision {
        self.history.oldest()
    }

    /// The bytes in keys, values and side data of the newest records.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<Record>> {
        self.records.get(key)
    }

    pub(super) fn records(&self) -> impl ExactSizeIterator<Item = &Arc<Record>> {
        self.records.values()
    }

    pub(super) fn events_after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Event>> {
        self.history.after(revision)
    }

    /// Takes one event into the state and the history.
    pub(super) fn apply(&mut self, event: Arc<Event>, time: Millis) {
        if let Some(previous) = &event.previous {
            self.bytes -= size(previous);
        }
        if event.deleted {
            self.records.remove(&event.record.key);
        } else {
            self.bytes += size(&event.record);
            self.records.insert(event.record.key.clone(), event.record.clone());
        }
        self.revision = event.revision;
        self.history.push(event, time);
    }

    /// Does a logged transaction again; hands out the keys it touched.
    pub(super) fn replay(&mut self, revision: Revision, changes: Vec<Change>, time: Millis) -> Vec<Arc<str>> {
        let mut keys = Vec::with_capacity(changes.len());
        for change in changes {
            let previous = self.records.get(change.key()).cloned();
            if let Some(event) = change.event(revision, previous) {
                keys.push(event.record.key.clone());
                self.apply(Arc::new(event), time);
            }
        }
        keys
    }

    pub(super) fn trim(&mut self, bounds: &HistoryBounds, now: Millis) -> Vec<Kept> {
        self.history.trim(bounds, now)
    }

    pub(super) fn list(&self, request: &ListRequest) -> Result<Page, ReadError> {
        let revision = request.at.unwrap_or(self.revision);
        self.readable(revision)?;
        let undone = self.history.undo(revision, &request.prefix);
        let after = request.start_after.as_deref();
        let mut under = Merged {
            newest: self.range(&request.prefix, after).peekable(),
            undone: undone.into_iter().filter(|(key, _)| after.is_none_or(|after| *key > after)).peekable(),
        };
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let records = under.by_ref().take(limit).cloned().collect();
        Ok(Page { records, revision, remaining: under.count() })
    }

    fn readable(&self, revision: Revision) -> Result<(), ReadError> {
        if revision > self.revision {
            return Err(ReadError::Future { requested: revision, current: self.revision });
        }
        self.kept(revision)
    }

    /// Whether everything after a revision is still known.
    pub(super) fn kept(&self, revision: Revision) -> Result<(), ReadError> {
        let oldest = self.oldest();
        if revision < oldest {
            return Err(ReadError::Compacted { requested: revision, oldest });
        }
        Ok(())
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<Record>)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.records
            .range::<str, _>((start, Bound::Unbounded))
            .map(|(key, record)| (&**key, record))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }
}

fn size(record: &Record) -> u64 {
    (record.key.len() + record.value.len() + record.meta.len()) as u64
}

/// The newest records with older ones laid over them, in key order.
struct Merged<N: Iterator, U: Iterator> {
    newest: Peekable<N>,
    undone: Peekable<U>,
}

impl<'a, N, U> Iterator for Merged<N, U>
where
    N: Iterator<Item = (&'a str, &'a Arc<Record>)>,
    U: Iterator<Item = (&'a str, Option<&'a Arc<Record>>)>,
{
    type Item = &'a Arc<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((undone, _)) = self.undone.peek() else {
                return self.newest.next().map(|(_, record)| record);
            };
            if let Some((_, record)) = self.newest.next_if(|(newest, _)| newest < undone) {
                return Some(record);
            }
            self.newest.next_if(|(newest, _)| newest == undone);
            if let Some((_, Some(record))) = self.undone.next() {
                return Some(record);
            }
        }
    }
}
