//! Watches, by the letter: where they start, what they send, how they end.

use serde_json::json;
use svcd_store::{HistoryBounds, Options};

use crate::cluster::{CONFIG_MAPS, Cluster, config_map, name, revision};

#[tokio::test]
async fn a_watch_from_nowhere_begins_with_the_state() {
    let cluster = Cluster::new().await;
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    for start in ["", "&resourceVersion=0"] {
        let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true{start}")).await;
        assert_eq!(watch.brief().await, "ADDED a");
        assert!(watch.is_quiet());
    }
}

#[tokio::test]
async fn a_watch_from_a_revision_sees_every_change_after_it_in_order() {
    let cluster = Cluster::new().await;
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let list = cluster.admin.get(CONFIG_MAPS).await.expect(200);
    let created = cluster.admin.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
    let patched =
        cluster.admin.merge(&format!("{CONFIG_MAPS}/a"), &json!({ "data": { "a": "2" } })).await.expect(200);
    cluster.admin.delete(&format!("{CONFIG_MAPS}/b")).await.expect(200);
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", revision(&list));
    let mut watch = cluster.admin.watch(&path).await;
    assert_eq!(watch.next().await.unwrap(), json!({ "type": "ADDED", "object": created }));
    assert_eq!(watch.next().await.unwrap(), json!({ "type": "MODIFIED", "object": patched }));
    let deleted = watch.next().await.unwrap();
    assert_eq!((&deleted["type"], name(&deleted["object"])), (&json!("DELETED"), "b"));
    assert_eq!(deleted["object"]["data"], created["data"]);
    assert_eq!(revision(&deleted["object"]), cluster.store.revision().0);
    assert!(watch.is_quiet());
    cluster.admin.post(CONFIG_MAPS, &config_map("c")).await.expect(201);
    assert_eq!(watch.brief().await, "ADDED c");
}

/// Large objects are sent in pieces that all watchers share.
#[tokio::test]
async fn a_large_object_is_one_event_like_any_other() {
    let cluster = Cluster::new().await;
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    let mut large = config_map("large");
    large["data"] = json!({ "a": "x".repeat(200_000) });
    let created = cluster.admin.post(CONFIG_MAPS, &large).await.expect(201);
    assert_eq!(watch.next().await.unwrap(), json!({ "type": "ADDED", "object": created }));
    let path = format!("{CONFIG_MAPS}/large");
    let patched = cluster.admin.merge(&path, &json!({ "data": { "b": "y" } })).await.expect(200);
    assert_eq!(watch.next().await.unwrap(), json!({ "type": "MODIFIED", "object": patched }));
    cluster.admin.delete(&path).await.expect(200);
    assert_eq!(watch.brief().await, "DELETED large");
    assert!(watch.is_quiet());
}

#[tokio::test]
async fn a_watch_sees_only_its_namespace_and_its_kind() {
    let cluster = Cluster::new().await;
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    let mut everywhere = cluster.admin.watch("/api/v1/configmaps?watch=true").await;
    cluster.admin.post("/api/v1/namespaces/kube-system/configmaps", &config_map("x")).await.expect(201);
    cluster.admin.post(crate::cluster::SERVICES, &crate::cluster::service("s")).await.expect(201);
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    assert_eq!(watch.brief().await, "ADDED a");
    assert_eq!(
        (everywhere.brief().await, everywhere.brief().await),
        ("ADDED x".to_owned(), "ADDED a".to_owned())
    );
}

#[tokio::test]
async fn what_stops_matching_is_deleted_and_what_starts_is_added() {
    let cluster = Cluster::new().await;
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=on%3Dyes")).await;
    let created = cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let label = async |value: &str| {
        let patch = json!({ "metadata": { "labels": { "on": value } } });
        cluster.admin.merge(&format!("{CONFIG_MAPS}/a"), &patch).await.expect(200)
    };
    let on = label("yes").await;
    assert_eq!(watch.next().await.unwrap(), json!({ "type": "ADDED", "object": on }));
    let off = label("no").await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["labels"]["on"], "yes", "the last state that matched");
    assert_eq!(revision(&event["object"]), revision(&off), "at the revision of the change");
    label("yes").await;
    assert_eq!(watch.brief().await, "ADDED a");
    cluster.admin.delete(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    assert_eq!(watch.brief().await, "DELETED a");
    assert_eq!(created["metadata"]["uid"], event["object"]["metadata"]["uid"]);
}

#[tokio::test]
async fn one_name_can_be_watched() {
    let cluster = Cluster::new().await;
    let mut watch =
        cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true&fieldSelector=metadata.name%3Db")).await;
    for name in ["a", "bb", "b"] {
        cluster.admin.post(CONFIG_MAPS, &config_map(name)).await.expect(201);
    }
    assert_eq!(watch.brief().await, "ADDED b");
    assert!(watch.is_quiet());
}

#[tokio::test]
async fn a_streaming_list_ends_its_state_with_an_annotated_bookmark() {
    let cluster = Cluster::new().await;
    let query =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut empty = cluster.admin.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(empty.next().await.unwrap()["type"], "BOOKMARK");
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let now = cluster.store.revision();
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?{query}&resourceVersion={now}")).await;
    assert_eq!(watch.brief().await, "ADDED a");
    let bookmark = watch.next().await.unwrap();
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert_eq!(bookmark["object"]["metadata"]["annotations"], json!({ "k8s.io/initial-events-end": "true" }));
    assert_eq!(revision(&bookmark["object"]), now.0);
    cluster.admin.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
    assert_eq!(watch.brief().await, "ADDED b");
}

#[tokio::test]
async fn the_last_bookmark_follows_the_store_while_the_watched_kind_is_quiet() {
    let cluster = Cluster::new().await;
    let path = format!("{CONFIG_MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1");
    let mut watch = cluster.admin.watch(&path).await;
    cluster.admin.post(crate::cluster::SERVICES, &crate::cluster::service("s")).await.expect(201);
    let bookmark = watch.next().await.unwrap();
    assert_eq!(
        (&bookmark["type"], revision(&bookmark["object"])),
        (&json!("BOOKMARK"), cluster.store.revision().0)
    );
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_watch_ends_cleanly_when_its_time_is_up() {
    let cluster = Cluster::new().await;
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1")).await;
    assert_eq!(watch.brief().await, "ADDED a");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_is_told_410() {
    let history = HistoryBounds { events: 4, ..HistoryBounds::default() };
    let cluster = Cluster::with(Default::default(), Options { history, ..Options::default() }).await;
    let mut overtaken = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    for n in 0..20 {
        cluster.admin.post(CONFIG_MAPS, &config_map(&format!("c{n}"))).await.expect(201);
    }
    let mut late = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=2")).await;
    for watch in [&mut late, &mut overtaken] {
        let event = watch.next().await.unwrap();
        assert_eq!(event["type"], "ERROR");
        assert_eq!((&event["object"]["code"], &event["object"]["reason"]), (&json!(410), &json!("Expired")));
        assert_eq!(watch.next().await, None);
    }
}

#[tokio::test]
async fn a_watch_of_the_future_waits_for_it() {
    let cluster = Cluster::new().await;
    let future = cluster.store.revision().0 + 1;
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={future}")).await;
    cluster.admin.post(CONFIG_MAPS, &config_map("at")).await.expect(201);
    cluster.admin.post(CONFIG_MAPS, &config_map("after")).await.expect(201);
    assert_eq!(watch.brief().await, "ADDED after");
}

#[tokio::test]
async fn tables_and_metadata_can_be_watched() {
    let cluster = Cluster::new().await;
    let path = format!("{CONFIG_MAPS}?watch=true");
    let mut tables = cluster.admin.watch_as(&path, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let mut metadata =
        cluster.admin.watch_as(&path, "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await;
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    cluster.admin.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
    let (first, second) = (tables.next().await.unwrap(), tables.next().await.unwrap());
    assert_eq!((&first["type"], &first["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert!(second["object"]["columnDefinitions"].is_null(), "columns come once");
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    let event = metadata.next().await.unwrap();
    assert_eq!((&event["object"]["kind"], name(&event["object"])), (&json!("PartialObjectMetadata"), "a"));
    assert!(event["object"]["data"].is_null());
}

/// A bookmark is in the form of what is watched, and counts as the first table where it is the first thing sent.
#[tokio::test]
async fn bookmarks_come_in_the_form_that_was_asked_for() {
    let cluster = Cluster::new().await;
    let path = format!(
        "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let now = cluster.store.revision().0;
    let end =
        json!({ "resourceVersion": now.to_string(), "annotations": { "k8s.io/initial-events-end": "true" } });
    let mut tables = cluster.admin.watch_as(&path, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let table = tables.next().await.unwrap();
    assert_eq!((&table["type"], &table["object"]["kind"]), (&json!("BOOKMARK"), &json!("Table")));
    assert_eq!(revision(&table["object"]), now);
    assert_eq!(table["object"]["rows"][0]["object"]["metadata"], end);
    assert_eq!(table["object"]["columnDefinitions"][0]["name"], "Name");
    let mut metadata =
        cluster.admin.watch_as(&path, "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await;
    let bookmark = metadata.next().await.unwrap();
    assert_eq!(bookmark["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(bookmark["object"]["metadata"], end);
    // Also of a kind that is stored as another.
    let events = path.replace(CONFIG_MAPS, "/apis/events.k8s.io/v1/events");
    let bookmark = cluster.admin.watch(&events).await.next().await.unwrap();
    let wanted = json!({ "kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": end });
    for (field, value) in wanted.as_object().unwrap() {
        assert_eq!(&bookmark["object"][field], value, "{bookmark}");
    }
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let table = tables.next().await.unwrap();
    assert!(table["object"]["columnDefinitions"].is_null(), "columns come once");
}

#[tokio::test]
async fn many_watchers_see_the_same_bytes() {
    let cluster = Cluster::new().await;
    let mut watchers = Vec::new();
    for _ in 0..50 {
        watchers.push(cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true")).await);
    }
    for n in 0..20 {
        cluster.admin.post(CONFIG_MAPS, &config_map(&format!("c{n:02}"))).await.expect(201);
    }
    for watch in &mut watchers {
        for n in 0..20 {
            assert_eq!(watch.brief().await, format!("ADDED c{n:02}"));
        }
    }
}
