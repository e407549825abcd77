//! Durable writes a second at 1, 16 and 256 writers, beside the machine's limit measured in the same run: a bare append of
//! the same bytes and one fdatasync for all that wait. Also beside sled alone, made durable in the only way it can be
//! (flush, then fdatasync of its file): what the log in front of it is there to beat.
//!
//! `cargo bench -p svcd-store`; the seconds each figure takes can be given as an argument.

#![allow(clippy::unwrap_used, reason = "a bench may fail loudly")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use svcd_store::{Embedded, Op, Options, Store, Txn, Value};
use tokio::sync::{mpsc, oneshot};

const VALUE: usize = 1024;
const GROUP: usize = 512;

#[async_trait]
trait Engine: Send + Sync {
    /// Comes back when it is durable.
    async fn write(&self, key: String, value: Vec<u8>);
}

#[async_trait]
impl Engine for Embedded {
    async fn write(&self, key: String, value: Vec<u8>) {
        let op = Op::Put { key, value: Value::plain(value), meta: Bytes::new() };
        self.commit(Txn { expect: Vec::new(), ops: vec![op] }).await.unwrap();
    }
}

type Waiting = (String, Vec<u8>, oneshot::Sender<()>);

/// A thread that makes groups durable in some way, and the queue to it.
struct Grouped(mpsc::Sender<Waiting>);

impl Grouped {
    fn start(mut durable: impl FnMut(&[Waiting]) + Send + 'static) -> Self {
        let (sender, mut queue) = mpsc::channel::<Waiting>(GROUP * 2);
        std::thread::spawn(move || {
            while let Some(first) = queue.blocking_recv() {
                let mut group = vec![first];
                while group.len() < GROUP
                    && let Ok(next) = queue.try_recv()
                {
                    group.push(next);
                }
                durable(&group);
                for (_, _, answer) in group {
                    answer.send(()).unwrap();
                }
            }
        });
        Self(sender)
    }

    fn bare(directory: &Path) -> Self {
        let mut file = File::create(directory.join("bare")).unwrap();
        let mut frame = Vec::new();
        Self::start(move |group| {
            frame.clear();
            for (key, value, _) in group {
                // As many bytes as our own frames have.
                frame.extend_from_slice(&[0; 28]);
                frame.extend_from_slice(key.as_bytes());
                frame.extend_from_slice(value);
            }
            file.write_all(&frame).unwrap();
            file.sync_data().unwrap();
        })
    }

    fn sled(directory: &Path) -> Self {
        let database = sled::Config::new().path(directory.join("sled")).flush_every_ms(None).open().unwrap();
        let file = File::options().write(true).open(directory.join("sled/db")).unwrap();
        Self::start(move |group| {
            let mut batch = sled::Batch::default();
            for (key, value, _) in group {
                batch.insert(key.as_bytes(), value.as_slice());
            }
            database.apply_batch(batch).unwrap();
            database.flush().unwrap();
            file.sync_data().unwrap();
        })
    }
}

#[async_trait]
impl Engine for Grouped {
    async fn write(&self, key: String, value: Vec<u8>) {
        let (answer, answered) = oneshot::channel();
        assert!(self.0.send((key, value, answer)).await.is_ok());
        answered.await.unwrap();
    }
}

struct Figure {
    rate: f64,
    p50: Duration,
    p99: Duration,
}

async fn measure(engine: Arc<dyn Engine>, writers: usize, time: Duration) -> Figure {
    let over = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (engine, over) = (engine.clone(), over.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let (key, begun) = (format!("key/{writer}/{}", times.len() % 1000), Instant::now());
                    engine.write(key, vec![b'v'; VALUE]).await;
                    times.push(begun.elapsed());
                }
                times
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort();
    Figure { rate, p50: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
}

fn main() {
    let seconds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(2.0);
    let time = Duration::from_secs_f64(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("durable writes of {VALUE} bytes, {seconds} s each; in brackets p50 and p99 of one write");
    println!(
        "{:>7}  {:>32}  {:>46}  {:>46}",
        "writers", "append + fdatasync", "svcd-store", "sled + fdatasync"
    );
    for writers in [1, 16, 256] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let run = |engine: Arc<dyn Engine>| runtime.block_on(measure(engine, writers, time));
        let bare = run(Arc::new(Grouped::bare(path)));
        let ours = run(Arc::new(Embedded::open(path.join("store"), Options::default()).unwrap()));
        let sled = run(Arc::new(Grouped::sled(path)));
        let show = |figure: &Figure| {
            let Figure { rate, p50, p99 } = figure;
            format!("{rate:.0}/s ({:.2}, {:.2} ms)", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3)
        };
        let compared = |figure: &Figure| format!("{} = {:.2} x limit", show(figure), figure.rate / bare.rate);
        println!("{writers:>7}  {:>32}  {:>46}  {:>46}", show(&bare), compared(&ours), compared(&sled));
    }
}
