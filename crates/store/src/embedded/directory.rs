//! The data directory: who may use it, which format it has, and the file system's manners (what must be synced when).
//!
//! Promises: one process at a time; a directory of a newer format is left untouched.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::{At, OpenError};

/// The format written here. A reader of version N reads every version up to N.
const FORMAT: u32 = 1;
const VERSION: &str = "VERSION";
const VERSION_PREFIX: &str = "svcd-store ";
const LOCK: &str = "LOCK";

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Creates it if need be, locks it and checks its format.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        create(path)?;
        let lock = lock(path)?;
        check_format(path)?;
        create(&path.join("log"))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }
}

fn create(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).at("create", path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), |parent| sync_directory(parent).at("sync", parent))
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let mut file = private_file().create(true).truncate(false).open(&path).at("open", &path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The holder's number is a courtesy; the lock itself has spoken.
            let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
            return Err(OpenError::Locked { directory: directory.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(source).at("lock", &path),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).at("write", &path)?;
    Ok(file)
}

/// Whether somebody holds the lock.
pub(super) fn is_locked(directory: &Path) -> bool {
    let file = File::open(directory.join(LOCK));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn check_format(directory: &Path) -> Result<(), OpenError> {
    let path = directory.join(VERSION);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            return write_atomically(&path, &format!("{VERSION_PREFIX}{FORMAT}\n")).at("write", &path);
        }
        Err(source) => return Err(source).at("read", &path),
    };
    match text.trim().strip_prefix(VERSION_PREFIX).and_then(|number| number.parse::<u32>().ok()) {
        Some(found) if found > FORMAT => {
            Err(OpenError::Newer { directory: directory.to_owned(), found, supported: FORMAT })
        }
        Some(_) => Ok(()),
        None => Err(OpenError::Foreign { path }),
    }
}

/// Options for files that nobody else may read: they hold Secrets.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Writes a small file so that it is there whole, and durably, or not at all.
pub(super) fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = private_file().create(true).truncate(true).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes every file and every name under a directory durable.
pub(super) fn sync_tree(path: &Path) -> io::Result<()> {
    walk(path, &mut |entry, _| File::open(entry)?.sync_all())?;
    sync_directory(path)
}

/// How many bytes the files under a directory have.
pub(super) fn tree_size(path: &Path) -> io::Result<u64> {
    let mut size = 0;
    walk(path, &mut |_, metadata| {
        size += if metadata.is_file() { metadata.len() } else { 0 };
        Ok(())
    })?;
    Ok(size)
}

/// Visits everything under a directory, children first.
fn walk(path: &Path, visit: &mut dyn FnMut(&Path, &std::fs::Metadata) -> io::Result<()>) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            walk(&entry.path(), visit)?;
        }
        visit(&entry.path(), &metadata)?;
    }
    Ok(())
}

/// Removes a file or a tree that may not be there.
pub(super) fn remove_if_there(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
