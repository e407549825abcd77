//! What every engine owes: plain functions over `dyn Store`, each on a fresh, empty store. An engine passes when all do.

#![allow(clippy::unwrap_used, reason = "only tests are in here")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use svcd_store::{
    Batch, CommitError, Committed, Event, Expect, ListRequest, Op, ReadError, Record, Revision, Store, Txn,
    Value, Watch,
};

pub(crate) type Fresh = Arc<dyn Store>;

/// Nothing in here takes long: a wait that does is a hang.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it comes within the deadline")
}

pub(crate) fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.into(), value: Value::plain(value), meta: Bytes::new() }
}

pub(crate) fn delete(key: &str) -> Op {
    Op::Delete { key: key.into(), last: None }
}

pub(crate) fn ops(ops: impl IntoIterator<Item = Op>) -> Txn {
    Txn { expect: Vec::new(), ops: ops.into_iter().collect() }
}

pub(crate) fn expecting(key: &str, expect: Expect, op: Op) -> Txn {
    Txn { expect: vec![(key.into(), expect)], ops: vec![op] }
}

pub(crate) async fn commit(store: &Fresh, txn: Txn) -> Committed {
    soon(store.commit(txn)).await.expect("the transaction is applied")
}

pub(crate) async fn values(store: &Fresh, request: ListRequest) -> Vec<(String, String)> {
    let page = soon(store.list(request)).await.expect("the list is readable");
    page.records.iter().map(|record| (record.key.to_string(), text(record))).collect()
}

pub(crate) fn text(record: &Record) -> String {
    String::from_utf8(record.value.to_vec()).expect("tests write text")
}

pub(crate) fn under(prefix: &str) -> ListRequest {
    ListRequest { prefix: prefix.into(), ..ListRequest::default() }
}

async fn next(watch: &mut Box<dyn Watch>) -> Batch {
    soon(watch.next()).await.expect("the watch goes on")
}

async fn events(watch: &mut Box<dyn Watch>, count: usize) -> Vec<Arc<Event>> {
    let mut all = Vec::new();
    while all.len() < count {
        let batch = next(watch).await;
        assert!(batch.events.last().is_none_or(|last| last.revision <= batch.revision));
        all.extend(batch.events);
    }
    all
}

/// Polls a watch once; it must have nothing to say.
async fn quiet(watch: &mut Box<dyn Watch>) {
    tokio::select! {
        biased;
        unexpected = watch.next() => panic!("nothing was to come, but {unexpected:?}"),
        () = std::future::ready(()) => {}
    }
}

pub(crate) async fn an_empty_store_is_at_one(store: Fresh) {
    assert_eq!(store.revision(), Revision(1));
    assert!(soon(store.get("a")).await.unwrap().is_none());
    let page = soon(store.list(under(""))).await.unwrap();
    assert_eq!((page.records.len(), page.remaining, page.revision), (0, 0, Revision(1)));
}

pub(crate) async fn a_write_is_read_back(store: Fresh) {
    let written = commit(&store, ops([put("a", "1")])).await;
    assert_eq!(written.revision, Revision(2));
    let read = soon(store.get("a")).await.unwrap().expect("it is there");
    assert_eq!(written.records, [Some(read.clone())]);
    assert_eq!((text(&read).as_str(), read.created, read.modified), ("1", Revision(2), Revision(2)));
    let again = commit(&store, ops([put("a", "2")])).await.records[0].clone().unwrap();
    assert_eq!((again.created, again.modified), (Revision(2), Revision(3)));
    assert_eq!(store.revision(), Revision(3));
}

pub(crate) async fn the_revision_is_spliced_in(store: Fresh) {
    let value = |text: &str, at| Value::with_revision_at(text, at);
    let put = |key: &str, value| Op::Put { key: key.into(), value, meta: Bytes::from_static(b"side") };
    commit(&store, ops([put("a", value("rv:<>", 4)), put("b", value("", 0)), put("c", value("end", 3))]))
        .await;
    let expected = [("a", "rv:<2>"), ("b", "2"), ("c", "end2")].map(|(key, text)| (key.into(), text.into()));
    assert_eq!(values(&store, under("")).await, expected);
    assert_eq!(soon(store.get("a")).await.unwrap().unwrap().meta, "side");
    let last = Op::Delete { key: "a".into(), last: Some(value("gone at ", 8)) };
    let deleted = commit(&store, ops([last])).await.records[0].clone().unwrap();
    assert_eq!(
        (text(&deleted).as_str(), deleted.created, deleted.modified),
        ("gone at 3", Revision(2), Revision(3))
    );
    assert_eq!(deleted.meta, "side");
}

pub(crate) async fn expectations_decide(store: Fresh) {
    let first = commit(&store, expecting("a", Expect::Absent, put("a", "1"))).await.revision;
    let conflict = soon(store.commit(expecting("a", Expect::Absent, put("a", "x")))).await;
    let Err(CommitError::Conflict { key, found: Some(found) }) = conflict else { panic!("{conflict:?}") };
    assert_eq!((key.as_str(), text(&found).as_str()), ("a", "1"));
    let second = commit(&store, expecting("a", Expect::At(first), put("a", "2"))).await.revision;
    let stale = soon(store.commit(expecting("a", Expect::At(first), put("a", "x")))).await;
    assert!(matches!(stale, Err(CommitError::Conflict { .. })), "{stale:?}");
    let absent = soon(store.commit(expecting("b", Expect::At(second), put("a", "x")))).await;
    assert!(matches!(absent, Err(CommitError::Conflict { found: None, .. })), "{absent:?}");
    assert_eq!((store.revision(), values(&store, under("")).await), (second, vec![("a".into(), "2".into())]));
}

pub(crate) async fn a_transaction_is_whole_or_nothing(store: Fresh) {
    commit(&store, ops([put("a", "1"), put("b", "1")])).await;
    let txn = Txn {
        expect: vec![("b".into(), Expect::Absent)],
        ops: vec![put("a", "2"), delete("b"), put("c", "2")],
    };
    assert!(soon(store.commit(txn)).await.is_err());
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(values(&store, under("")).await, [pair("a", "1"), pair("b", "1")]);
    let all = commit(&store, ops([put("a", "2"), delete("b"), put("c", "2")])).await;
    assert_eq!(values(&store, under("")).await, [pair("a", "2"), pair("c", "2")]);
    let revisions: Vec<_> = all.records.iter().flatten().map(|record| record.modified).collect();
    // The deleted record is the stored one.
    assert_eq!(revisions, [all.revision, Revision(2), all.revision]);
}

pub(crate) async fn what_changes_nothing_takes_no_revision(store: Fresh) {
    let nothing = commit(&store, ops([delete("a")])).await;
    assert_eq!((nothing.revision, nothing.records.as_slice()), (Revision(1), &[None][..]));
    let checked = Txn { expect: vec![("a".into(), Expect::Absent)], ops: Vec::new() };
    assert_eq!(commit(&store, checked).await.revision, Revision(1));
    assert_eq!(commit(&store, ops([delete("a"), put("b", "")])).await.revision, Revision(2));
}

pub(crate) async fn a_key_stands_once_in_a_transaction(store: Fresh) {
    let twice = soon(store.commit(ops([put("a", "1"), delete("a")]))).await;
    assert!(matches!(twice, Err(CommitError::Invalid(_))), "{twice:?}");
    assert_eq!(store.revision(), Revision(1));
}

pub(crate) async fn pages_stand_on_one_revision(store: Fresh) {
    for number in 0..10 {
        commit(&store, ops([put(&format!("k/{number}"), "old")])).await;
    }
    let request = ListRequest { limit: 4, ..under("k/") };
    let first = soon(store.list(request.clone())).await.unwrap();
    assert_eq!((first.records.len(), first.remaining), (4, 6));
    commit(&store, ops([delete("k/5"), put("k/7", "new"), put("k/55", "new"), put("k/9a", "new")])).await;
    let mut keys: Vec<_> = first.records.iter().map(|record| record.key.to_string()).collect();
    loop {
        let start_after = keys.last().cloned();
        let page = ListRequest { at: Some(first.revision), start_after, ..request.clone() };
        let page = soon(store.list(page)).await.unwrap();
        assert_eq!(page.revision, first.revision);
        assert!(page.records.iter().all(|record| text(record) == "old"));
        keys.extend(page.records.iter().map(|record| record.key.to_string()));
        assert_eq!(keys.len() + page.remaining, 10);
        if page.remaining == 0 {
            break;
        }
    }
    assert_eq!(keys, (0..10).map(|number| format!("k/{number}")).collect::<Vec<_>>());
}

pub(crate) async fn lists_are_in_order_and_under_their_prefix(store: Fresh) {
    commit(&store, ops(["b/1", "a", "b0", "b/", "b/10", "b/2", "b", "c"].map(|key| put(key, key)))).await;
    let keys = |records: Vec<(String, String)>| records.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(values(&store, under("b/")).await), ["b/", "b/1", "b/10", "b/2"]);
    let after = |key: &str| ListRequest { start_after: Some(key.into()), ..under("b/") };
    assert_eq!(keys(values(&store, after("b/1")).await), ["b/10", "b/2"]);
    assert_eq!(keys(values(&store, after("b/11")).await), ["b/2"]);
    assert_eq!(keys(values(&store, after("a")).await).len(), 4);
    assert_eq!(keys(values(&store, after("c")).await).len(), 0);
    assert_eq!(values(&store, under("")).await.len(), 8);
}

pub(crate) async fn the_past_and_the_future_are_told_apart(store: Fresh) {
    commit(&store, ops([put("a", "1")])).await;
    commit(&store, ops([put("a", "2"), put("b", "2")])).await;
    commit(&store, ops([delete("a")])).await;
    let at = |revision| ListRequest { at: Some(Revision(revision)), ..under("") };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(values(&store, at(1)).await, []);
    assert_eq!(values(&store, at(2)).await, [pair("a", "1")]);
    assert_eq!(values(&store, at(3)).await, [pair("a", "2"), pair("b", "2")]);
    assert_eq!(values(&store, at(4)).await, [pair("b", "2")]);
    let future = soon(store.list(at(5))).await;
    assert!(matches!(future, Err(ReadError::Future { current: Revision(4), .. })), "{future:?}");
    let compacted = soon(store.list(at(0))).await;
    assert!(matches!(compacted, Err(ReadError::Compacted { .. })), "{compacted:?}");
}

pub(crate) async fn a_watch_sees_every_event_once(store: Fresh) {
    commit(&store, ops([put("w/a", "1"), put("x/a", "1")])).await;
    let mut watch = soon(store.watch("w/", Revision(1))).await.unwrap();
    commit(&store, ops([put("w/a", "2"), put("w/b", "2")])).await;
    commit(&store, ops([put("x/b", "3")])).await;
    commit(&store, ops([delete("w/a")])).await;
    let seen = events(&mut watch, 4).await;
    let told: Vec<_> = seen
        .iter()
        .map(|event| (event.revision.0, &*event.record.key, event.deleted, text(&event.record)))
        .collect();
    let told: Vec<_> = told.iter().map(|(at, key, gone, text)| (*at, *key, *gone, text.as_str())).collect();
    let expected =
        [(2, "w/a", false, "1"), (3, "w/a", false, "2"), (3, "w/b", false, "2"), (5, "w/a", true, "2")];
    assert_eq!(told, expected);
    let previous: Vec<_> =
        seen.iter().map(|event| event.previous.as_ref().map(|previous| text(previous))).collect();
    assert_eq!(previous, [None, Some("1".into()), None, Some("2".into())]);
    quiet(&mut watch).await;
}

pub(crate) async fn a_watch_resumes_anywhere(store: Fresh) {
    for number in 0..20 {
        commit(&store, ops([put("a", &number.to_string()), put("b", &number.to_string())])).await;
    }
    for after in 1..=21 {
        let mut watch = soon(store.watch("", Revision(after))).await.unwrap();
        let seen = events(&mut watch, usize::try_from((21 - after) * 2).unwrap()).await;
        let revisions: Vec<_> = seen.iter().map(|event| event.revision.0).collect();
        assert_eq!(revisions, (after + 1..=21).flat_map(|revision| [revision; 2]).collect::<Vec<_>>());
    }
    let compacted = soon(store.watch("", Revision(0))).await.err();
    assert!(matches!(compacted, Some(ReadError::Compacted { .. })), "{compacted:?}");
}

pub(crate) async fn a_watch_of_the_future_waits(store: Fresh) {
    let mut watch = soon(store.watch("", Revision(3))).await.unwrap();
    for value in ["2", "3", "4"] {
        quiet(&mut watch).await;
        commit(&store, ops([put("a", value)])).await;
    }
    let seen = events(&mut watch, 1).await;
    assert_eq!((seen.len(), seen[0].revision), (1, Revision(4)));
}

pub(crate) async fn a_quiet_watch_makes_progress(store: Fresh) {
    let mut watch = soon(store.watch("quiet/", Revision(1))).await.unwrap();
    assert_eq!(watch.progress(), Revision(1));
    commit(&store, ops([put("loud/a", "1")])).await;
    assert_eq!(watch.progress(), Revision(2));
    commit(&store, ops([put("quiet/a", "1")])).await;
    commit(&store, ops([put("loud/a", "2")])).await;
    assert!(watch.progress() < Revision(3), "an event is still to be delivered");
    let batch = next(&mut watch).await;
    assert_eq!((batch.events.len(), batch.revision), (1, Revision(4)));
    assert_eq!(watch.progress(), Revision(4));
}

pub(crate) async fn concurrent_increments_all_count(store: Fresh) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 10;
    commit(&store, ops([put("n", "0")])).await;
    let increments = (0..WRITERS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while done < EACH {
                let now = store.get("n").await.unwrap().unwrap();
                let value = text(&now).parse::<u64>().unwrap() + 1;
                let txn = expecting("n", Expect::At(now.modified), put("n", &value.to_string()));
                match store.commit(txn).await {
                    Ok(_) => done += 1,
                    Err(CommitError::Conflict { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        })
    });
    for increment in increments.collect::<Vec<_>>() {
        soon(increment).await.unwrap();
    }
    assert_eq!(values(&store, under("")).await, [("n".into(), (WRITERS * EACH).to_string())]);
    assert_eq!(store.revision(), Revision(2 + WRITERS * EACH));
}

pub(crate) async fn big_values_are_kept_whole(store: Fresh) {
    let big = "x".repeat(3 << 20);
    commit(&store, ops([put("big", &big), put("empty", "")])).await;
    assert_eq!(text(&soon(store.get("big")).await.unwrap().unwrap()), big);
    assert_eq!(text(&soon(store.get("empty")).await.unwrap().unwrap()), "");
}
