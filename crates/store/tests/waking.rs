//! Who is woken: a watcher of one prefix must not run for the events of all others.

#![allow(clippy::unwrap_used, reason = "only tests are in here")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use svcd_store::{Embedded, HistoryBounds, Op, Options, ReadError, Revision, Store, Txn, Value};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

async fn put(store: &Embedded, key: &str) {
    let op = Op::Put { key: key.into(), value: Value::plain("x"), meta: Bytes::new() };
    store.commit(Txn { expect: Vec::new(), ops: vec![op] }).await.unwrap();
}

#[tokio::test]
async fn only_the_concerned_are_woken() {
    const WATCHERS: usize = 1000;
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), Options::default()).unwrap();
    let mut watches = Vec::new();
    for number in 0..WATCHERS {
        watches.push(store.watch(&format!("ns/{number:04}/"), Revision(1)).await.unwrap());
    }
    let counts: Vec<Arc<Count>> = watches.iter().map(|_| Arc::default()).collect();
    let mut waiting: Vec<_> = watches.iter_mut().map(|watch| watch.next()).collect();
    for (next, count) in waiting.iter_mut().zip(&counts) {
        let waker = Waker::from(count.clone());
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    put(&store, "ns/0007/pod").await;
    put(&store, "elsewhere").await;
    put(&store, "ns/0007").await;
    let woken: Vec<_> = (0..WATCHERS).filter(|number| counts[*number].get() > 0).collect();
    assert_eq!(woken, [7]);
    let waker = Waker::from(counts[7].clone());
    let Poll::Ready(Ok(batch)) = waiting[7].as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("it was woken for nothing");
    };
    assert_eq!(batch.events.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost() {
    const EVENTS: u64 = 500;
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(directory.path(), Options::default()).unwrap());
    let watchers: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut watch = store.watch("a/", Revision(1)).await.unwrap();
                let mut seen = Vec::new();
                while seen.len() < EVENTS as usize {
                    seen.extend(watch.next().await.unwrap().events.iter().map(|event| event.revision.0));
                }
                seen
            })
        })
        .collect();
    for _ in 0..EVENTS {
        put(&store, "a/x").await;
    }
    for watcher in watchers {
        let seen = tokio::time::timeout(Duration::from_secs(20), watcher)
            .await
            .expect("no watcher sleeps on")
            .unwrap();
        assert_eq!(seen, (2..EVENTS + 2).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_overtaken_watch_is_told_and_a_quiet_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let history = HistoryBounds { events: 5, ..HistoryBounds::default() };
    let store = Embedded::open(directory.path(), Options { history, ..Options::default() }).unwrap();
    let mut slow = store.watch("a/", Revision(1)).await.unwrap();
    let mut quiet = store.watch("b/", Revision(1)).await.unwrap();
    for _ in 0..10 {
        put(&store, "a/x").await;
    }
    let told = slow.next().await;
    assert!(matches!(told, Err(ReadError::Compacted { requested: Revision(1), .. })), "{told:?}");
    assert_eq!(quiet.progress(), Revision(11));
    put(&store, "b/x").await;
    assert_eq!(quiet.next().await.unwrap().events.len(), 1);
}
