//! `svcd snapshot`: the cluster's state to a file and back. What it consists of stands here: the store at one revision, and
//! the authority's certificate and key, without which no node and no admin would know the restored server.
//!
//! A running server is asked over its API, so that writes go on; of a stopped one the files are read.

mod list;
mod restore;
mod save;
mod schedule;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use svcd_store::snapshot::{Attachment, Contents};
use svcd_store::{ListRequest, Page, Store};

pub(crate) use self::restore::refuse_unfinished;
pub(crate) use self::schedule::{Schedule, is_of_schedule};
use crate::cli::SnapshotCommand;
use crate::data_dir::{CA_CERTIFICATE, CA_KEY, Entry};
use crate::failure::Failure;

pub(crate) async fn run(command: SnapshotCommand) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Save { file, at } => save::save(&file, &at.data_dir).await,
        SnapshotCommand::List { dir } => list::list(&dir),
        SnapshotCommand::Restore { file, at } => restore::restore(&file, &at.data_dir),
    }
}

/// Everything at the newest revision.
async fn page(store: &dyn Store) -> Result<Page, Failure> {
    let unreadable = |error| Failure::new(format!("the store cannot be read: {error}"), "");
    store.list(ListRequest::default()).await.map_err(unreadable)
}

/// What belongs to the state besides the store.
fn attachments(data_dir: &Path) -> Result<Vec<Attachment>, Failure> {
    let read = |name: &str| {
        let contents = svcd_pki::read(&Entry::Pki.within(data_dir).join(name))?.into_bytes();
        Ok(Attachment { name: name.to_owned(), contents })
    };
    [CA_CERTIFICATE, CA_KEY].into_iter().map(read).collect()
}

/// How many of the records are objects of the API.
fn objects(contents: &Contents) -> usize {
    contents.records.iter().filter(|record| svcd_apiserver::is_object(&record.key)).count()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in
            [(0, "0.0 KiB"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
