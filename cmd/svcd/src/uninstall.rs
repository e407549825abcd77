//! `svcd uninstall`: first what is in the kernel, then the files, each by its name: a data directory may have been put where
//! other things are. `--check` asks the machine, not our notes, what is left.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use svcd_store::Embedded;

use crate::cli::UninstallArgs;
use crate::data_dir::Entry;
use crate::failure::Failure;
use crate::privileges;
use crate::snapshot::is_of_schedule;

pub(crate) async fn run(args: UninstallArgs) -> Result<(), Failure> {
    privileges::root("uninstall", "it looks at and removes links, routes and forwarding rules")?;
    if args.check { check(&args).await } else { uninstall(&args).await }
}

async fn uninstall(args: &UninstallArgs) -> Result<(), Failure> {
    if Embedded::is_in_use(Entry::Store.within(&args.data_dir)) {
        let what = format!("a server is running with {}", args.data_dir.display());
        return Err(Failure::new(what, "stop it first: systemctl stop svcd-server"));
    }
    svcd_node::cleanup(&args.data_dir).await?;
    if !args.keep_data {
        remove(&args.data_dir)?;
    }
    println!("svcd is off this machine, but for its own program{}", kept(args));
    Ok(())
}

/// What stays there, in words.
fn kept(args: &UninstallArgs) -> String {
    if args.data_dir.exists() {
        format!(" and what is in {}", args.data_dir.display())
    } else {
        String::new()
    }
}

async fn check(args: &UninstallArgs) -> Result<(), Failure> {
    let mut left = svcd_node::leftovers(&args.data_dir).await?;
    if Embedded::is_in_use(Entry::Store.within(&args.data_dir)) {
        left.push(format!("a server that runs with {}", args.data_dir.display()));
    }
    if !args.keep_data {
        left.extend(files(&args.data_dir).iter().map(|path| format!("file {}", path.display())));
    }
    left.iter().for_each(|one| println!("{one}"));
    match left.len() {
        0 => Ok(()),
        count => {
            Err(Failure::new(format!("{count} things of svcd are left"), "take them away: svcd uninstall"))
        }
    }
}

/// Our files and directories in a data directory that are there.
fn files(data_dir: &Path) -> Vec<PathBuf> {
    let saved = fs::read_dir(Entry::Snapshots.within(data_dir)).into_iter().flatten().flatten();
    let saved = saved.filter(|entry| entry.file_name().to_str().is_some_and(is_of_schedule));
    let entries = Entry::ALL.iter().filter(|entry| **entry != Entry::Snapshots);
    let entries = entries.map(|entry| entry.within(data_dir)).filter(|path| path.exists());
    saved.map(|entry| entry.path()).chain(entries).collect()
}

fn remove(data_dir: &Path) -> Result<(), Failure> {
    for path in files(data_dir) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| unremoved(&path, &error))?;
    }
    // What holds something else stays.
    for dir in [Entry::Snapshots.within(data_dir), data_dir.to_owned()] {
        remove_if_empty(&dir).map_err(|error| unremoved(&dir, &error))?;
    }
    Ok(())
}

fn remove_if_empty(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        // A mount point, or a directory that somebody else made in a place that is not ours.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn unremoved(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot remove {}: {error}", path.display());
    Failure::new(what, "mend this and run the same command again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("store/log")).unwrap();
        fs::create_dir_all(Entry::Snapshots.within(&data)).unwrap();
        for file in
            ["admin.kubeconfig", "snapshots/svcd-20231114T221320Z.snapshot", "snapshots/mine", "photo"]
        {
            fs::write(data.join(file), "").unwrap();
        }
        assert_eq!(files(&data).len(), 3);
        remove(&data).unwrap();
        assert_eq!(files(&data), [""; 0].map(PathBuf::from));
        assert!(data.join("photo").exists() && data.join("snapshots/mine").exists());
        fs::remove_file(data.join("photo")).unwrap();
        fs::remove_dir_all(Entry::Snapshots.within(&data)).unwrap();
        remove(&data).unwrap();
        assert!(!data.exists());
        remove(&data).unwrap();
    }
}
