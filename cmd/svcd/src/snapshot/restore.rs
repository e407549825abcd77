//! Restoring: into nothing else but an empty data directory, and only what was read to its end and found right.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use svcd_store::Embedded;
use svcd_store::snapshot::Contents;

use super::objects;
use crate::data_dir::{CA_CERTIFICATE, CA_KEY, Entry};
use crate::failure::Failure;

/// What an empty data directory may have: our own snapshots, and what file systems put at their top.
const HARMLESS: [&str; 2] = [Entry::Snapshots.name(), "lost+found"];

pub(super) fn restore(file: &Path, data_dir: &Path) -> Result<(), Failure> {
    let contents = read(file)?;
    let authority = authority(&contents, file)?;
    refuse_occupied(data_dir)?;
    svcd_pki::ensure_private_dir(data_dir)?;
    svcd_pki::write_secret(&Entry::Restoring.within(data_dir), "")?;
    let (revision, objects) = (contents.head.revision, objects(&contents));
    write(&authority, data_dir)?;
    Embedded::restore(Entry::Store.within(data_dir), contents.records, revision)?;
    fs::remove_file(Entry::Restoring.within(data_dir))
        .map_err(|error| Failure::new(error, "remove it by hand"))?;
    println!("restored revision {revision}, {objects} objects, into {}", data_dir.display());
    println!("Start `svcd server` with the flags that the saved one had; its nodes come back by themselves.");
    Ok(())
}

/// Refuses a data directory in which a restore did not come to its end.
pub(crate) fn refuse_unfinished(data_dir: &Path) -> Result<(), Failure> {
    let mark = Entry::Restoring.within(data_dir);
    if mark.exists() {
        let what = format!("a restore into {} did not come to its end", data_dir.display());
        return Err(Failure::new(what, "remove what is in it, and restore again"));
    }
    Ok(())
}

fn read(file: &Path) -> Result<Contents, Failure> {
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(fs::File::open(file).map_err(|error| unusable(file, &error))?)
    };
    Contents::read(source).map_err(|error| unusable(file, &error))
}

fn unusable(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    let what = format!("{} cannot be restored: {error}", file.display());
    Failure::new(what, "nothing was changed; `svcd snapshot list` shows which snapshots are whole")
}

/// The authority's files: both, and nothing else.
fn authority<'a>(contents: &'a Contents, file: &Path) -> Result<[(&'static str, &'a [u8]); 2], Failure> {
    let find = |name: &'static str| {
        let found = contents.files.iter().find(|found| found.name == name);
        let missing = || unusable(file, &format!("{name} is not in it"));
        found.map(|found| (name, found.contents.as_slice())).ok_or_else(missing)
    };
    if let Some(unknown) =
        contents.files.iter().find(|found| ![CA_CERTIFICATE, CA_KEY].contains(&&*found.name))
    {
        return Err(unusable(file, &format!("{:?} in it is unknown to this version", unknown.name)));
    }
    Ok([find(CA_KEY)?, find(CA_CERTIFICATE)?])
}

fn write(authority: &[(&'static str, &[u8])], data_dir: &Path) -> Result<(), Failure> {
    let dir = Entry::Pki.within(data_dir);
    svcd_pki::ensure_private_dir(&dir)?;
    for (name, contents) in authority {
        let write = if *name == CA_KEY { svcd_pki::write_secret } else { svcd_pki::write_public };
        write(&dir.join(name), contents)?;
    }
    Ok(())
}

fn refuse_occupied(data_dir: &Path) -> Result<(), Failure> {
    let unreadable = |error| Failure::new(format!("cannot list {}: {error}", data_dir.display()), "");
    let entries = match fs::read_dir(data_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(unreadable)?,
    };
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        if !HARMLESS.iter().any(|harmless| name == **harmless) {
            let what =
                format!("{} is not empty: it has {}", data_dir.display(), PathBuf::from(name).display());
            return Err(Failure::new(what, "move it away or name another --data-dir; nothing was changed"));
        }
    }
    Ok(())
}
