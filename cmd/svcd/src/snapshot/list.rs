//! Listing: every snapshot is read to its end, so that what the list shows as good can be restored.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;
use svcd_store::snapshot::{Contents, MAGIC, SnapshotError};

use super::{objects, size};
use crate::failure::Failure;

pub(super) fn list(dir: &Path) -> Result<(), Failure> {
    let files = files(dir).map_err(|error| {
        let what = format!("cannot list {}: {error}", dir.display());
        Failure::new(what, "name the directory that the snapshots are in, or a snapshot")
    })?;
    let mut broken = 0;
    println!("{:<40} {:<21} {:>16} {:>8} {:>11}", "FILE", "TIME", "REVISION", "OBJECTS", "SIZE");
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match fs::File::open(&file).map_err(SnapshotError::from).and_then(Contents::read) {
            Ok(contents) => println!("{}", row(&name, &contents)),
            // In a directory there may be other files, which are none of ours.
            Err(SnapshotError::Foreign) if file != dir => {}
            Err(error) => {
                broken += 1;
                println!("{name:<40} {error}");
            }
        }
    }
    match broken {
        0 => Ok(()),
        count => Err(Failure::new(format!("{count} cannot be restored"), "remove it, and save another")),
    }
}

fn row(name: &str, contents: &Contents) -> String {
    let time = i64::try_from(contents.head.time).ok().and_then(|time| Timestamp::from_second(time).ok());
    let time = time.unwrap_or_default().to_string();
    let (revision, objects) = (contents.head.revision.0, objects(contents));
    format!("{name:<40} {time:<21} {revision:>16} {objects:>8} {:>11}", size(contents.size))
}

/// Files that may be snapshots, by name; a file that is named is one.
fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        fs::metadata(dir)?;
        return Ok(vec![dir.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() && begins_as_one(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// One that cannot be opened is to be told of, not to be passed over.
fn begins_as_one(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).map_or_else(
        |error| error.kind() != std::io::ErrorKind::UnexpectedEof,
        |()| start == *MAGIC.as_bytes(),
    )
}
