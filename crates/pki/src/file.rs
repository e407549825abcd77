//! Files that are whole or not there: written beside their place, synced, renamed, and the directory synced.
//!
//! Owns the modes: secrets 0600, public files 0644, directories 0700. Refuses to follow a half-written file: readers
//! only ever see a name that was renamed into place.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// Reads a file; the error names it.
pub fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Reads a file that may not be there.
pub(crate) fn read_optional(path: &Path) -> Result<Option<String>, Error> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a directory (with its parents) that only its owner may enter. One that is there already keeps its mode.
pub fn ensure_private_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Puts a secret in place atomically and durably, mode 0600.
pub fn write_secret(path: &Path, contents: impl AsRef<[u8]>) -> Result<(), Error> {
    write(path, [contents], 0o600)
}

/// The same, of a secret that comes in pieces.
pub fn write_secret_pieces(path: &Path, pieces: impl Iterator<Item = Vec<u8>>) -> Result<(), Error> {
    write(path, pieces, 0o600)
}

/// Puts a public file in place atomically and durably, mode 0644.
pub fn write_public(path: &Path, contents: impl AsRef<[u8]>) -> Result<(), Error> {
    write(path, [contents], 0o644)
}

fn write(path: &Path, contents: impl IntoIterator<Item = impl AsRef<[u8]>>, mode: u32) -> Result<(), Error> {
    let temporary = temporary_name(path);
    let done = write_and_rename(path, &temporary, contents, mode);
    if done.is_err() {
        // Nothing to add when this fails too: the first error says what is wrong.
        let _ = fs::remove_file(&temporary);
    }
    done.map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Beside its place, so that the rename stays on one file system; unlike for any other writer, so that two never share it.
fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{:016x}.new", rand::random::<u64>()))
}

fn write_and_rename(
    path: &Path,
    temporary: &Path,
    contents: impl IntoIterator<Item = impl AsRef<[u8]>>,
    mode: u32,
) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    // The umask may have taken bits away that a public file needs.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    for piece in contents {
        file.write_all(piece.as_ref())?;
    }
    file.sync_all()?;
    fs::rename(temporary, path)?;
    File::open(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".")))?
        .sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        ensure_private_dir(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        write_secret(&inner.join("key"), "one").unwrap();
        write_secret(&inner.join("key"), "two").unwrap();
        write_public(&inner.join("crt"), "three").unwrap();
        assert_eq!(read(&inner.join("key")).unwrap(), "two");
        assert_eq!(fs::metadata(inner.join("key")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(inner.join("crt")).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn a_failed_write_names_the_file_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("taken");
        fs::create_dir_all(place.join("full")).unwrap();
        let error = write_secret(&place, "x").unwrap_err().to_string();
        assert!(error.contains("taken"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
