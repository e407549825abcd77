//! Records a history: writers on few keys, watchers and listers of all kinds, and somebody who kills the server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::Method;
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::checker::check;
use crate::client::{Broken, Connection, Lines, Target};
use crate::history::{
    Action, Change, Event, Filter, From, History, Listing, Moment, Operation, Outcome, Revision, Seen,
    Session, Version, Wanted,
};
use crate::server::Server;

const COLLECTION: &str = "/api/v1/namespaces/history/events";
const KEYS: &[&str] = &["k0", "k1", "k2", "k3"];
const WRITERS: usize = 6;
const LISTERS: usize = 2;
const KILLS: usize = 4;
const BETWEEN_KILLS: Duration = Duration::from_millis(1500);
const LONGEST_PERIOD: Duration = Duration::from_secs(30);
/// What happens at least between two kills, and a run without which says nothing.
const CHANGES: usize = 40;
const CONFLICTS: usize = 4;
const LISTS: usize = 4;

/// What all share.
struct Run {
    target: Target,
    begun: Instant,
    history: Mutex<History>,
    /// Revisions that somebody was told of.
    revisions: Mutex<Vec<Revision>>,
    /// Nobody begins to write any more.
    written: AtomicBool,
}

impl Run {
    fn now(&self) -> Moment {
        self.begun.elapsed()
    }

    fn is_over(&self) -> bool {
        self.written.load(Ordering::SeqCst)
    }

    fn some_revision(&self) -> Revision {
        *self.revisions.lock().unwrap().choose(&mut rand::rng()).expect("there is a first one")
    }

    fn told(&self, revision: Revision) {
        self.revisions.lock().unwrap().push(revision);
    }

    /// Waits until enough has happened that the `period`th kill has something to break: on a busy machine that takes longer.
    async fn has_seen(&self, period: usize) {
        tokio::time::sleep(BETWEEN_KILLS).await;
        let deadline = self.now() + LONGEST_PERIOD;
        while self.now() < deadline {
            if tells_of(&self.history.lock().unwrap(), period) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A connection, as soon as there can be one.
    async fn connect(&self) -> Connection {
        loop {
            match self.target.connect().await {
                Ok(connection) => return connection,
                Err(Broken) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// Whether as much has happened as `periods` periods should bring.
fn tells_of(history: &History, periods: usize) -> bool {
    history.told(&Outcome::Conflict) >= CONFLICTS * periods
        && history.listings.len() >= LISTS * periods
        && history.changes() >= CHANGES * periods
}

fn revision_of(object: &Value) -> Revision {
    object["metadata"]["resourceVersion"].as_str().expect("a revision").parse().expect("a number")
}

fn version(object: &Value) -> Version {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{object}")).to_owned();
    Version {
        key: text(&object["metadata"]["name"]),
        revision: revision_of(object),
        uid: text(&object["metadata"]["uid"]),
        value: text(&object["message"]),
        on: object["metadata"]["labels"]["on"] == "yes",
        warning: object["type"] == "Warning",
    }
}

/// The parts of an object that writes change.
fn changeable(value: &str) -> Value {
    let on = if rand::random() { "yes" } else { "no" };
    let kind = if rand::random() { "Warning" } else { "Normal" };
    json!({ "metadata": { "labels": { "on": on } }, "message": value, "type": kind })
}

fn object(key: &str, value: &str) -> Value {
    let mut object = changeable(value);
    object["metadata"]["name"] = key.into();
    object["involvedObject"] = json!({ "kind": "Pod", "namespace": "history", "name": "none" });
    object["reason"] = "Testing".into();
    object
}

/// One writer's view of the world.
struct Writer {
    run: Arc<Run>,
    name: usize,
    count: usize,
    known: [Option<Version>; KEYS.len()],
    connection: Connection,
}

impl Writer {
    async fn write(mut self) {
        while !self.run.is_over() {
            let at = rand::rng().random_range(0..KEYS.len());
            let action = self.action(at);
            let begun = self.run.now();
            let outcome = self.act(KEYS[at], &action).await;
            let ended = self.run.now();
            self.learn(at, &outcome);
            if outcome == Outcome::Unknown {
                self.connection = self.run.connect().await;
            }
            let operation = Operation { key: KEYS[at].to_owned(), action, begun, ended, outcome };
            self.run.history.lock().unwrap().operations.push(operation);
        }
    }

    fn action(&mut self, at: usize) -> Action {
        self.count += 1;
        let value = format!("{}-{}", self.name, self.count);
        let mut rng = rand::rng();
        let Some(known) = &self.known[at] else {
            return if rng.random_bool(0.7) { Action::Create { value } } else { Action::Get };
        };
        let expected = rng.random_bool(0.5).then_some(known.revision);
        match rng.random_range(0..100) {
            0..20 => Action::Get,
            20..25 => Action::Create { value },
            25..60 => Action::Update { value, expected: known.revision },
            60..85 => Action::Patch { value, expected },
            _ => Action::Delete { uid: known.uid.clone(), expected },
        }
    }

    async fn act(&mut self, key: &str, action: &Action) -> Outcome {
        let path = format!("{COLLECTION}/{key}");
        let json = "application/json";
        let sent = match action {
            Action::Get => self.connection.get(&path).await,
            Action::Create { value } => self.connection.post(COLLECTION, &object(key, value)).await,
            Action::Update { value, expected } => {
                let mut body = object(key, value);
                body["metadata"]["resourceVersion"] = expected.to_string().into();
                self.connection.send(Method::PUT, &path, Some((json, &body))).await
            }
            Action::Patch { value, expected } => {
                let mut body = changeable(value);
                if let Some(expected) = expected {
                    body["metadata"]["resourceVersion"] = expected.to_string().into();
                }
                let patch = "application/merge-patch+json";
                self.connection.send(Method::PATCH, &path, Some((patch, &body))).await
            }
            Action::Delete { uid, expected } => {
                let mut preconditions = json!({ "uid": uid });
                if let Some(expected) = expected {
                    preconditions["resourceVersion"] = expected.to_string().into();
                }
                let body = json!({ "preconditions": preconditions });
                self.connection.send(Method::DELETE, &path, Some((json, &body))).await
            }
        };
        let Ok(reply) = sent else { return Outcome::Unknown };
        match (reply.code, action, reply.body["reason"].as_str()) {
            (200, Action::Get, _) => Outcome::Read(version(&reply.body)),
            (200, Action::Delete { .. }, _) => Outcome::Deleted,
            (200 | 201, ..) => Outcome::Written(version(&reply.body)),
            (404, ..) => Outcome::NotFound,
            (409, _, Some("AlreadyExists")) => Outcome::Exists,
            (409, _, Some("Conflict")) => Outcome::Conflict,
            (503, ..) => Outcome::Unknown,
            (code, ..) => panic!("{action:?}: {code} {}", reply.body),
        }
    }

    fn learn(&mut self, at: usize, outcome: &Outcome) {
        match outcome {
            Outcome::Written(state) | Outcome::Read(state) => {
                self.run.told(state.revision);
                self.known[at] = Some(state.clone());
            }
            Outcome::NotFound | Outcome::Deleted => self.known[at] = None,
            // What is known stays, so that it becomes stale and is used all the same.
            Outcome::Conflict | Outcome::Exists | Outcome::Unknown => {
                if rand::random() {
                    self.known[at] = None;
                }
            }
        }
    }
}

fn query(filter: &Filter) -> String {
    match filter {
        Filter::All => String::new(),
        Filter::On(on) => format!("&labelSelector=on%3D{}", if *on { "yes" } else { "no" }),
        Filter::Warning(true) => "&fieldSelector=type%3DWarning".to_owned(),
        Filter::Warning(false) => "&fieldSelector=type!%3DWarning".to_owned(),
        Filter::Named(key) => format!("&fieldSelector=metadata.name%3D{key}"),
    }
}

fn seen(line: &Value) -> Seen {
    let object = &line["object"];
    let change = match line["type"].as_str() {
        Some("ADDED") => Change::Added,
        Some("MODIFIED") => Change::Modified,
        Some("DELETED") => Change::Deleted,
        Some("BOOKMARK") => {
            let ends_state = object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
            return Seen::Bookmark { revision: revision_of(object), ends_state };
        }
        _ => panic!("a watch says {line}"),
    };
    Seen::Event(Event { change, state: version(object) })
}

/// Opens a watch and reads it until it ends, breaks or has sent this many lines. Says whether the server ended it.
async fn watch(run: &Run, session: &mut Session, seconds: u64, most: usize) -> Result<bool, Broken> {
    let from = match session.from {
        From::After(revision) => format!("&resourceVersion={revision}"),
        From::State => "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
    };
    let options = format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}");
    let path = format!("{COLLECTION}?{options}{from}{}", query(&session.filter));
    let response = run.target.connect().await?.open(Method::GET, &path, None).await?;
    assert_eq!(response.status(), 200, "{path}");
    let mut lines = Lines::new(response);
    while session.seen.len() < most {
        match lines.next().await? {
            Some(line) => session.seen.push(seen(&line)),
            None => return Ok(true),
        }
    }
    Ok(false)
}

/// Watches again and again: from where it was, from the state, from any revision; cut, ended and broken off.
async fn keep_watching(run: Arc<Run>, who: usize, filter: Filter) {
    let mut last = None;
    loop {
        let is_last = run.is_over();
        let from = match rand::rng().random_range(0..4) {
            _ if is_last => From::After(last.unwrap_or_else(|| run.some_revision())),
            0 => From::State,
            1 => From::After(run.some_revision()),
            _ => From::After(last.unwrap_or_else(|| run.some_revision())),
        };
        let mut session = Session {
            who: format!("watcher {who}"),
            filter: filter.clone(),
            from,
            seen: Vec::new(),
            to_the_end: false,
        };
        let most = if is_last || rand::random() { usize::MAX } else { rand::rng().random_range(1..200) };
        let seconds = rand::rng().random_range(1..=2);
        let ended = watch(&run, &mut session, seconds, most).await;
        session.to_the_end = is_last && matches!(ended, Ok(true));
        // Half a state is nothing to go on from.
        let begun = from != From::State || session.seen.iter().any(|s| matches!(s, Seen::Bookmark { .. }));
        last = session.seen.last().filter(|_| begun).map(|seen| match seen {
            Seen::Event(event) => event.state.revision,
            Seen::Bookmark { revision, .. } => *revision,
        });
        let done = session.to_the_end;
        run.history.lock().unwrap().sessions.push(session);
        if done {
            return;
        }
        if ended.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn list(
    run: &Run,
    connection: &mut Connection,
    filter: Filter,
    wanted: Wanted,
) -> Result<Listing, Broken> {
    let from = match wanted {
        Wanted::Newest => String::new(),
        Wanted::Any => "&resourceVersion=0".to_owned(),
        Wanted::Exactly(revision) => format!("&resourceVersion={revision}&resourceVersionMatch=Exact"),
    };
    let limit = rand::rng().random_range(0..=3);
    let begun = run.now();
    let mut pages = Vec::new();
    let mut query = format!("limit={limit}{from}{}", query(&filter));
    loop {
        let reply = connection.get(&format!("{COLLECTION}?{query}")).await?;
        assert_eq!(reply.code, 200, "{query}: {}", reply.body);
        let items = reply.body["items"].as_array().expect("a list").iter().map(version).collect();
        pages.push((revision_of(&reply.body), items));
        let Some(token) = reply.body["metadata"]["continue"].as_str() else { break };
        query = format!("limit={limit}&continue={token}{}", self::query(&filter));
        // Let others write in between.
        tokio::task::yield_now().await;
    }
    Ok(Listing { filter, wanted, begun, ended: run.now(), pages })
}

async fn keep_listing(run: Arc<Run>) {
    let mut connection = run.connect().await;
    while !run.is_over() {
        let wanted = match rand::rng().random_range(0..3) {
            0 => Wanted::Newest,
            1 => Wanted::Any,
            _ => Wanted::Exactly(run.some_revision()),
        };
        let filters = filters();
        let filter = filters.choose(&mut rand::rng()).expect("there are some").clone();
        match list(&run, &mut connection, filter, wanted).await {
            Ok(listing) => run.history.lock().unwrap().listings.push(listing),
            Err(Broken) => connection = run.connect().await,
        }
    }
}

fn filters() -> Vec<Filter> {
    let mut filters = vec![Filter::All, Filter::On(true), Filter::On(false)];
    filters.extend([Filter::Warning(true), Filter::Warning(false), Filter::Named("k1".to_owned())]);
    filters
}

/// All events, when nothing is written any more.
async fn truth(run: &Run, first: Revision) -> Vec<Event> {
    let mut session = Session {
        who: "the log".to_owned(),
        filter: Filter::All,
        from: From::After(first),
        seen: Vec::new(),
        to_the_end: true,
    };
    assert!(watch(run, &mut session, 2, usize::MAX).await.expect("the server is left alone"));
    let events = session.seen.into_iter().filter_map(|seen| match seen {
        Seen::Event(event) => Some(event),
        Seen::Bookmark { .. } => None,
    });
    events.collect()
}

async fn begin(server: &Server) -> (Arc<Run>, Revision) {
    let target = server.admin();
    let mut connection = target.connect().await.unwrap();
    let namespace = json!({ "metadata": { "name": "history" } });
    assert_eq!(connection.post("/api/v1/namespaces", &namespace).await.unwrap().code, 201);
    let first = revision_of(&connection.get(COLLECTION).await.unwrap().body);
    let history = History { first, ..History::default() };
    let run = Run {
        target,
        begun: Instant::now(),
        history: Mutex::new(history),
        revisions: Mutex::new(vec![first]),
        written: AtomicBool::new(false),
    };
    (Arc::new(run), first)
}

/// Everything that rules of watches and of the store promise, with a server that is killed again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_clients_see_is_one_history_also_over_kills() {
    let mut server = Server::start(&[]).await;
    let (run, first) = begin(&server).await;
    let mut tasks = JoinSet::new();
    for name in 0..WRITERS {
        let connection = run.connect().await;
        let writer = Writer { run: Arc::clone(&run), name, count: 0, known: Default::default(), connection };
        tasks.spawn(writer.write());
    }
    for (who, filter) in filters().into_iter().cycle().take(12).enumerate() {
        tasks.spawn(keep_watching(Arc::clone(&run), who, filter));
    }
    for _ in 0..LISTERS {
        tasks.spawn(keep_listing(Arc::clone(&run)));
    }
    for kills in 1..=KILLS {
        run.has_seen(kills).await;
        server.kill();
        server.start_again().await;
    }
    run.has_seen(KILLS + 1).await;
    run.written.store(true, Ordering::SeqCst);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let truth = truth(&run, first).await;
    let mut history = std::mem::take(&mut *run.history.lock().unwrap());
    history.truth = truth;
    let watched: usize = history.sessions.iter().map(|session| session.seen.len()).sum();
    println!(
        "{} events; {} requests, {} of them conflicts and {} cut off; {} watches saw {watched}; {} lists",
        history.truth.len(),
        history.operations.len(),
        history.told(&Outcome::Conflict),
        history.told(&Outcome::Unknown),
        history.sessions.len(),
        history.listings.len()
    );
    assert!(tells_of(&history, KILLS + 1), "a run in which nothing happened says nothing");
    assert!(history.told(&Outcome::Unknown) > 0, "the kills hit nobody");
    let violations = check(&history);
    assert!(
        violations.is_empty(),
        "{} violations, the first: {:#?}",
        violations.len(),
        &violations[..violations.len().min(5)]
    );
}
