//! A disk that is really full: a small tmpfs of our own, in a child with its own mount namespace.

#![allow(clippy::unwrap_used, reason = "only tests are in here")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytes::Bytes;
use svcd_store::{CommitError, Embedded, ListRequest, Op, Options, Store, Txn, Value};

const DIRECTORY: &str = "SVCD_STORE_FULL_DIRECTORY";

/// This test binary as a child, in namespaces of its own and with a small tmpfs on `directory`.
fn run_child(unshare: &[&str], directory: &Path) -> std::io::Result<Output> {
    let mount = r#"mount -t tmpfs -o size=8m none "$1" && exec "$2" --exact child --ignored --nocapture"#;
    Command::new("unshare")
        .args(unshare)
        .args(["sh", "-c", mount, "sh"])
        .arg(directory)
        .arg(std::env::current_exe()?)
        .env(DIRECTORY, directory)
        .output()
}

#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    let can = |unshare: &[&str]| {
        let tried =
            Command::new("unshare").args(unshare).args(["mount", "-t", "tmpfs", "none", "/mnt"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let Some(unshare) = [&["-m"][..], &["-rm"][..]].into_iter().find(|unshare| can(unshare)) else {
        println!("skipped: neither root nor a user namespace may mount a tmpfs here");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let output = run_child(unshare, directory.path()).unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn txn(round: usize, size: usize) -> Txn {
    let op = |key: &str| Op::Put {
        key: key.into(),
        value: Value::plain(vec![b'0' + (round % 10) as u8; size]),
        meta: Bytes::new(),
    };
    Txn { expect: Vec::new(), ops: vec![op("a"), op("b")] }
}

/// Takes what room there is, but for the megabyte that sled opens with.
fn fill(filler: &Path) {
    let mut file = File::options().append(true).open(filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length - (1 << 20)).unwrap();
}

/// Both keys hold the same, and say what.
async fn whole(store: &Embedded) -> Bytes {
    let page = store.list(ListRequest::default()).await.unwrap();
    assert_eq!(page.records.len(), 2);
    assert_eq!(page.records[0].value, page.records[1].value);
    page.records[0].value.clone()
}

#[test]
#[ignore = "it is the child of `a_full_disk_refuses_writes_and_recovers`"]
fn child() {
    let directory = PathBuf::from(std::env::var(DIRECTORY).expect("the parent names the directory"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let filler = directory.join("filler");
        File::create(&filler).unwrap().write_all(&vec![1; 5 << 20]).unwrap();
        // Checkpoints will not find room either.
        let options = Options { checkpoint_bytes: 500_000, ..Options::default() };
        let store = Embedded::open(directory.join("store"), options.clone()).unwrap();
        let (mut last, mut refusals) = (0, 0);
        // A checkpoint that finds no room gives back what it had taken, and then there is room again for a while.
        while refusals < 6 {
            match store.commit(txn(last + 1, 100_000)).await {
                Ok(_) => (last, refusals) = (last + 1, 0),
                Err(CommitError::Full(_)) => refusals += 1,
                Err(refused) => panic!("{refused}"),
            }
            assert!(last < 100, "the disk takes more than it has");
        }
        let expected = vec![b'0' + (last % 10) as u8; 100_000];
        let revision = store.revision();
        assert_eq!((whole(&store).await.as_ref(), store.revision()), (&expected[..], revision));
        drop(store);
        fill(&filler);

        // It opens on the full disk, and goes on as soon as there is room.
        let store = Embedded::open(directory.join("store"), options).unwrap();
        assert_eq!((whole(&store).await.as_ref(), store.revision()), (&expected[..], revision));
        assert!(matches!(store.commit(txn(last + 1, 1_000_000)).await, Err(CommitError::Full(_))));
        fs::remove_file(&filler).unwrap();
        let next = store.commit(txn(last + 1, 1000)).await.unwrap();
        assert_eq!(next.revision.0, revision.0 + 1);
        drop(store);
        let store = Embedded::open(directory.join("store"), Options::default()).unwrap();
        assert_eq!(whole(&store).await.len(), 1000);
    });
}
