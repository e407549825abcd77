//! What a data directory may look like when it is opened: fresh, in use, newer, torn, damaged, grown.

#![allow(clippy::unwrap_used, reason = "only tests are in here")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use svcd_store::{
    CommitError, Embedded, HistoryBounds, ListRequest, Op, OpenError, Options, ReadError, Revision, Store,
    Txn, Value,
};

fn open(directory: &Path) -> Result<Embedded, OpenError> {
    Embedded::open(directory, Options::default())
}

/// Checkpoints after every few commits.
fn eager() -> Options {
    Options { checkpoint_bytes: 2_000, ..Options::default() }
}

async fn put(store: &Embedded, key: &str, value: impl Into<Vec<u8>>) -> Revision {
    let op = Op::Put { key: key.into(), value: Value::plain(value), meta: Bytes::new() };
    store.commit(Txn { expect: Vec::new(), ops: vec![op] }).await.unwrap().revision
}

async fn get(store: &Embedded, key: &str) -> Option<Bytes> {
    store.get(key).await.unwrap().map(|record| record.value.clone())
}

/// The files of the log, oldest first.
fn log_files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(directory.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    // A file may go while it is being looked at.
    entries
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())))
        .map(|(metadata, path)| if metadata.is_dir() { size(&path) } else { metadata.len() })
        .sum()
}

/// A store that has written `count` numbered keys and was closed.
async fn filled(count: usize, options: Options) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), options).unwrap();
    for number in 0..count {
        put(&store, &format!("key/{number}"), format!("value {number}")).await;
    }
    directory
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

const MARKS: [&str; 2] = ["sled-a.complete", "sled-b.complete"];

fn both_complete(directory: &Path) -> bool {
    MARKS.iter().all(|mark| directory.join(mark).exists())
}

/// Writes until both slots hold a checkpoint. The next one may already have begun when this returns.
async fn until_two_checkpoints(directory: &Path, store: &Embedded) {
    let mut number = 0;
    until("two checkpoints", async || {
        number += 1;
        put(store, &format!("filler/{}", number % 10), vec![b'x'; 700]).await;
        both_complete(directory)
    })
    .await;
}

/// Leaves a closed store with a checkpoint in both slots, and a key `last` at the revision that it answers.
///
/// Closing gives up a checkpoint that is being written: what stands is known only afterwards.
async fn closed_with_two_checkpoints(directory: &Path, options: &Options) -> Revision {
    for _ in 0..100 {
        let store = Embedded::open(directory, options.clone()).unwrap();
        until_two_checkpoints(directory, &store).await;
        let revision = put(&store, "last", "1").await;
        drop(store);
        if both_complete(directory) {
            return revision;
        }
    }
    panic!("a hundred times the store was closed in the middle of a checkpoint");
}

#[tokio::test]
async fn a_directory_in_use_is_refused_with_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let Err(OpenError::Locked { pid, .. }) = open(directory.path()) else { panic!("opened twice") };
    assert_eq!(pid, Some(std::process::id()));
    store.close();
    open(directory.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).unwrap();
    fs::write(directory.path().join("VERSION"), "svcd-store 99\n").unwrap();
    let refused = open(directory.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 99, supported: 1, .. }), "{refused}");
    fs::write(directory.path().join("VERSION"), "PostgreSQL\n").unwrap();
    assert!(matches!(open(directory.path()), Err(OpenError::Foreign { .. })));
}

#[test]
fn what_cannot_be_a_directory_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = open(&file.path().join("store")).unwrap_err();
    assert!(refused.to_string().contains(&file.path().display().to_string()), "{refused}");
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("store");
    let store = open(&directory).unwrap();
    put(&store, "secret", "x").await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert!(log_files(&directory).iter().all(|path| mode(path) == 0o600));
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let mut watch = store.watch("", Revision(1)).await.unwrap();
    let waiting = tokio::spawn(async move { watch.next().await.map(|_| ()) });
    tokio::task::yield_now().await;
    store.close();
    store.close();
    assert!(matches!(waiting.await.unwrap(), Err(ReadError::Closed)));
    assert!(matches!(store.get("a").await, Err(ReadError::Closed)));
    assert!(matches!(store.list(ListRequest::default()).await, Err(ReadError::Closed)));
    assert!(matches!(store.watch("", Revision(1)).await.err(), Some(ReadError::Closed)));
    assert!(matches!(store.commit(Txn::default()).await, Err(CommitError::Closed)));
}

#[tokio::test]
async fn history_survives_a_restart() {
    let directory = filled(5, Options::default()).await;
    let store = open(directory.path()).unwrap();
    assert_eq!(store.revision(), Revision(6));
    let mut watch = store.watch("key/", Revision(3)).await.unwrap();
    let batch = watch.next().await.unwrap();
    let keys: Vec<_> = batch.events.iter().map(|event| &*event.record.key).collect();
    assert_eq!(keys, ["key/2", "key/3", "key/4"]);
    let past = ListRequest { at: Some(Revision(3)), ..ListRequest::default() };
    assert_eq!(store.list(past).await.unwrap().records.len(), 2);
}

#[tokio::test]
async fn an_unfinished_write_is_cut_off_wherever_it_stopped() {
    let directory = filled(3, Options::default()).await;
    let file = log_files(directory.path()).pop().unwrap();
    let whole = fs::read(&file).unwrap();
    let store = open(directory.path()).unwrap();
    put(&store, "last", "not acknowledged, say").await;
    drop(store);
    let more = fs::read(&file).unwrap();
    for end in whole.len() + 1..more.len() {
        fs::write(&file, &more[..end]).unwrap();
        let store = open(directory.path()).unwrap();
        assert_eq!((store.revision(), get(&store, "last").await), (Revision(4), None));
    }
    // Blocks that were never written read as zeros.
    for end in whole.len()..more.len() {
        fs::write(&file, [&more[..end], &vec![0; more.len() - end]].concat()).unwrap();
        let store = open(directory.path()).unwrap();
        assert_eq!(store.revision(), Revision(4));
        assert_eq!(put(&store, "next", "1").await, Revision(5));
        drop(store);
        let store = open(directory.path()).unwrap();
        assert_eq!(get(&store, "next").await.as_deref(), Some(&b"1"[..]));
    }
    // Not even the head of a new file.
    for end in 0..8 {
        fs::write(directory.path().join("log/00000000000000000006.log"), &more[..end]).unwrap();
        assert_eq!(open(directory.path()).unwrap().revision(), Revision(5));
    }
}

#[tokio::test]
async fn damage_in_what_was_synced_is_refused() {
    let directory = filled(6, Options::default()).await;
    let file = log_files(directory.path()).pop().unwrap();
    let good = fs::read(&file).unwrap();
    let last = good.windows(4).rposition(|bytes| bytes == b"grp\xf5").unwrap();
    for bit in 0..last * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &bad).unwrap();
        let refused =
            open(directory.path()).err().unwrap_or_else(|| panic!("bit {bit} of {last} was not noticed"));
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), bad, "a refused file is left as it is");
    }
    fs::write(&file, &good).unwrap();
    assert_eq!(open(directory.path()).unwrap().revision(), Revision(7));
}

#[tokio::test]
async fn a_missing_piece_of_the_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    closed_with_two_checkpoints(directory.path(), &eager()).await;
    for mark in MARKS {
        fs::remove_file(directory.path().join(mark)).unwrap();
    }
    let refused = open(directory.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Unreadable { .. }), "{refused}");
}

#[tokio::test]
async fn either_checkpoint_is_enough() {
    for broken in ["sled-a", "sled-b"] {
        let directory = tempfile::tempdir().unwrap();
        let revision = closed_with_two_checkpoints(directory.path(), &eager()).await;
        let database = OpenOptions::new().write(true).open(directory.path().join(broken).join("db")).unwrap();
        let length = database.metadata().unwrap().len();
        database.write_all_at(&vec![0xee; usize::try_from(length).unwrap()], 0).unwrap();
        let store = Embedded::open(directory.path(), eager()).unwrap();
        assert_eq!((store.revision(), get(&store, "last").await.is_some()), (revision, true));
        // The broken one is written anew, and the store can be opened as before.
        let before = fs::read(directory.path().join(format!("{broken}.complete"))).unwrap();
        until("the broken slot to be written anew", async || {
            put(&store, "filler", vec![b'y'; 1000]).await;
            fs::read(directory.path().join(format!("{broken}.complete"))).is_ok_and(|mark| mark != before)
        })
        .await;
        let revision = store.revision();
        drop(store);
        assert_eq!(Embedded::open(directory.path(), eager()).unwrap().revision(), revision);
    }
}

#[tokio::test]
async fn each_checkpoint_alone_is_the_whole_truth() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { checkpoint_bytes: 20_000, ..Options::default() };
    let store = Embedded::open(directory.path(), options.clone()).unwrap();
    // Every key is written once or twice, and not again: whatever a checkpoint leaves out stays missing.
    let write = async |number: usize| {
        put(&store, &format!("key/{number}"), format!("value {number}")).await;
        if number.is_multiple_of(3) {
            let delete = Op::Delete { key: format!("key/{number}"), last: None };
            store.commit(Txn { expect: Vec::new(), ops: vec![delete] }).await.unwrap();
        }
    };
    for hundred in 0..60 {
        join_all((0..100).map(|number| write(hundred * 100 + number)).collect()).await;
    }
    assert_eq!(store.list(ListRequest::default()).await.unwrap().records.len(), 4000);
    drop(store);
    closed_with_two_checkpoints(directory.path(), &options).await;
    let store = open(directory.path()).unwrap();
    let before = store.list(ListRequest::default()).await.unwrap();
    drop(store);
    for mark in MARKS.map(|mark| directory.path().join(mark)) {
        let text = fs::read(&mark).unwrap();
        fs::remove_file(&mark).unwrap();
        let store = open(directory.path()).unwrap();
        assert_eq!(store.list(ListRequest::default()).await.unwrap().records, before.records);
        drop(store);
        fs::write(&mark, text).unwrap();
    }
}

#[tokio::test]
async fn big_values_survive_a_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), eager()).unwrap();
    // Around the sizes at which sled puts values into files of their own.
    for (number, size) in [100_000, 400_000, 600_000, 1 << 20, 3 << 20].into_iter().enumerate() {
        put(&store, &format!("big/{number}"), vec![b'b'; size]).await;
    }
    until("the log to be without the big values", async || {
        put(&store, "filler", vec![b'y'; 1000]).await;
        size(&directory.path().join("log")) < 100_000
    })
    .await;
    let before = store.list(ListRequest::default()).await.unwrap();
    drop(store);
    let store = Embedded::open(directory.path(), eager()).unwrap();
    assert_eq!(store.list(ListRequest::default()).await.unwrap().records, before.records);
}

#[tokio::test]
async fn a_bloated_checkpoint_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), eager()).unwrap();
    until_two_checkpoints(directory.path(), &store).await;
    // Sparse: it only looks as if it took that much.
    let bloat = directory.path().join("sled-a/blobs/12345");
    fs::File::create(&bloat).unwrap().set_len(1 << 30).unwrap();
    until("the bloat to go", async || {
        put(&store, "filler", vec![b'y'; 1000]).await;
        !bloat.exists()
    })
    .await;
    let before = store.list(ListRequest::default()).await.unwrap();
    drop(store);
    let store = Embedded::open(directory.path(), eager()).unwrap();
    assert_eq!(store.list(ListRequest::default()).await.unwrap().records, before.records);
}

#[tokio::test]
async fn overwriting_does_not_grow_the_disk_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let history = HistoryBounds { events: 1000, ..HistoryBounds::default() };
    let options = Options { history, checkpoint_bytes: 200_000, ..Options::default() };
    let store = Embedded::open(directory.path(), options.clone()).unwrap();
    for round in 0..150 {
        let commit = async |key: usize| put(&store, &format!("key/{key}"), vec![b'z'; 900 + round]).await;
        join_all((0..100).map(commit).collect()).await;
    }
    // 14 MB have been written, of 100 kB that are alive. How far checkpoints lag behind is the machine's matter.
    until("the disk to have little more than what is alive", async || {
        put(&store, "key/0", vec![b'z'; 900]).await;
        size(directory.path()) < 4 << 20
    })
    .await;
    let revision = store.revision();
    drop(store);
    assert_eq!(Embedded::open(directory.path(), options).unwrap().revision(), revision);
}

/// All at once, so that they share syncs.
async fn join_all<F: Future>(futures: Vec<F>) {
    let mut waiting: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
