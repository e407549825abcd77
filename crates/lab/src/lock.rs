//! One command at a time changes a lab. The lock is on the lab's directory itself, so that none is left behind, and the
//! kernel lets go of it when the command ends, however it ends.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;

use crate::error::{Error, OnFile};
use crate::plan::Layout;

/// Held while a lab is put up or taken down.
#[must_use]
pub(crate) struct Lock(#[allow(dead_code, reason = "closing it lets go")] File);

impl Lock {
    /// Takes the lock; the directory is made where it is not there.
    ///
    /// # Errors
    /// [`Error::Busy`] when another command has it; [`Error::NotALab`] when the directory is somebody else's.
    pub(crate) fn take(layout: &Layout) -> Result<Self, Error> {
        let root = layout.root();
        loop {
            fs::create_dir_all(root).on("create", root)?;
            let Ok(dir) = File::open(root) else { continue };
            match dir.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::Busy),
                Err(TryLockError::Error(error)) => return Err(error).on("lock", root),
            }
            // The one who had it before may have removed the directory.
            let locked = dir.metadata().on("look at", root)?;
            if fs::metadata(root).is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino())) {
                refuse_strangers(layout)?;
                return Ok(Self(dir));
            }
        }
    }
}

/// Refuses a directory with anything in it that no lab put there: taking the lab down would remove it.
fn refuse_strangers(layout: &Layout) -> Result<(), Error> {
    if layout.state().exists() {
        return Ok(());
    }
    let entries = fs::read_dir(layout.root()).on("list", layout.root())?;
    let ours = |name: &str| name == "netns" || name.ends_with(".log") || name.starts_with("lab.json");
    match entries.flatten().find(|entry| !entry.file_name().to_str().is_some_and(ours)) {
        None => Ok(()),
        Some(_) => Err(Error::NotALab { path: layout.root().to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("lab"));
        let first = Lock::take(&layout).unwrap();
        assert!(matches!(Lock::take(&layout), Err(Error::Busy)));
        drop(first);
        let _second = Lock::take(&layout).unwrap();
    }

    #[test]
    fn a_directory_with_other_things_in_it_is_never_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(Lock::take(&Layout::new(dir.path())), Err(Error::NotALab { .. })));
    }

    #[test]
    fn what_a_crash_left_is_a_labs() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lab.json.new"), "").unwrap();
        fs::write(dir.path().join("node1.log"), "").unwrap();
        assert!(Lock::take(&Layout::new(dir.path())).is_ok());
    }
}
