//! Random operations on an embedded store and on a plain model of one, which must agree on everything that can be seen.
//!
//! The store runs with tiny bounds, so that groups, checkpoints and compaction happen all the time.

#![allow(clippy::unwrap_used, reason = "only tests are in here")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use svcd_store::{
    CommitError, Embedded, Expect, HistoryBounds, ListRequest, Op, Options, ReadError, Record, Revision,
    Store, Txn, Value, Watch,
};

const KEYS: [&str; 8] = ["", "a", "a/1", "a/2", "a/22", "b/1", "b/é", "c"];
const PREFIXES: [&str; 6] = ["", "a", "a/", "a/2", "b/", "nothing"];
const MARKS: [&str; 2] = ["sled-a.complete", "sled-b.complete"];
const HISTORY_EVENTS: usize = 25;

fn options() -> Options {
    let history = HistoryBounds { age: Duration::from_secs(3600), events: HISTORY_EVENTS, bytes: usize::MAX };
    Options { history, group: 3, checkpoint_bytes: 400 }
}

#[derive(Clone, Debug)]
enum Step {
    /// Transactions that are sent together.
    Commit(Vec<Draft>),
    Get(&'static str),
    /// Reads all pages, as of so many revisions ago.
    List {
        prefix: &'static str,
        ago: u64,
        limit: usize,
        start_after: Option<&'static str>,
    },
    Watch {
        prefix: &'static str,
        ago: u64,
    },
    /// Takes what one of the watches has.
    Drain(usize),
    /// Perhaps with only one of the two checkpoints.
    Reopen {
        lost: Option<&'static str>,
    },
}

/// A transaction whose expectations are made up when it is sent.
#[derive(Clone, Debug)]
struct Draft {
    expect: Vec<(&'static str, Belief)>,
    ops: BTreeMap<&'static str, Write>,
}

#[derive(Clone, Copy, Debug)]
enum Belief {
    Absent,
    /// What it is now; absent if it is.
    True,
    Stale,
}

#[derive(Clone, Debug)]
enum Write {
    Put(String),
    PutWithRevision(String),
    Delete,
    DeleteWithLast(String),
}

fn step() -> impl Strategy<Value = Step> {
    let ago = prop_oneof![3 => Just(0_u64), 3 => 1..5_u64, 2 => 0..60_u64];
    let after = proptest::option::of(select(&KEYS[..]));
    prop_oneof![
        10 => vec(draft(), 1..6).prop_map(Step::Commit),
        2 => select(&KEYS[..]).prop_map(Step::Get),
        4 => (select(&PREFIXES[..]), ago.clone(), 0..4_usize, after)
            .prop_map(|(prefix, ago, limit, start_after)| Step::List { prefix, ago, limit, start_after }),
        2 => (select(&PREFIXES[..]), ago).prop_map(|(prefix, ago)| Step::Watch { prefix, ago }),
        4 => any::<usize>().prop_map(Step::Drain),
        1 => proptest::option::of(select(&MARKS[..])).prop_map(|lost| Step::Reopen { lost }),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let belief = prop_oneof![1 => Just(Belief::Absent), 6 => Just(Belief::True), 1 => Just(Belief::Stale)];
    let expect = vec((select(&KEYS[..]), belief), 0..3);
    let ops = proptest::collection::btree_map(select(&KEYS[..]), write(), 0..4);
    (expect, ops).prop_map(|(expect, ops)| Draft { expect, ops })
}

fn write() -> impl Strategy<Value = Write> {
    let text = "[a-z]{0,20}";
    prop_oneof![
        4 => text.prop_map(Write::Put),
        2 => text.prop_map(Write::PutWithRevision),
        3 => Just(Write::Delete),
        1 => text.prop_map(Write::DeleteWithLast),
    ]
}

/// A record, as far as it can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plain {
    value: String,
    created: u64,
    modified: u64,
}

impl From<&Record> for Plain {
    fn from(record: &Record) -> Self {
        let value = String::from_utf8(record.value.to_vec()).unwrap();
        assert_eq!(record.meta, format!("meta of {}", record.key));
        Self { value, created: record.created.0, modified: record.modified.0 }
    }
}

type Records = BTreeMap<String, Plain>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Happened {
    revision: u64,
    key: String,
    deleted: bool,
    record: Plain,
    previous: Option<Plain>,
}

/// Every state that ever was, the first at revision 1, and everything that happened.
struct Model {
    states: Vec<Records>,
    happened: Vec<Happened>,
}

impl Model {
    fn revision(&self) -> u64 {
        self.states.len() as u64
    }

    fn now(&self) -> &Records {
        self.states.last().unwrap()
    }

    fn at(&self, revision: u64) -> &Records {
        &self.states[usize::try_from(revision).unwrap() - 1]
    }

    fn events(&self, prefix: &str, after: u64) -> Vec<Happened> {
        let wanted = |event: &&Happened| event.revision > after && event.key.starts_with(prefix);
        self.happened.iter().filter(wanted).cloned().collect()
    }

    /// The revision, or the key that stands in the way.
    fn commit(
        &mut self,
        txn: &[(String, Expect)],
        ops: &BTreeMap<&'static str, Write>,
    ) -> Result<u64, String> {
        for (key, expect) in txn {
            let found = self.now().get(key).map(|record| record.modified);
            let holds = match expect {
                Expect::Absent => found.is_none(),
                Expect::At(revision) => found == Some(revision.0),
            };
            if !holds {
                return Err(key.clone());
            }
        }
        let revision = self.revision() + 1;
        let mut next = self.now().clone();
        let before = self.happened.len();
        for (key, write) in ops {
            self.happened.extend(apply(&mut next, key, write, revision));
        }
        if self.happened.len() > before {
            self.states.push(next);
        }
        Ok(self.revision())
    }
}

fn apply(state: &mut Records, key: &str, write: &Write, revision: u64) -> Option<Happened> {
    let previous = state.get(key).cloned();
    let created = previous.as_ref().map_or(revision, |previous| previous.created);
    let fresh = |value: String| Plain { value, created, modified: revision };
    let (deleted, record) = match write {
        Write::Put(text) => (false, fresh(text.clone())),
        Write::PutWithRevision(text) => (false, fresh(format!("{text}{revision}"))),
        Write::Delete => (true, previous.clone()?),
        Write::DeleteWithLast(text) => {
            previous.as_ref()?;
            (true, fresh(format!("{revision}{text}")))
        }
    };
    if deleted {
        state.remove(key);
    } else {
        state.insert(key.to_owned(), record.clone());
    }
    Some(Happened { revision, key: key.to_owned(), deleted, record, previous })
}

fn op(key: &str, write: &Write) -> Op {
    let key = key.to_owned();
    let meta = Bytes::from(format!("meta of {key}"));
    match write {
        Write::Put(text) => Op::Put { key, value: Value::plain(text.as_str()), meta },
        Write::PutWithRevision(text) => {
            Op::Put { key, value: Value::with_revision_at(text.as_str(), text.len()), meta }
        }
        Write::Delete => Op::Delete { key, last: None },
        Write::DeleteWithLast(text) => {
            Op::Delete { key, last: Some(Value::with_revision_at(text.as_str(), 0)) }
        }
    }
}

struct Watching {
    watch: Box<dyn Watch>,
    prefix: &'static str,
    /// Everything up to here has been compared.
    seen: u64,
}

struct Run<'a> {
    directory: &'a Path,
    store: Embedded,
    model: Model,
    watches: Vec<Watching>,
    reopened: bool,
}

impl Run<'_> {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Commit(drafts) => self.commit(&drafts).await,
            Step::Get(key) => {
                let found = self.store.get(key).await.unwrap();
                assert_eq!(found.as_deref().map(Plain::from), self.model.now().get(key).cloned());
            }
            Step::List { prefix, ago, limit, start_after } => {
                self.list(prefix, ago, limit, start_after).await
            }
            Step::Watch { prefix, ago } => self.watch(prefix, ago).await,
            Step::Drain(which) if !self.watches.is_empty() => {
                let which = which % self.watches.len();
                if !self.drain(which).await {
                    self.watches.swap_remove(which);
                }
            }
            Step::Drain(_) => {}
            Step::Reopen { lost } => self.reopen(lost),
        }
        assert_eq!(self.store.revision().0, self.model.revision());
    }

    async fn commit(&mut self, drafts: &[Draft]) {
        let state = self.model.now().clone();
        let txns: Vec<Txn> = drafts.iter().map(|draft| self.txn(draft, &state)).collect();
        let expected: Vec<_> =
            txns.iter().zip(drafts).map(|(txn, draft)| self.model.commit(&txn.expect, &draft.ops)).collect();
        let mut answers = Vec::new();
        // Polled in order, so they are queued in order.
        let mut waiting: Vec<_> = txns.into_iter().map(|txn| self.store.commit(txn)).collect();
        for commit in &mut waiting {
            tokio::select! {
                biased;
                answer = commit => answers.push(Some(answer)),
                () = std::future::ready(()) => answers.push(None),
            }
        }
        for (expected, (answer, commit)) in expected.into_iter().zip(answers.into_iter().zip(waiting)) {
            let answer = match answer {
                Some(answer) => answer,
                None => commit.await,
            };
            match answer {
                Ok(committed) => assert_eq!(Ok(committed.revision.0), expected),
                Err(CommitError::Conflict { key, .. }) => assert_eq!(Err(key), expected),
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn txn(&self, draft: &Draft, state: &Records) -> Txn {
        let expect = |(key, belief): &(&str, Belief)| {
            let expect = match (belief, state.get(*key)) {
                (Belief::Absent, _) | (Belief::True, None) => Expect::Absent,
                (Belief::True, Some(record)) => Expect::At(Revision(record.modified)),
                (Belief::Stale, _) => Expect::At(Revision(self.model.revision() + 7)),
            };
            ((*key).to_owned(), expect)
        };
        Txn {
            expect: draft.expect.iter().map(expect).collect(),
            ops: draft.ops.iter().map(|(key, write)| op(key, write)).collect(),
        }
    }

    /// The oldest revision that can be read, as the store tells it.
    async fn oldest(&self) -> u64 {
        let ancient = ListRequest { at: Some(Revision(0)), ..ListRequest::default() };
        let Err(ReadError::Compacted { oldest, .. }) = self.store.list(ancient).await else {
            panic!("there was nothing at revision 0");
        };
        let kept = self.model.events("", oldest.0).len();
        assert!(kept <= HISTORY_EVENTS, "{kept} events are kept");
        assert!(self.reopened || oldest.0 == 1 || self.model.happened.len() > HISTORY_EVENTS);
        oldest.0
    }

    async fn list(&self, prefix: &str, ago: u64, limit: usize, start_after: Option<&str>) {
        let at = self.model.revision().saturating_sub(ago).max(1);
        let start_after = start_after.map(str::to_owned);
        let mut request = ListRequest {
            prefix: prefix.into(),
            at: Some(Revision(at)),
            limit,
            start_after: start_after.clone(),
        };
        let mut listed = Vec::new();
        loop {
            let page = match self.store.list(request.clone()).await {
                Err(ReadError::Compacted { .. }) => return assert!(at < self.oldest().await),
                page => page.unwrap(),
            };
            assert_eq!(page.revision.0, at);
            assert!(limit == 0 || page.records.len() <= limit);
            listed.extend(page.records.iter().map(|record| (record.key.to_string(), Plain::from(&**record))));
            if page.remaining == 0 {
                break;
            }
            assert_eq!(page.records.len(), limit);
            request.start_after = listed.last().map(|(key, _)| key.clone());
        }
        assert!(at >= self.oldest().await);
        let wanted = |(key, _): &(&String, &Plain)| {
            key.starts_with(prefix) && start_after.as_ref().is_none_or(|after| *key > after)
        };
        let expected = self.model.at(at).iter().filter(wanted);
        assert_eq!(listed, expected.map(|(key, record)| (key.clone(), record.clone())).collect::<Vec<_>>());
    }

    async fn watch(&mut self, prefix: &'static str, ago: u64) {
        let after = self.model.revision().saturating_sub(ago).max(1);
        match self.store.watch(prefix, Revision(after)).await {
            Ok(watch) => {
                assert!(after >= self.oldest().await);
                self.watches.push(Watching { watch, prefix, seen: after });
            }
            Err(ReadError::Compacted { .. }) => assert!(after < self.oldest().await),
            Err(other) => panic!("{other}"),
        }
    }

    /// Compares all that a watch has to say; false when it is over.
    async fn drain(&mut self, which: usize) -> bool {
        let oldest = self.oldest().await;
        let watching = &mut self.watches[which];
        loop {
            let due = self.model.events(watching.prefix, watching.seen);
            let progress = watching.watch.progress().0;
            assert!(
                due.first().is_none_or(|first| progress < first.revision),
                "progress ran ahead of events"
            );
            if due.is_empty() {
                return true;
            }
            match watching.watch.next().await {
                Ok(batch) => {
                    let got: Vec<_> = batch.events.iter().map(|event| happened(event)).collect();
                    assert_eq!(got, &due[..got.len()]);
                    assert!(due.get(got.len()).is_none_or(|next| next.revision > batch.revision.0));
                    watching.seen = batch.revision.0;
                }
                Err(ReadError::Compacted { .. }) => {
                    assert!(
                        due[0].revision <= oldest,
                        "nothing was missed by compaction to {oldest}: {due:?}"
                    );
                    return false;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn reopen(&mut self, lost: Option<&str>) {
        self.watches.clear();
        self.store.close();
        let path = |mark: &str| self.directory.join(mark);
        if let Some(lost) = lost
            && MARKS.iter().all(|mark| path(mark).exists())
        {
            std::fs::remove_file(path(lost)).unwrap();
        }
        self.store = Embedded::open(self.directory, options()).unwrap();
        self.reopened = true;
    }
}

fn happened(event: &svcd_store::Event) -> Happened {
    Happened {
        revision: event.revision.0,
        key: event.record.key.to_string(),
        deleted: event.deleted,
        record: Plain::from(&*event.record),
        previous: event.previous.as_deref().map(Plain::from),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_what_the_model_is(steps in vec(step(), 1..80)) {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Embedded::open(directory.path(), options()).unwrap();
            let model = Model { states: vec![Records::new()], happened: Vec::new() };
            let mut run =
                Run { directory: directory.path(), store, model, watches: Vec::new(), reopened: false };
            for step in steps {
                run.step(step).await;
            }
            run.reopen(None);
            run.list("", 0, 0, None).await;
        });
    }
}
