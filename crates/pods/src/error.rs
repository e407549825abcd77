//! The one error of this crate.

use std::io;
use std::path::PathBuf;

/// Why something about a pod could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a system call.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A record of ours that cannot be read or written.
    #[error("cannot use the record {}: {source}", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// The pod's network.
    #[error(transparent)]
    Network(#[from] svcd_podnet::Error),
    /// The process between agent and container failed.
    #[error("container {container} could not be started: {message}")]
    Shim {
        /// Which container.
        container: String,
        /// What it wrote.
        message: String,
    },
    /// There is no such container, or it does not run.
    #[error("container {0} does not run")]
    NotRunning(String),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    pub(crate) fn record(path: impl Into<PathBuf>) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.into();
        move |source| Self::Record { path, source }
    }
}
