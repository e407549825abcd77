//! A snapshot, and the store that is made of it.

use svcd_store::snapshot::{Contents, JUMP, pieces};
use svcd_store::{
    Embedded, Expect, ListRequest, Op, OpenError, Options, ReadError, Revision, Store, Txn, Value,
};

fn put(key: &str, value: &str) -> Txn {
    let value = Value::with_revision_at(value, value.len());
    Txn { expect: Vec::new(), ops: vec![Op::Put { key: key.into(), value, meta: "meta".into() }] }
}

async fn snapshot(store: &Embedded) -> Contents {
    let page = store.list(ListRequest::default()).await.expect("the newest state can be read");
    let bytes: Vec<u8> = pieces(page, 1, Vec::new()).flatten().collect();
    Contents::read(&*bytes).expect("it is whole")
}

#[tokio::test]
async fn a_restored_store_has_the_records_and_none_of_the_past() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let store = Embedded::open(&old, Options::default()).unwrap();
    let first = store.commit(put("/a", "one ")).await.unwrap().revision;
    store.commit(put("/b", "two ")).await.unwrap();
    let contents = snapshot(&store).await;
    let lost = store.commit(put("/b", "lost ")).await.unwrap().revision;
    store.close();

    Embedded::restore(&new, contents.records.clone(), contents.head.revision).unwrap();
    for _ in 0..2 {
        let store = Embedded::open(&new, Options::default()).unwrap();
        let kept = store.get("/b").await.unwrap().unwrap();
        assert_eq!((&*kept.value, kept.modified), (&b"two 3"[..], contents.head.revision));
        store.close();
    }
    let store = Embedded::open(&new, Options::default()).unwrap();
    let begin = store.revision();
    assert_eq!(begin.0, contents.head.revision.0 + JUMP);
    // Whatever anybody saw before, there is no watch and no list from there.
    for seen in [first, contents.head.revision, lost, Revision(begin.0 - 1)] {
        assert!(matches!(store.watch("/", seen).await, Err(ReadError::Compacted { .. })), "{seen}");
        let list = ListRequest { at: Some(seen), ..ListRequest::default() };
        assert!(matches!(store.list(list).await, Err(ReadError::Compacted { .. })), "{seen}");
    }
    // Who saw the lost write cannot write over what came back; who saw what came back can.
    let with = |expect| Txn { expect: vec![("/b".into(), expect)], ..put("/b", "three ") };
    assert!(store.commit(with(Expect::At(lost))).await.is_err());
    let written = store.commit(with(Expect::At(contents.head.revision))).await.unwrap().revision;
    assert_eq!(written.0, begin.0 + 1);
    let mut watch = store.watch("/", begin).await.unwrap();
    assert_eq!(watch.next().await.unwrap().events.len(), 1);
    drop(watch);
    store.close();
    let store = Embedded::open(&new, Options::default()).unwrap();
    assert_eq!(store.revision(), written);
}

#[tokio::test]
async fn a_snapshot_stands_at_one_revision_while_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(Embedded::open(dir.path().join("old"), Options::default()).unwrap());
    // Both keys always change together.
    let both = |n: u32| {
        let ops = ["/a", "/z"].map(|key| put(key, &format!("{n} ")).ops.remove(0));
        Txn { expect: Vec::new(), ops: ops.into() }
    };
    store.commit(both(0)).await.unwrap();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 1..500 {
                store.commit(both(n)).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let contents = snapshot(&store).await;
        assert_eq!(contents.records[0].value, contents.records[1].value);
        assert_eq!(contents.records[0].modified, contents.head.revision);
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

#[test]
fn only_an_empty_directory_is_restored_into() {
    let dir = tempfile::tempdir().unwrap();
    drop(Embedded::open(dir.path(), Options::default()).unwrap());
    let refused = Embedded::restore(dir.path(), Vec::new(), Revision(7)).unwrap_err();
    assert!(matches!(refused, OpenError::NotEmpty { .. }), "{refused}");
}
