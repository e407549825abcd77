//! Why a data directory cannot be opened, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::Revision;

/// Why a data directory cannot be opened. Nothing in it has been changed, except that an unfinished write may be gone.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error(
        "{} is in use by another process{}: stop that one, or choose another data directory",
        directory.display(),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The data directory.
        directory: PathBuf,
        /// The process that has it, if it could be found out.
        pid: Option<u32>,
    },
    /// A newer program wrote it.
    #[error(
        "{} has format {found}, and this program knows formats up to {supported}: run the newer version that wrote it, \
         or choose another data directory",
        directory.display()
    )]
    Newer {
        /// The data directory.
        directory: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that can be read.
        supported: u32,
    },
    /// Something else wrote it.
    #[error("{} is not that of a store: choose another data directory", path.display())]
    Foreign {
        /// The file that should tell the format.
        path: PathBuf,
    },
    /// The log is damaged at a place that had been written and synced.
    #[error(
        "{} is damaged at byte {offset}: what follows revision {intact} cannot be trusted; restore the data directory \
         from a backup, or move this file and all later ones away to go on from revision {intact}",
        path.display()
    )]
    Damaged {
        /// The log file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The newest revision before the damage.
        intact: Revision,
    },
    /// Neither of the two checkpoints can be read together with the log after it.
    #[error("{} cannot be read: {reason}; restore the data directory from a backup", directory.display())]
    Unreadable {
        /// The data directory.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// A store can be restored into nothing else but nothing.
    #[error("{} is not empty; move it away, or choose another data directory", directory.display())]
    NotEmpty {
        /// The data directory.
        directory: PathBuf,
    },
    /// A snapshot could not be written.
    #[error("{} cannot be restored: {reason}; remove what is in it and try again", directory.display())]
    Unrestored {
        /// The data directory.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Says what was tried and with what, when the operating system refuses.
pub(super) trait At<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, OpenError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, OpenError> {
        self.map_err(|source| OpenError::Io { what, path: path.to_owned(), source })
    }
}
