//! Why a store refuses: reads and commits. Why one cannot be opened is its engine's own matter.

use std::sync::Arc;

use crate::{Record, Revision};

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
    /// The transaction itself is wrong; nothing was changed, and never would be.
    #[error("the transaction is not valid: {0}")]
    Invalid(String),
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
