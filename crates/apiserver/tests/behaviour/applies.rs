//! Server-side apply, and who manages what.

use http::Method;
use serde_json::{Value, json};

use crate::cluster::{CONFIG_MAPS, Client, Cluster, Reply, SERVICES, config_map, pod, revision, service};

async fn apply(client: &Client, path: &str, query: &str, config: &Value) -> Reply {
    let content_type = [("content-type", "application/apply-patch+yaml")];
    client.send(Method::PATCH, &format!("{path}?{query}"), &content_type, config.to_string()).await
}

fn data(data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c1" }, "data": data })
}

fn managers(object: &Value) -> Vec<&str> {
    let list = object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|entry| entry["manager"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn applies_create_conflict_force_and_take_away() {
    let cluster = Cluster::new().await;
    let path = format!("{CONFIG_MAPS}/c1");
    let made = apply(&cluster.admin, &path, "fieldManager=m1", &data(json!({ "a": "1", "b": "1" }))).await;
    let made = made.expect(201);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!((&entry["manager"], &entry["operation"]), (&json!("m1"), &json!("Apply")));
    assert_eq!(entry["fieldsV1"], json!({ "f:data": { "f:a": {}, "f:b": {} } }));

    let theirs = data(json!({ "a": "2" }));
    let reply = apply(&cluster.admin, &path, "fieldManager=m2", &theirs).await.expect(409);
    assert_eq!(reply["message"], "Apply failed with 1 conflict: conflict with \"m1\": .data.a");
    assert_eq!(reply["reason"], "Conflict");
    let cause =
        json!({ "reason": "FieldManagerConflict", "message": "conflict with \"m1\"", "field": ".data.a" });
    assert_eq!(reply["details"]["causes"], json!([cause]));

    let forced = apply(&cluster.admin, &path, "fieldManager=m2&force=true", &theirs).await.expect(200);
    assert_eq!(forced["data"], json!({ "a": "2", "b": "1" }));
    let fewer = apply(&cluster.admin, &path, "fieldManager=m1", &data(json!({}))).await.expect(200);
    assert_eq!(fewer["data"], json!({ "a": "2" }));
    let reply = apply(&cluster.admin, &path, "fieldManager=m1", &data(json!({ "a": "1" }))).await.expect(409);
    assert_eq!(reply["message"], "Apply failed with 1 conflict: conflict with \"m2\": .data.a");
}

#[tokio::test]
async fn applying_the_same_again_writes_nothing() {
    let cluster = Cluster::new().await;
    let path = format!("{SERVICES}/web");
    let made = apply(&cluster.admin, &path, "fieldManager=m", &service("web")).await.expect(201);
    let again = apply(&cluster.admin, &path, "fieldManager=m", &service("web")).await.expect(200);
    assert_eq!(made, again);
    let path = format!("{SERVICES}/dry");
    apply(&cluster.admin, &path, "fieldManager=m&dryRun=All", &service("dry")).await.expect(201);
    cluster.admin.get(&path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn every_write_says_who_made_it() {
    let cluster = Cluster::new().await;
    let agent = [("content-type", "application/json"), ("user-agent", "kubectl/v1.36 (linux)")];
    let body = config_map("a").to_string();
    let made = cluster.admin.send(Method::POST, CONFIG_MAPS, &agent, body).await.expect(201);
    assert_eq!(managers(&made), ["kubectl"]);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!((&entry["operation"], &entry["fieldsType"]), (&json!("Update"), &json!("FieldsV1")));
    assert_eq!(entry["fieldsV1"], json!({ "f:data": { ".": {}, "f:a": {} } }));
    let path = format!("{CONFIG_MAPS}/a");
    let patch = json!({ "data": { "b": "1" } });
    let edited = cluster.admin.merge(&format!("{path}?fieldManager=edit"), &patch).await.expect(200);
    let same = cluster.admin.merge(&format!("{path}?fieldManager=other"), &patch).await.expect(200);
    assert_eq!(revision(&edited), revision(&same), "a patch that changes nothing takes nothing");
    let mut who = managers(&same);
    who.sort_unstable();
    assert_eq!(who, ["edit", "kubectl"]);
    let reset = json!({ "metadata": { "managedFields": [{}] } });
    let reset = cluster.admin.merge(&path, &reset).await.expect(200);
    assert_eq!(reset["metadata"].get("managedFields"), None);
}

#[tokio::test]
async fn a_status_has_managers_of_its_own() {
    let cluster = Cluster::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    cluster.admin.post(&format!("{pods}?fieldManager=run"), &pod("p")).await.expect(201);
    let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    let path = format!("{pods}/p/status?fieldManager=node");
    let written = cluster.admin.patch(&path, "strategic-merge", &status).await.expect(200);
    let list = written["metadata"]["managedFields"].as_array().unwrap();
    let run = list.iter().find(|e| e["manager"] == "run").unwrap();
    assert_eq!(run["fieldsV1"]["f:spec"]["f:containers"].as_object().unwrap().len(), 1);
    assert!(run["fieldsV1"].get("f:status").is_none(), "{run}");
    let node = list.iter().find(|e| e["manager"] == "node").unwrap();
    assert_eq!(node["subresource"], "status");
    let condition = &node["fieldsV1"]["f:status"]["f:conditions"]["k:{\"type\":\"Ready\"}"];
    assert_eq!(condition, &json!({ ".": {}, "f:status": {}, "f:type": {} }));
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused_in_upstreams_words() {
    let cluster = Cluster::new().await;
    let path = format!("{SERVICES}/ap");
    let mut bogus = service("ap");
    bogus["spec"]["bogus"] = json!(1);
    let reply = apply(&cluster.admin, &path, "fieldManager=m", &bogus).await.expect(500);
    assert_eq!(
        reply["message"],
        "failed to create typed patch object (default/ap; /v1, Kind=Service): .spec.bogus: field not declared in schema"
    );
    assert_eq!(reply.get("reason"), None);
    let message = apply(&cluster.admin, &path, "", &service("ap")).await.refused(422, "Invalid");
    assert_eq!(
        message,
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let mut managed = service("ap");
    managed["metadata"]["managedFields"] = json!([{ "manager": "x" }]);
    let message = apply(&cluster.admin, &path, "fieldManager=m", &managed).await.refused(400, "BadRequest");
    assert_eq!(message, "metadata.managedFields must be nil");
    let message =
        cluster.admin.merge(&format!("{path}?force=true"), &json!({})).await.refused(422, "Invalid");
    assert!(message.contains("force: Forbidden: may not be specified for non-apply patch"), "{message}");
    // A client that would rather apply in CBOR learns from a 415 that it must not.
    let cbor = [("content-type", "application/apply-patch+cbor")];
    let reply = cluster.admin.send(Method::PATCH, &format!("{path}?force=true"), &cbor, "").await;
    reply.refused(415, "UnsupportedMediaType");
    apply(&cluster.admin, &path, "fieldManager=m", &json!([])).await.refused(400, "BadRequest");
    let status = format!("{path}/status");
    apply(&cluster.admin, &status, "fieldManager=m", &service("ap")).await.refused(404, "NotFound");
}
