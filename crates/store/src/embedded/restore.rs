//! A store made of a state that comes from elsewhere: one checkpoint and an empty log. Opening then finds what it always
//! finds, and no history before the checkpoint's revision.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::checkpoint::{Content, Job, Slot};
use super::directory::Directory;
use super::error::{At, OpenError};
use crate::{Record, Revision};

/// Makes a directory hold these records at this revision.
pub(super) fn restore(path: &Path, records: Vec<Arc<Record>>, revision: Revision) -> Result<(), OpenError> {
    if path.exists() && std::fs::read_dir(path).at("list", path)?.next().is_some() {
        return Err(OpenError::NotEmpty { directory: path.to_owned() });
    }
    let directory = Directory::open(path)?;
    let [slot, _] = Slot::both(directory.path());
    let count = records.len();
    let bytes = records.iter().map(|record| (record.key.len() + record.value.len()) as u64).sum();
    let job = Job { revision, records: count, bytes, content: Content::Whole(records) };
    slot.write(&job, &AtomicBool::new(false))
        .map_err(|error| OpenError::Unrestored { directory: path.to_owned(), reason: error.to_string() })
}
