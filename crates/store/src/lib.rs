//! A versioned key-value store of bytes, as etcd is one: a single revision counter over all keys, transactions that
//! compare and set several keys, and watches that start at any revision still in the history.
//!
//! Promises: an answered [`Store::commit`] is on disk (synced); a transaction is applied whole or not at all; readers
//! never see a revision go back; a watch sees every event after its start once, in order, or is told [`ReadError::Compacted`].
//! Refuses: to know what the bytes mean. Nothing of Kubernetes is in here.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// A point in the store's history. Every committed transaction takes the next one; an empty store is at 1.
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
        /// The state that watchers are told was deleted; the last stored value when `None`.
        last: Option<Value>,
    },
}

/// Changes that are applied together, at one revision, if every expectation holds.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// Checked first, against the state right before the transaction.
    pub expect: Vec<(String, Expect)>,
    /// Applied in order; a key may stand in one operation only.
    pub ops: Vec<Op>,
}

/// The answer to a transaction that was applied.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The revision it took.
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

/// Which records [`Store::list`] returns.
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

/// Why a read or a watch could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The revision has left the history.
    #[error("revision {requested} has been compacted; the oldest one kept is {oldest}")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// The oldest revision that can still be read.
        oldest: Revision,
    },
    /// The revision does not exist yet.
    #[error("revision {requested} is in the future; the store is at {current}")]
    Future {
        /// What was asked for.
        requested: Revision,
        /// The newest revision.
        current: Revision,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// The engine failed.
    #[error("the store cannot be read: {0}")]
    Engine(String),
}

/// Why a transaction was not applied.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An expectation did not hold; nothing was changed.
    #[error("{key} is not as expected")]
    Conflict {
        /// The first key that was not as expected.
        key: String,
        /// Its record right now.
        found: Option<Arc<Record>>,
    },
    /// The disk is full; nothing was changed and the store goes on reading.
    #[error("no space left for the store: {0}")]
    Full(String),
    /// The store is shutting down; whether the transaction was applied is not known.
    #[error("the store is closed")]
    Closed,
    /// The engine failed; whether the transaction was applied is not known until the store has been opened again.
    #[error("the store cannot be written: {0}")]
    Engine(String),
}

/// What a watcher gets at once: all events up to a revision.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Events in order; empty when only the revision moved on.
    pub events: Vec<Arc<Event>>,
    /// No event at or before this revision is still to come.
    pub revision: Revision,
}

/// A running watch. Dropping it ends it.
#[async_trait]
pub trait Watch: Send {
    /// Waits for the next events under the prefix.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] when the watcher was too slow and the history has moved past it, [`ReadError::Closed`].
    async fn next(&mut self) -> Result<Batch, ReadError>;

    /// The revision up to which everything under the prefix has been delivered or did not concern it. May run ahead of
    /// the last batch: a watcher of a quiet prefix still makes progress (bookmarks).
    fn progress(&self) -> Revision;
}

/// The store. See the crate's documentation for what it promises.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest revision.
    fn revision(&self) -> Revision;

    /// The newest version of a key.
    async fn get(&self, key: &str) -> Result<Option<Arc<Record>>, ReadError>;

    /// The records under a prefix as they were at one revision.
    async fn list(&self, request: ListRequest) -> Result<Page, ReadError>;

    /// Applies a transaction, and answers once it is on disk.
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError>;

    /// Every event under a prefix with a revision greater than `after`.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, ReadError>;
}
