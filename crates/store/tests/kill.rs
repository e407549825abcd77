//! Kills a process under load with SIGKILL, again and again on the same data directory, and looks at what it left.
//!
//! The child is this very test binary, running the ignored test `child`. It tells every acknowledged write through its
//! standard output; whatever came through must be there afterwards, whole.

#![allow(clippy::unwrap_used, reason = "only tests are in here")]

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use svcd_store::{
    CommitError, Embedded, Expect, HistoryBounds, ListRequest, Op, Options, Record, Revision, Store, Txn,
    Value,
};

const KILLS: usize = 60;
const WRITERS: usize = 8;
const DIRECTORY: &str = "SVCD_STORE_KILL_DIRECTORY";

/// Small, so that kills meet checkpoints and rotation as well.
fn options() -> Options {
    Options { history: HistoryBounds::default(), group: 64, checkpoint_bytes: 100_000 }
}

fn put(key: String, number: u64, padding: usize) -> Op {
    let value = format!("{number} {}", "x".repeat(padding));
    Op::Put { key, value: Value::plain(value), meta: Bytes::new() }
}

fn number(record: &Record) -> u64 {
    let text = std::str::from_utf8(&record.value).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn part(writer: usize, part: usize) -> String {
    format!("writer/{writer}/{part}")
}

/// Writes until it is killed.
#[test]
#[ignore = "it is the child of `nothing_acknowledged_is_lost`"]
fn child() {
    let directory = std::env::var(DIRECTORY).expect("the parent names the directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(directory, options()).unwrap());
        println!("\nopened {}", store.revision());
        let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

/// Three keys at a time, one number in all of them; a shared counter; one key that comes and goes.
async fn write(store: Arc<dyn Store>, writer: usize) {
    let start = store.get(&part(writer, 0)).await.unwrap().map_or(0, |record| number(&record));
    for next in start + 1.. {
        let mut ops: Vec<Op> =
            (0..3).map(|index| put(part(writer, index), next, (next as usize * 37) % 900)).collect();
        let fleeting = format!("fleeting/{writer}");
        ops.push(if next % 2 == 0 {
            Op::Delete { key: fleeting, last: None }
        } else {
            put(fleeting, next, 10)
        });
        let committed = store.commit(Txn { expect: Vec::new(), ops }).await.unwrap();
        report(&format!("ack {writer} {next} {}\n", committed.revision));
        if next % 4 == 0 {
            count(&store).await;
        }
    }
}

async fn count(store: &Arc<dyn Store>) {
    let now = store.get("counter").await.unwrap();
    let next = now.as_ref().map_or(0, |record| number(record)) + 1;
    let expect = now.map_or(Expect::Absent, |record| Expect::At(record.modified));
    let txn = Txn { expect: vec![("counter".into(), expect)], ops: vec![put("counter".into(), next, 0)] };
    match store.commit(txn).await {
        Ok(committed) => report(&format!("count {next} {}\n", committed.revision)),
        Err(CommitError::Conflict { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

/// One write call each, so that a line comes through whole or not at all.
fn report(line: &str) {
    let mut out = File::options().write(true).open("/dev/stdout").unwrap();
    out.write_all(line.as_bytes()).unwrap();
}

/// What the child has said, over all its lives.
#[derive(Default)]
struct Acknowledged {
    writers: BTreeMap<usize, (u64, u64)>,
    counter: u64,
    revision: u64,
    lines: usize,
}

impl Acknowledged {
    fn take(&mut self, line: &str) {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        match (kind, numbers.as_slice()) {
            ("ack", &[writer, next, revision]) => {
                self.writers.insert(writer as usize, (next, revision));
                self.revision = self.revision.max(revision);
            }
            ("count", &[next, revision]) => {
                self.counter = self.counter.max(next);
                self.revision = self.revision.max(revision);
            }
            ("opened", &[revision]) => {
                assert!(revision >= self.revision, "reopened at {revision} after {}", self.revision);
                return;
            }
            _ => return,
        }
        self.lines += 1;
    }
}

fn spawn(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a child live for a while, kills it, and takes in all that it has said.
fn run_and_kill(directory: &Path, life: Duration, acknowledged: &mut Acknowledged) {
    let mut child = spawn(directory);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("opened") {
        line.clear();
        if out.read_line(&mut line).unwrap() == 0 {
            let mut error = String::new();
            child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
            child.wait().unwrap();
            panic!("the child did not open its store: {error}");
        }
    }
    acknowledged.take(line.trim_end());
    let death = Instant::now() + life;
    // Reading on meanwhile keeps the pipe from filling up.
    while Instant::now() < death {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the child ended by itself");
        acknowledged.take(line.trim_end());
    }
    bury(child, out, acknowledged);
}

/// Kills a child, and takes in what it has said last.
fn bury(mut child: Child, mut out: impl Read, acknowledged: &mut Acknowledged) {
    child.kill().unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let lines = rest.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.for_each(|line| acknowledged.take(line.trim_end()));
    child.wait().unwrap();
}

/// Kills a child that has hardly begun.
fn kill_while_opening(directory: &Path, acknowledged: &mut Acknowledged) {
    let mut child = spawn(directory);
    std::thread::sleep(Duration::from_micros(random() % 20_000));
    let out = child.stdout.take().unwrap();
    bury(child, out, acknowledged);
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

async fn check(directory: &Path, acknowledged: &mut Acknowledged) -> Revision {
    let store = Embedded::open(directory, options()).unwrap();
    let revision = store.revision();
    assert!(revision.0 >= acknowledged.revision, "{revision} after {} was answered", acknowledged.revision);
    for (&writer, (acked, at)) in &mut acknowledged.writers {
        let mut parts = Vec::new();
        for index in 0..3 {
            parts.push(store.get(&part(writer, index)).await.unwrap().expect("an acknowledged key"));
        }
        let found = number(&parts[0]);
        assert!(parts.iter().all(|part| number(part) == found), "half a transaction of writer {writer}");
        assert!(parts.iter().all(|part| part.modified == parts[0].modified));
        // One transaction may have been under way.
        assert!(
            (*acked..=*acked + 1).contains(&found),
            "writer {writer} has {found} after {acked} was answered"
        );
        assert!(found > *acked || parts[0].modified.0 == *at);
        let fleeting = store.get(&format!("fleeting/{writer}")).await.unwrap();
        assert_eq!(fleeting.map(|record| number(&record)), (found % 2 == 1).then_some(found));
        // The next child goes on from what is there, told or not.
        (*acked, *at) = (found, parts[0].modified.0);
    }
    let counter = store.get("counter").await.unwrap().map_or(0, |record| number(&record));
    assert!(counter >= acknowledged.counter, "the counter is {counter} after {}", acknowledged.counter);
    check_history(&store).await;
    store.close();
    revision
}

/// What the history says must lead from its oldest state to the newest.
async fn check_history(store: &Embedded) {
    let oldest = match store.list(ListRequest { at: Some(Revision(0)), ..ListRequest::default() }).await {
        Err(svcd_store::ReadError::Compacted { oldest, .. }) => oldest,
        other => panic!("{other:?}"),
    };
    let list = async |at| {
        let page = store.list(ListRequest { at, ..ListRequest::default() }).await.unwrap();
        page.records.into_iter().map(|record| (record.key.clone(), record)).collect::<BTreeMap<_, _>>()
    };
    let (mut state, newest) = (list(Some(oldest)).await, list(None).await);
    let mut watch = store.watch("", oldest).await.unwrap();
    while watch.progress() < store.revision() {
        for event in watch.next().await.unwrap().events {
            assert_eq!(state.get(&event.record.key), event.previous.as_ref());
            if event.deleted {
                state.remove(&event.record.key);
            } else {
                state.insert(event.record.key.clone(), event.record.clone());
            }
        }
    }
    assert_eq!(state, newest);
}

#[test]
fn nothing_acknowledged_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut acknowledged = Acknowledged::default();
    let mut revision = Revision(0);
    for kill in 0..KILLS {
        if kill % 5 == 4 {
            kill_while_opening(directory.path(), &mut acknowledged);
        } else {
            run_and_kill(directory.path(), Duration::from_micros(random() % 120_000), &mut acknowledged);
        }
        let reopened = runtime.block_on(check(directory.path(), &mut acknowledged));
        assert!(reopened >= revision, "kill {kill}: the revision went from {revision} back to {reopened}");
        revision = reopened;
    }
    println!("{KILLS} kills, {} acknowledged transactions, revision {revision}", acknowledged.lines);
    assert!(acknowledged.lines > KILLS, "there was load");
    let marks = ["sled-a.complete", "sled-b.complete"].map(|mark| directory.path().join(mark).exists());
    assert!(marks.contains(&true), "there were checkpoints");
}
