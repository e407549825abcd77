//! A versioned key-value store of bytes, as etcd is one: a single revision counter over all keys, transactions that
//! compare and set several keys, and watches that start at any revision still in the history.
//!
//! Promises: an answered [`Store::commit`] is on disk (synced); a transaction is applied whole or not at all; readers
//! never see a revision go back; a watch sees every event after its start once, in order, or is told [`ReadError::Compacted`].
//! Refuses: to know what the bytes mean. Nothing of Kubernetes is in here.
//!
//! The engine is [`Embedded`]: `Embedded::open(directory, Options::default())`. Others will stand beside it and owe what
//! `tests/battery` asks of every engine.

mod codec;
mod embedded;
mod error;
pub mod snapshot;
mod types;

use std::sync::Arc;

use async_trait::async_trait;

pub use embedded::{Embedded, HistoryBounds, OpenError, Options};
pub use error::{CommitError, ReadError};
pub use types::{Batch, Committed, Event, Expect, ListRequest, Op, Page, Record, Revision, Txn, Value};

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

    /// Every event under a prefix with a revision greater than `after`, which may lie in the future: the watch then
    /// waits until the store has come there.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, ReadError>;
}
