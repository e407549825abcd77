//! How long opening takes with 10,000 and 100,000 objects of 1 KiB, when all is in the log and when most is in a
//! checkpoint; and how much room the objects take on disk and in memory.
//!
//! `cargo bench -p svcd-store --bench opening`

#![allow(clippy::unwrap_used, reason = "a bench may fail loudly")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use svcd_store::{Embedded, ListRequest, Op, Options, Store, Txn, Value};

const VALUE: usize = 1024;
const WRITERS: usize = 128;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!(
        "{:>8}  {:>12}  {:>10}  {:>10}  {:>10}  {:>12}",
        "objects", "in the", "written", "opened", "listed", "disk"
    );
    for objects in [10_000, 100_000] {
        for (what, checkpoint_bytes) in [("log", u64::MAX), ("checkpoint", 8 << 20)] {
            let directory = tempfile::tempdir().unwrap();
            let options = Options { checkpoint_bytes, ..Options::default() };
            let begun = Instant::now();
            runtime.block_on(fill(directory.path(), &options, objects));
            let written = begun.elapsed();
            let begun = Instant::now();
            let store = Embedded::open(directory.path(), options).unwrap();
            let opened = begun.elapsed();
            let begun = Instant::now();
            let page = runtime.block_on(store.list(ListRequest::default())).unwrap();
            let listed = begun.elapsed();
            assert_eq!(page.records.len(), objects);
            let disk = size(directory.path()) >> 20;
            println!(
                "{objects:>8}  {what:>12}  {written:>10.3?}  {opened:>10.3?}  {listed:>10.3?}  {disk:>8} MiB"
            );
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("peak memory: {line}"));
}

async fn fill(directory: &Path, options: &Options, objects: usize) {
    let store = Arc::new(Embedded::open(directory, options.clone()).unwrap());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in (writer..objects).step_by(WRITERS) {
                    let key = format!("/objects/core/pods/default/pod-{number}");
                    let op = Op::Put { key, value: Value::plain(vec![b'v'; VALUE]), meta: Bytes::new() };
                    store.commit(Txn { expect: Vec::new(), ops: vec![op] }).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.metadata().unwrap(), entry.path()))
        .map(|(metadata, path)| if metadata.is_dir() { size(&path) } else { metadata.len() })
        .sum()
}
