//! `resourceVersion` and `resourceVersionMatch` to the letter, for get, list and watch, with `limit` and `continue`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use svcd_store::{HistoryBounds, Options};

use crate::cluster::{CONFIG_MAPS, Cluster, PATIENCE, SERVICES, config_map, name, revision, service};

const WATCH_LIST: &str =
    "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(name).collect()
}

/// A cluster with `a` at one revision and `a`, `b`, `c` now; that revision, and now.
async fn two_states() -> (Cluster, u64, u64) {
    let cluster = Cluster::new().await;
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let then = cluster.store.revision().0;
    for name in ["b", "c"] {
        cluster.admin.post(CONFIG_MAPS, &config_map(name)).await.expect(201);
    }
    let now = cluster.store.revision().0;
    (cluster, then, now)
}

#[tokio::test]
async fn every_combination_of_a_list_shows_the_state_that_it_names() {
    let (cluster, then, now) = two_states().await;
    for (query, wanted, at) in [
        (String::new(), "a b c", now),
        ("resourceVersion=".to_owned(), "a b c", now),
        ("resourceVersion=0".to_owned(), "a b c", now),
        (format!("resourceVersion={then}"), "a b c", now),
        (format!("resourceVersion={now}"), "a b c", now),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan".to_owned(), "a b c", now),
        (format!("resourceVersion={then}&resourceVersionMatch=NotOlderThan"), "a b c", now),
        (format!("resourceVersion={then}&resourceVersionMatch=Exact"), "a", then),
        ("limit=2".to_owned(), "a b", now),
        ("resourceVersion=0&limit=2".to_owned(), "a b", now),
        (format!("resourceVersion={then}&limit=2"), "a", then),
        (format!("resourceVersion={then}&limit=2&resourceVersionMatch=NotOlderThan"), "a b", now),
        (format!("resourceVersion={then}&limit=2&resourceVersionMatch=Exact"), "a", then),
        ("limit=0".to_owned(), "a b c", now),
        ("limit=-5".to_owned(), "a b c", now),
        ("unknown=1&pretty=true&timeoutSeconds=7".to_owned(), "a b c", now),
        ("watch=false".to_owned(), "a b c", now),
        ("watch=FALSE".to_owned(), "a b c", now),
    ] {
        let list = cluster.admin.get(&format!("{CONFIG_MAPS}?{query}")).await.expect(200);
        assert_eq!((names(&list).join(" ").as_str(), revision(&list)), (wanted, at), "{query}");
    }
}

#[tokio::test]
async fn pages_of_an_exact_list_stay_at_its_revision() {
    let (cluster, _, now) = two_states().await;
    cluster.admin.delete(&format!("{CONFIG_MAPS}/b")).await.expect(200);
    let query = format!("resourceVersion={now}&resourceVersionMatch=Exact&limit=1");
    let first = cluster.admin.get(&format!("{CONFIG_MAPS}?{query}")).await.expect(200);
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a"], &json!(2)));
    let token = first["metadata"]["continue"].as_str().unwrap();
    // A reflector says `0` with its token; anything else is a contradiction.
    let second =
        cluster.admin.get(&format!("{CONFIG_MAPS}?limit=1&resourceVersion=0&continue={token}")).await;
    let second = second.expect(200);
    assert_eq!((names(&second), revision(&second)), (vec!["b"], now));
}

#[tokio::test]
async fn a_token_is_ours_or_it_is_refused() {
    let cluster = Cluster::new().await;
    let token = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for bad in [
        "%21%21".to_owned(),
        "abc".to_owned(),
        token(&json!({})),
        token(&json!({ "v": "meta.k8s.io/v2", "rv": 5, "start": "a" })),
        token(&json!({ "v": "meta.k8s.io/v1", "rv": 0, "start": "a" })),
        token(&json!({ "v": "meta.k8s.io/v1", "rv": 5, "start": "" })),
        token(&json!({ "v": "meta.k8s.io/v1", "rv": "5", "start": "a" })),
    ] {
        let message =
            cluster.admin.get(&format!("{CONFIG_MAPS}?continue={bad}")).await.refused(400, "BadRequest");
        assert!(message.starts_with("invalid continue token: continue key is not valid: "), "{message}");
    }
    // Whatever a client writes into one, it reads nothing but the collection of the path.
    cluster.admin.post("/api/v1/namespaces/kube-system/configmaps", &config_map("hidden")).await.expect(201);
    let forged = token(&json!({ "v": "meta.k8s.io/v1", "rv": -1, "start": "../../" }));
    let list = cluster.admin.get(&format!("{CONFIG_MAPS}?continue={forged}")).await.expect(200);
    assert_eq!(names(&list), [""; 0]);
    let future = token(&json!({ "v": "meta.k8s.io/v1", "rv": 99999, "start": "a" }));
    cluster.admin.get(&format!("{CONFIG_MAPS}?continue={future}")).await.refused(504, "Timeout");
}

#[tokio::test]
async fn a_get_is_never_older_than_it_names() {
    let (cluster, then, now) = two_states().await;
    for wanted in ["".to_owned(), "0".to_owned(), then.to_string(), now.to_string()] {
        cluster.admin.get(&format!("{CONFIG_MAPS}/a?resourceVersion={wanted}")).await.expect(200);
    }
    let reply = cluster.admin.get(&format!("{CONFIG_MAPS}/a?resourceVersion=9999")).await;
    let status = reply.json();
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    reply.refused(504, "Timeout");
    cluster.admin.get(&format!("{CONFIG_MAPS}/a?resourceVersion=x")).await.refused(400, "BadRequest");
    // One object is read, whatever else the query says.
    let object =
        cluster.admin.get(&format!("{CONFIG_MAPS}/a?watch=true&limit=5&unknown=1")).await.expect(200);
    assert_eq!(object["kind"], "ConfigMap");
}

/// A read waits a little for a revision that is on its way, as after a write through another connection.
#[tokio::test]
async fn a_list_waits_for_a_revision_that_comes_soon() {
    let cluster = Cluster::new().await;
    let next = cluster.store.revision().0 + 1;
    let client = cluster.admin.clone();
    let list =
        tokio::spawn(async move { client.get(&format!("{CONFIG_MAPS}?resourceVersion={next}")).await });
    tokio::task::yield_now().await;
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    assert_eq!(names(&list.await.unwrap().expect(200)), ["a"]);
}

#[tokio::test]
async fn a_streaming_list_of_the_future_is_told_to_come_back() {
    let cluster = Cluster::new().await;
    let reply = cluster.admin.get(&format!("{CONFIG_MAPS}?{WATCH_LIST}&resourceVersion=9999")).await;
    assert_eq!(reply.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    reply.refused(504, "Timeout");
}

#[tokio::test]
async fn without_initial_events_a_watch_begins_now_or_after_its_revision() {
    let (cluster, then, now) = two_states().await;
    let query = "watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    let mut from_now = cluster.admin.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    let mut from_zero = cluster.admin.watch(&format!("{CONFIG_MAPS}?{query}&resourceVersion=0")).await;
    let mut from_then = cluster.admin.watch(&format!("{CONFIG_MAPS}?{query}&resourceVersion={then}")).await;
    let mut from_last = cluster.admin.watch(&format!("{CONFIG_MAPS}?{query}&resourceVersion={now}")).await;
    cluster.admin.post(CONFIG_MAPS, &config_map("d")).await.expect(201);
    for watch in [&mut from_now, &mut from_zero, &mut from_last] {
        assert_eq!(watch.brief().await, "ADDED d");
    }
    for name in ["b", "c", "d"] {
        assert_eq!(from_then.brief().await, format!("ADDED {name}"));
    }
}

#[tokio::test]
async fn a_streaming_list_from_an_old_revision_sends_the_newest_state() {
    let (cluster, then, now) = two_states().await;
    let mut watch =
        cluster.admin.watch(&format!("{CONFIG_MAPS}?{WATCH_LIST}&resourceVersion={then}&limit=1")).await;
    for name in ["a", "b", "c"] {
        assert_eq!(watch.brief().await, format!("ADDED {name}"), "a limit means nothing to a watch");
    }
    let bookmark = watch.next().await.unwrap();
    assert_eq!((&bookmark["type"], revision(&bookmark["object"])), (&json!("BOOKMARK"), now));
}

/// Who does not allow bookmarks gets the state all the same, and no sign of its end.
#[tokio::test]
async fn a_streaming_list_without_bookmarks_has_none() {
    let (cluster, ..) = two_states().await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    for name in ["a", "b", "c"] {
        assert_eq!(watch.brief().await, format!("ADDED {name}"));
    }
    assert!(watch.is_quiet());
}

/// A client that goes on from a bookmark must find its revision.
#[tokio::test]
async fn a_watch_of_the_future_gets_no_bookmark_before_its_time() {
    let cluster = Cluster::new().await;
    let path =
        format!("{CONFIG_MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion=9999");
    let mut watch = cluster.admin.watch(&path).await;
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_resumed_watch_goes_on_where_the_bookmark_was() {
    let cluster = Cluster::new().await;
    let path = format!("{CONFIG_MAPS}?{WATCH_LIST}");
    let mut first = cluster.admin.watch(&path).await;
    let bookmark = first.next().await.unwrap();
    drop(first);
    cluster.admin.post(SERVICES, &service("s")).await.expect(201);
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let at = revision(&bookmark["object"]);
    let mut resumed = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={at}")).await;
    assert_eq!(resumed.brief().await, "ADDED a");
    assert!(resumed.is_quiet());
}

#[tokio::test]
async fn a_forgotten_revision_is_410_for_whoever_asks_for_it() {
    let history = HistoryBounds { events: 4, ..HistoryBounds::default() };
    let cluster = Cluster::with(Default::default(), Options { history, ..Options::default() }).await;
    for n in 0..10 {
        cluster.admin.post(CONFIG_MAPS, &config_map(&format!("c{n}"))).await.expect(201);
    }
    for query in ["resourceVersion=2&resourceVersionMatch=Exact", "resourceVersion=2&limit=3"] {
        let message = cluster.admin.get(&format!("{CONFIG_MAPS}?{query}")).await.refused(410, "Expired");
        assert_eq!(message, "The resourceVersion for the provided list is too old.");
    }
    let query = "resourceVersion=2&resourceVersionMatch=NotOlderThan";
    cluster.admin.get(&format!("{CONFIG_MAPS}?{query}")).await.expect(200);
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=2")).await;
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    let message = event["object"]["message"].as_str().unwrap();
    assert!(message.starts_with("too old resource version: 2 ("), "{message}");
    // A streaming list begins with the state and needs no past.
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?{WATCH_LIST}&resourceVersion=2")).await;
    assert_eq!(watch.brief().await, "ADDED c0");
}

/// The answer to a write carries the revision of the event that it is.
#[tokio::test]
async fn answers_and_events_agree_on_the_revision() {
    let cluster = Cluster::new().await;
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?{WATCH_LIST}")).await;
    watch.next().await.unwrap();
    let created = cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let patched = cluster.admin.merge(&path, &json!({ "data": { "k": "v" } })).await.expect(200);
    let same = cluster.admin.merge(&path, &json!({ "data": { "k": "v" } })).await.expect(200);
    assert_eq!(revision(&same), revision(&patched), "nothing changed: nothing was written");
    let mut changed = patched.clone();
    changed["data"]["k"] = "w".into();
    let updated = cluster.admin.put(&path, &changed).await.expect(200);
    for wanted in [created, patched, updated] {
        assert_eq!(watch.next().await.unwrap()["object"], wanted);
    }
    assert!(watch.is_quiet());
}

#[tokio::test]
async fn a_request_ends_when_it_says() {
    let cluster = Cluster::new().await;
    let started = tokio::time::Instant::now();
    let reply = cluster.admin.get(&format!("{CONFIG_MAPS}?resourceVersion=9999&timeout=50ms")).await;
    let message = reply.refused(504, "Timeout");
    assert_eq!(
        message,
        "Timeout: request did not complete within requested timeout - context deadline exceeded"
    );
    assert!(started.elapsed() < PATIENCE);
    for path in [CONFIG_MAPS, "/api", "/openapi/v3"] {
        let message = cluster.admin.get(&format!("{path}?timeout=soon")).await.refused(400, "BadRequest");
        assert!(message.starts_with("invalid timeout specified in the request URL"), "{message}");
    }
    // Watches mind `timeoutSeconds` only.
    let mut watch =
        cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true&timeout=soon&timeoutSeconds=1")).await;
    assert_eq!(watch.next().await, None);
}
