//! Events: the same objects in two groups.

use serde_json::{Value, json};

use crate::cluster::{Cluster, name};

const OLD: &str = "/api/v1/namespaces/default/events";
const NEW: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

fn old(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": name, "labels": { "made": "old" } },
        "involvedObject": { "kind": "Pod", "name": "web-1", "namespace": "default" }, "reason": "Started",
        "message": "Started it", "type": "Normal", "count": 3, "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:01:00Z", "source": { "component": "kubelet", "host": "n1" } })
}

fn new(name: &str) -> Value {
    json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": name },
        "regarding": { "kind": "Node", "name": "n1" }, "reason": "Ready", "action": "Start", "note": "It is up",
        "type": "Normal", "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "svcd.io/x",
        "reportingInstance": "x-0" })
}

#[tokio::test]
async fn what_is_written_in_one_group_is_read_in_the_other() {
    let cluster = Cluster::new().await;
    let made = cluster.admin.post(OLD, &old("a")).await.expect(201);
    let seen = cluster.admin.get(&format!("{NEW}/a")).await.expect(200);
    assert_eq!((&seen["apiVersion"], &seen["kind"]), (&json!("events.k8s.io/v1"), &json!("Event")));
    assert_eq!(seen["metadata"], made["metadata"]);
    assert_eq!((&seen["regarding"]["name"], &seen["note"]), (&json!("web-1"), &json!("Started it")));
    assert_eq!(seen["deprecatedCount"], 3);
    assert_eq!(seen["deprecatedSource"], json!({ "component": "kubelet", "host": "n1" }));
    assert_eq!(seen["deprecatedLastTimestamp"], "2026-01-01T00:01:00Z");
    assert_eq!((seen.get("message"), seen.get("count")), (None, None));

    let made = cluster.admin.post(NEW, &new("b")).await.expect(201);
    assert_eq!(made["note"], "It is up");
    let seen = cluster.admin.get(&format!("{OLD}/b")).await.expect(200);
    assert_eq!((&seen["apiVersion"], &seen["message"]), (&json!("v1"), &json!("It is up")));
    assert_eq!(seen["involvedObject"], json!({ "kind": "Node", "name": "n1" }));
    assert_eq!(seen["reportingComponent"], "svcd.io/x");
    assert_eq!(seen["metadata"]["managedFields"][0]["apiVersion"], "events.k8s.io/v1");

    for (path, api_version) in [(OLD, "v1"), (NEW, "events.k8s.io/v1")] {
        let list = cluster.admin.get(path).await.expect(200);
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("EventList"), &json!(api_version)));
        let items = list["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["apiVersion"] == api_version), "{items:?}");
        assert_eq!(items.iter().map(name).collect::<Vec<_>>(), ["a", "b"]);
    }
    cluster.admin.delete(&format!("{NEW}/a")).await.expect(200);
    cluster.admin.get(&format!("{OLD}/a")).await.refused(404, "NotFound");
}

#[tokio::test]
async fn both_groups_are_watched_and_changed() {
    let cluster = Cluster::new().await;
    let start =
        cluster.admin.get(OLD).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let query = format!("?watch=true&resourceVersion={start}");
    let (mut olds, mut news) = (
        cluster.admin.watch(&format!("{OLD}{query}")).await,
        cluster.admin.watch(&format!("{NEW}{query}")).await,
    );
    cluster.admin.post(NEW, &new("a")).await.expect(201);
    let series = json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:05:00.000000Z" } });
    let patched = cluster.admin.merge(&format!("{NEW}/a"), &series).await.expect(200);
    assert_eq!(patched["series"]["count"], 2);
    cluster.admin.merge(&format!("{OLD}/a"), &json!({ "message": "Otherwise" })).await.expect(200);
    cluster.admin.delete(&format!("{OLD}/a")).await.expect(200);
    for (watch, field, api_version) in [(&mut olds, "message", "v1"), (&mut news, "note", "events.k8s.io/v1")]
    {
        for (kind, text) in [
            ("ADDED", "It is up"),
            ("MODIFIED", "It is up"),
            ("MODIFIED", "Otherwise"),
            ("DELETED", "Otherwise"),
        ] {
            let event = watch.next().await.unwrap();
            assert_eq!((&event["type"], &event["object"][field]), (&json!(kind), &json!(text)), "{event}");
            assert_eq!(event["object"]["apiVersion"], api_version);
        }
    }
}

#[tokio::test]
async fn each_group_has_its_own_rules_and_names() {
    let cluster = Cluster::new().await;
    let mut loose = new("a");
    loose.as_object_mut().unwrap().remove("eventTime");
    let message = cluster.admin.post(NEW, &loose).await.refused(422, "Invalid");
    assert!(message.starts_with("Event.events.k8s.io \"a\" is invalid: "), "{message}");
    assert!(message.contains("eventTime: Required value"), "{message}");
    cluster.admin.post(NEW, &new("a")).await.expect(201);
    let message =
        cluster.admin.merge(&format!("{NEW}/a"), &json!({ "note": "x" })).await.refused(422, "Invalid");
    assert!(message.contains("message: Invalid value: \"x\": field is immutable"), "{message}");
    let strict = format!("{NEW}?fieldValidation=Strict");
    let mut mixed = new("b");
    mixed["message"] = json!("the other group's");
    let message = cluster.admin.post(&strict, &mixed).await.refused(400, "BadRequest");
    assert!(message.contains("unknown field \"message\""), "{message}");

    cluster.admin.post(OLD, &old("c")).await.expect(201);
    let names = async |path: &str| -> Vec<String> {
        let list = cluster.admin.get(path).await.expect(200);
        list["items"].as_array().unwrap().iter().map(|item| name(item).to_owned()).collect()
    };
    assert_eq!(names(&format!("{NEW}?fieldSelector=regarding.kind%3DPod")).await, ["c"]);
    assert_eq!(names(&format!("{OLD}?fieldSelector=involvedObject.kind%3DNode")).await, ["a"]);
    assert_eq!(
        names(&format!("{NEW}?fieldSelector=reportingController%3Dsvcd.io/x,type%3DNormal")).await,
        ["a"]
    );
    assert_eq!(names(&format!("{NEW}?labelSelector=made%3Dold")).await, ["c"]);
    let unknown = cluster.admin.get(&format!("{NEW}?fieldSelector=involvedObject.kind%3DPod")).await;
    assert_eq!(unknown.refused(400, "BadRequest"), "field label not supported: involvedObject.kind");
}

#[tokio::test]
async fn tables_and_metadata_are_the_same_in_both() {
    let cluster = Cluster::new().await;
    cluster.admin.post(OLD, &old("a")).await.expect(201);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let (of_old, of_new) = (
        cluster.admin.get_as(OLD, table).await.expect(200),
        cluster.admin.get_as(NEW, table).await.expect(200),
    );
    assert_eq!(of_new["columnDefinitions"], of_old["columnDefinitions"]);
    assert_eq!(of_new["rows"][0]["cells"], of_old["rows"][0]["cells"]);
    assert_eq!(of_new["rows"][0]["cells"][3], "pod/web-1");
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = cluster.admin.get_as(NEW, metadata).await.expect(200);
    assert_eq!((name(&list["items"][0]), list["items"][0].get("regarding")), ("a", None));
    let applied = json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "a", "labels": { "x": "y" } } });
    let path = format!("{NEW}/a?fieldManager=me");
    let headers = [("content-type", "application/apply-patch+yaml")];
    let applied =
        cluster.admin.send(http::Method::PATCH, &path, &headers, applied.to_string()).await.expect(200);
    assert_eq!((&applied["metadata"]["labels"]["x"], &applied["note"]), (&json!("y"), &json!("Started it")));
}
