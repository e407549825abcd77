//! The log: files of frames, each named after the first revision that may stand in it. What is answered is in here.
//!
//! Promises: an appended frame is on disk (fdatasync) or not there at all; a torn end is cut off on opening; damage in
//! what was synced is refused, never skipped. After an error that leaves the disk's contents unknown nothing is ever
//! appended again by this process (a second fdatasync may claim success for pages that were thrown away).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::directory::{private_file, remove_if_there, sync_directory};
use super::error::{At, OpenError};
use super::frame::{self, Group};
use crate::Revision;

const MAGIC: &[u8; 8] = b"svcdlog\x01";

/// Why a frame was not appended.
#[derive(Debug)]
pub(super) enum AppendError {
    /// No space; the log is as it was before.
    Full(io::Error),
    /// What is on disk is not known: no more writing.
    Broken(io::Error),
}

/// The newest file of the log, open for appending.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    file: File,
    length: u64,
}

impl Log {
    /// Continues the newest file after replaying; starts a first one when there is none.
    pub(super) fn resume(directory: &Path, end: Option<End>, next: Revision) -> Result<Self, OpenError> {
        let Some(End { path, length }) = end else {
            let path = file_path(directory, next);
            let file = create(directory, next).at("create", &path)?;
            return Ok(Self { directory: directory.to_owned(), file, length: MAGIC.len() as u64 });
        };
        let file = private_file().open(&path).at("open", &path)?;
        if length == 0 {
            // Killed while creating it: nothing was ever answered from here.
            file.set_len(0).and_then(|()| file.write_all_at(MAGIC, 0)).at("write", &path)?;
        }
        let length = length.max(MAGIC.len() as u64);
        file.set_len(length).at("truncate", &path)?;
        // What was replayed is about to be shown, and a killed process may not have synced all of it.
        file.sync_all().at("sync", &path)?;
        sync_directory(directory).at("sync", directory)?;
        Ok(Self { directory: directory.to_owned(), file, length })
    }

    /// The bytes of frames in the newest file.
    pub(super) fn bytes(&self) -> u64 {
        self.length - MAGIC.len() as u64
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Appends a frame and syncs it.
    pub(super) fn append(&mut self, frame: &[u8]) -> Result<(), AppendError> {
        if let Err(error) = self.file.write_all_at(frame, self.length) {
            self.file.set_len(self.length).map_err(AppendError::Broken)?;
            return Err(if is_full(&error) { AppendError::Full(error) } else { AppendError::Broken(error) });
        }
        self.file.sync_data().map_err(AppendError::Broken)?;
        self.length += frame.len() as u64;
        Ok(())
    }

    /// Begins a new file, for revisions from `next`. On error the old one goes on.
    pub(super) fn rotate(&mut self, next: Revision) -> io::Result<()> {
        self.file = create(&self.directory, next)?;
        self.length = MAGIC.len() as u64;
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn create(directory: &Path, next: Revision) -> io::Result<File> {
    let path = file_path(directory, next);
    let file = private_file().create(true).truncate(true).open(&path)?;
    let written =
        file.write_all_at(MAGIC, 0).and_then(|()| file.sync_all()).and_then(|()| sync_directory(directory));
    if let Err(error) = written {
        std::fs::remove_file(&path)?;
        return Err(error);
    }
    Ok(file)
}

fn file_path(directory: &Path, first: Revision) -> PathBuf {
    directory.join(format!("{first:020}.log"))
}

/// Where the log ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct End {
    path: PathBuf,
    /// The length of what is good; 0 when not even the head is.
    length: u64,
}

/// The files of the log, oldest first, with the first revision that may stand in each.
fn files(directory: &Path) -> io::Result<Vec<(Revision, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(first) = name.and_then(|name| name.strip_suffix(".log")?.parse().ok()) {
            files.push((Revision(first), path));
        }
    }
    files.sort();
    Ok(files)
}

/// The first revision of the oldest file.
pub(super) fn start(directory: &Path) -> Result<Option<Revision>, OpenError> {
    Ok(files(directory).at("list", directory)?.first().map(|(first, _)| *first))
}

/// Removes the files in which nothing stands that came after `revision`.
pub(super) fn remove_up_to(directory: &Path, revision: Revision) -> io::Result<()> {
    let files = files(directory)?;
    for ((_, path), (next, _)) in files.iter().zip(files.iter().skip(1)) {
        if next.0 <= revision.0 + 1 {
            remove_if_there(std::fs::remove_file(path))?;
        }
    }
    Ok(())
}

/// Reads every group with something after `from`, in order, and finds the log's end.
pub(super) fn replay(
    directory: &Path,
    from: Revision,
    mut apply: impl FnMut(Group),
) -> Result<Option<End>, OpenError> {
    let files = files(directory).at("list", directory)?;
    let needed = files.iter().skip(1).take_while(|(first, _)| first.0 <= from.0 + 1).count();
    let mut newest = from;
    let mut end = None;
    for (index, (_, path)) in files.iter().enumerate().skip(needed) {
        let last = index + 1 == files.len();
        let length = replay_file(path, last, &mut newest, &mut apply)?;
        end = Some(End { path: path.clone(), length });
    }
    Ok(end)
}

/// Reads one file; says how many of its bytes are good.
fn replay_file(
    path: &Path,
    last: bool,
    newest: &mut Revision,
    apply: &mut impl FnMut(Group),
) -> Result<u64, OpenError> {
    let bytes = std::fs::read(path).at("read", path)?;
    let damaged = |offset: usize, intact: Revision| OpenError::Damaged {
        path: path.to_owned(),
        offset: offset as u64,
        intact,
    };
    if !bytes.starts_with(MAGIC) {
        let torn = last && !frame::stands_in(&bytes);
        return if torn { Ok(0) } else { Err(damaged(0, *newest)) };
    }
    let mut offset = MAGIC.len();
    while offset < bytes.len() {
        let Ok((group, length)) = frame::decode(&bytes[offset..]) else {
            if !last || frame::stands_in(&bytes[offset + 1..]) {
                return Err(damaged(offset, *newest));
            }
            let torn = bytes.len() - offset;
            tracing::warn!(file = %path.display(), offset, torn, "cut off an unfinished write at the log's end");
            break;
        };
        if !follows(&group, *newest) {
            return Err(damaged(offset, *newest));
        }
        if let Some((_, end)) = group.span()
            && end > *newest
        {
            *newest = end;
            apply(group);
        }
        offset += length;
    }
    Ok(offset as u64)
}

/// Whether a group's revisions go on where the last one ended, or are all known already.
fn follows(group: &Group, newest: Revision) -> bool {
    let Some((first, last)) = group.span() else { return false };
    let steps = group.transactions.windows(2).all(|pair| pair[1].0.0 == pair[0].0.0 + 1);
    steps && (last <= newest || first.0 == newest.0 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn onto(path: &str) -> Log {
        let file = private_file().open(path).unwrap();
        Log { directory: PathBuf::from("/nonexistent"), file, length: MAGIC.len() as u64 }
    }

    impl Log {
        /// Takes every write and cannot be synced.
        pub(in super::super) fn failing() -> Self {
            onto("/dev/null")
        }
    }

    #[test]
    fn a_failed_sync_is_final() {
        let refused = Log::failing().append(b"frame");
        assert!(matches!(refused, Err(AppendError::Broken(_))), "{refused:?}");
    }

    #[test]
    fn what_cannot_be_taken_back_is_final() {
        // Refuses every write for want of space, and cannot be truncated.
        let refused = onto("/dev/full").append(b"frame");
        assert!(matches!(refused, Err(AppendError::Broken(_))), "{refused:?}");
    }

    #[test]
    fn only_files_that_are_covered_go() {
        let directory = tempfile::tempdir().unwrap();
        for first in [2, 10, 20] {
            create(directory.path(), Revision(first)).unwrap();
        }
        let left = |revision| {
            remove_up_to(directory.path(), Revision(revision)).unwrap();
            files(directory.path()).unwrap().iter().map(|(first, _)| first.0).collect::<Vec<_>>()
        };
        assert_eq!(left(8), [2, 10, 20]);
        assert_eq!(left(9), [10, 20]);
        assert_eq!(left(100), [20]);
    }
}
