//! The values that go into and come out of a store: keys, records, transactions, events, pages.
//!
//! Owns their meaning, and nothing of how an engine keeps them. Bytes are shared, never copied: a record is one
//! allocation for the state, the history and every watcher.

use std::sync::Arc;

use bytes::Bytes;

/// A point in the store's history. Every transaction that changes something takes the next one; an empty store is at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One version of one key, as committed.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Arc<str>,
    /// The value, with its revision already written into it (see [`Value`]).
    pub value: Bytes,
    /// Whatever the writer wants to select by without parsing the value.
    pub meta: Bytes,
    /// The revision at which the key was created.
    pub created: Revision,
    /// The revision that wrote this version.
    pub modified: Revision,
}

/// A value to be written. The writer cannot know the revision its transaction will get, but may want it inside the
/// bytes (Kubernetes keeps it in `metadata.resourceVersion`): it then names the place where the digits go.
#[derive(Clone, Debug)]
pub struct Value {
    bytes: Vec<u8>,
    revision_at: Option<usize>,
}

impl Value {
    /// Bytes that are stored as they are.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), revision_at: None }
    }

    /// Bytes into which the decimal digits of the transaction's revision are inserted at `offset`.
    ///
    /// # Panics
    /// When `offset` is beyond the end of `bytes`.
    pub fn with_revision_at(bytes: impl Into<Vec<u8>>, offset: usize) -> Self {
        let bytes = bytes.into();
        assert!(offset <= bytes.len(), "the revision's place lies inside the value");
        Self { bytes, revision_at: Some(offset) }
    }

    /// The bytes to store, once the revision is known.
    pub(crate) fn render(self, revision: Revision) -> Bytes {
        let Some(offset) = self.revision_at else { return self.bytes.into() };
        let digits = revision.to_string();
        let mut bytes = Vec::with_capacity(self.bytes.len() + digits.len());
        bytes.extend_from_slice(&self.bytes[..offset]);
        bytes.extend_from_slice(digits.as_bytes());
        bytes.extend_from_slice(&self.bytes[offset..]);
        bytes.into()
    }

    /// About how much room it will take.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// What must hold of a key for a transaction to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists and was last written at this revision.
    At(Revision),
}

/// One change of a transaction.
#[derive(Clone, Debug)]
pub enum Op {
    /// Writes a key.
    Put {
        /// The key to write.
        key: String,
        /// Its new value.
        value: Value,
        /// Its new side data, see [`Record::meta`].
        meta: Bytes,
    },
    /// Removes a key; no effect when it does not exist.
    Delete {
        /// The key to remove.
        key: String,
        /// The state that watchers are told was deleted, a record modified at the deletion's revision; when `None`
        /// they get the last stored record as it was.
        last: Option<Value>,
    },
}

/// Changes that are applied together, at one revision, if every expectation holds.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// Checked first, against the state right before the transaction.
    pub expect: Vec<(String, Expect)>,
    /// Applied in order; a key may stand in one operation only ([`CommitError::Invalid`](crate::CommitError) otherwise).
    pub ops: Vec<Op>,
}

/// The answer to a transaction that was applied.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The revision it took; of a transaction that changed nothing, the revision at which that was found.
    pub revision: Revision,
    /// For every operation, in order, the record written (for a delete the deleted state, `None` if there was nothing).
    pub records: Vec<Option<Arc<Record>>>,
}

/// One change of one key, as a watcher sees it.
#[derive(Debug)]
pub struct Event {
    /// The revision of its transaction.
    pub revision: Revision,
    /// True when the key is gone; `record` is then the state it was deleted in.
    pub deleted: bool,
    /// The state that the change left.
    pub record: Arc<Record>,
    /// The state before the change.
    pub previous: Option<Arc<Record>>,
}

/// Which records [`Store::list`](crate::Store::list) returns.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Only keys that begin with this.
    pub prefix: String,
    /// The state to read; the newest when `None`.
    pub at: Option<Revision>,
    /// Only keys after this one.
    pub start_after: Option<String>,
    /// At most this many; 0 means all.
    pub limit: usize,
}

/// One page of a list, in key order.
#[derive(Clone, Debug)]
pub struct Page {
    /// The records.
    pub records: Vec<Arc<Record>>,
    /// The revision that the page shows.
    pub revision: Revision,
    /// How many records follow the page.
    pub remaining: usize,
}

/// What a watcher gets at once: all events up to a revision.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Events in order; empty when only the revision moved on.
    pub events: Vec<Arc<Event>>,
    /// No event at or before this revision is still to come.
    pub revision: Revision,
}
