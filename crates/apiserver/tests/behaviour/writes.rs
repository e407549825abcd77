//! Create, get, update, patch: what clients are answered, and what stands in the store afterwards.

use crate::cluster::{CONFIG_MAPS, Cluster, SERVICES, config_map, name, revision, service};
use http::Method;
use serde_json::json;

#[tokio::test]
async fn a_created_service_is_whole_and_can_be_read_back() {
    let cluster = Cluster::new().await;
    let created = cluster.admin.post(SERVICES, &service("web")).await.expect(201);
    assert_eq!(created["kind"], "Service");
    assert_eq!(created["metadata"]["namespace"], "default");
    assert_eq!(created["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert!(created["metadata"]["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(created["spec"]["type"], "ClusterIP");
    assert_eq!(created["spec"]["clusterIP"], created["spec"]["clusterIPs"][0]);
    assert!(created["spec"]["clusterIP"].as_str().unwrap().parse::<std::net::Ipv4Addr>().is_ok());
    assert_eq!(created["spec"]["ports"][0]["targetPort"], 80);
    let read = cluster.admin.get(&format!("{SERVICES}/web")).await.expect(200);
    assert_eq!(read, created);
    assert_eq!(revision(&read), cluster.store.revision().0);
}

#[tokio::test]
async fn creating_twice_is_refused_and_names_the_object() {
    let cluster = Cluster::new().await;
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let again = cluster.admin.post(CONFIG_MAPS, &config_map("a")).await;
    assert_eq!(again.json()["details"], json!({ "name": "a", "kind": "configmaps" }));
    assert_eq!(again.refused(409, "AlreadyExists"), "configmaps \"a\" already exists");
    assert_eq!(
        cluster.admin.get(&format!("{CONFIG_MAPS}/b")).await.refused(404, "NotFound"),
        "configmaps \"b\" not found"
    );
}

#[tokio::test]
async fn names_are_generated() {
    let cluster = Cluster::new().await;
    let mut object = config_map("x");
    object["metadata"] = json!({ "generateName": "web-" });
    let (one, two) = (
        cluster.admin.post(CONFIG_MAPS, &object).await.expect(201),
        cluster.admin.post(CONFIG_MAPS, &object).await.expect(201),
    );
    assert!(name(&one).starts_with("web-") && name(&one).len() == 9);
    assert_ne!(name(&one), name(&two));
    object["metadata"] = json!({});
    let message = cluster.admin.post(CONFIG_MAPS, &object).await.refused(422, "Invalid");
    assert!(message.contains("metadata.name: Required value"), "{message}");
}

#[tokio::test]
async fn an_object_needs_its_namespace() {
    let cluster = Cluster::new().await;
    let path = "/api/v1/namespaces/other/configmaps";
    assert_eq!(
        cluster.admin.post(path, &config_map("a")).await.refused(404, "NotFound"),
        "namespaces \"other\" not found"
    );
    let mut elsewhere = config_map("a");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    let message = cluster.admin.post(CONFIG_MAPS, &elsewhere).await.refused(400, "BadRequest");
    assert_eq!(
        message,
        "the namespace of the provided object does not match the namespace sent on the request"
    );
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_minded_as_the_client_asks() {
    let cluster = Cluster::new().await;
    let body = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"bogus":1,"data":{"a":"1","a":"2"}}"#;
    let post = async |mode: &str| {
        let path = format!("{CONFIG_MAPS}?dryRun=All{mode}");
        cluster.admin.send(Method::POST, &path, &[("content-type", "application/json")], body).await
    };
    let message = post("&fieldValidation=Strict").await.refused(400, "BadRequest");
    assert_eq!(
        message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         unknown field \"bogus\", duplicate field \"data.a\""
    );
    let warned = post("&fieldValidation=Warn").await;
    let warnings: Vec<_> =
        warned.headers.get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
    assert_eq!(warnings, [r#"299 - "unknown field \"bogus\"""#, r#"299 - "duplicate field \"data.a\"""#]);
    assert_eq!(warned.expect(201)["data"], json!({ "a": "2" }));
    let ignored = post("&fieldValidation=Ignore").await;
    assert!(ignored.headers.get("warning").is_none());
    ignored.expect(201);
    post("&fieldValidation=Sometimes").await.refused(422, "Invalid");
}

#[tokio::test]
async fn a_dry_run_does_everything_but_store() {
    let cluster = Cluster::new().await;
    let before = cluster.store.revision();
    let dry = cluster.admin.post(&format!("{SERVICES}?dryRun=All"), &service("web")).await.expect(201);
    assert!(dry["spec"]["clusterIP"].is_string());
    assert!(dry["metadata"]["resourceVersion"].is_null());
    assert_eq!(cluster.store.revision(), before);
    cluster.admin.post(&format!("{SERVICES}?dryRun=Some"), &service("web")).await.refused(400, "BadRequest");
    cluster.admin.post(SERVICES, &service("web")).await.expect(201);
    let before = cluster.store.revision();
    let path = format!("{SERVICES}/web");
    let patched = cluster
        .admin
        .merge(&format!("{path}?dryRun=All"), &json!({ "metadata": { "labels": { "a": "b" } } }))
        .await;
    assert_eq!(patched.expect(200)["metadata"]["labels"]["a"], "b");
    cluster.admin.delete(&format!("{path}?dryRun=All")).await.expect(200);
    assert_eq!(cluster.store.revision(), before);
}

#[tokio::test]
async fn an_update_holds_versions_against_each_other() {
    let cluster = Cluster::new().await;
    let created = cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let mut newer = created.clone();
    newer["data"]["a"] = "2".into();
    let updated = cluster.admin.put(&path, &newer).await.expect(200);
    assert!(revision(&updated) > revision(&created));
    assert_eq!(updated["metadata"]["uid"], created["metadata"]["uid"]);
    let message = cluster.admin.put(&path, &newer).await.refused(409, "Conflict");
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
         to the latest version and try again"
    );
    newer["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    newer["data"]["a"] = "3".into();
    cluster.admin.put(&path, &newer).await.expect(200);
    newer["metadata"]["uid"] = "other".into();
    let message = cluster.admin.put(&path, &newer).await.refused(409, "Conflict");
    assert!(message.contains("Precondition failed: UID in precondition: other"), "{message}");
    newer["metadata"] = json!({ "name": "b" });
    let message = cluster.admin.put(&path, &newer).await.refused(400, "BadRequest");
    assert_eq!(message, "the name of the object (b) does not match the name on the URL (a)");
}

#[tokio::test]
async fn what_changes_nothing_is_not_written() {
    let cluster = Cluster::new().await;
    let created = cluster.admin.post(SERVICES, &service("web")).await.expect(201);
    let path = format!("{SERVICES}/web");
    let before = cluster.store.revision();
    assert_eq!(cluster.admin.put(&path, &created).await.expect(200), created);
    assert_eq!(cluster.admin.merge(&path, &json!({})).await.expect(200), created);
    let same = json!({ "spec": { "clusterIP": created["spec"]["clusterIP"] } });
    assert_eq!(cluster.admin.patch(&path, "strategic-merge", &same).await.expect(200), created);
    assert_eq!(cluster.store.revision(), before);
}

#[tokio::test]
async fn a_put_on_a_missing_name_creates_some_kinds() {
    let cluster = Cluster::new().await;
    cluster.admin.put(&format!("{SERVICES}/web"), &service("web")).await.expect(201);
    cluster.admin.put(&format!("{CONFIG_MAPS}/a"), &config_map("a")).await.refused(404, "NotFound");
}

#[tokio::test]
async fn the_three_patches_do_what_each_of_them_means() {
    let cluster = Cluster::new().await;
    let mut object = service("web");
    object["spec"]["ports"] = json!([{ "name": "http", "port": 80 }, { "name": "https", "port": 443 }]);
    cluster.admin.post(SERVICES, &object).await.expect(201);
    let path = format!("{SERVICES}/web");
    let strategic = json!({ "spec": { "ports": [{ "port": 80, "targetPort": 9090 }] } });
    let ports =
        cluster.admin.patch(&path, "strategic-merge", &strategic).await.expect(200)["spec"]["ports"].clone();
    assert_eq!((&ports[0]["targetPort"], &ports[1]["port"]), (&json!(9090), &json!(443)));
    let merge = json!({ "spec": { "ports": [{ "port": 80, "name": "only" }] } });
    let ports = cluster.admin.merge(&path, &merge).await.expect(200)["spec"]["ports"].clone();
    assert_eq!(ports, json!([{ "name": "only", "port": 80, "protocol": "TCP", "targetPort": 80 }]));
    let operations =
        json!([{ "op": "add", "path": "/spec/ports/-", "value": { "port": 81, "name": "two" } }]);
    let ports = cluster.admin.patch(&path, "json", &operations).await.expect(200)["spec"]["ports"].clone();
    assert_eq!(ports[1]["port"], 81);
}

#[tokio::test]
async fn bad_patches_are_refused_as_upstream_refuses_them() {
    let cluster = Cluster::new().await;
    cluster.admin.post(SERVICES, &service("web")).await.expect(201);
    let path = format!("{SERVICES}/web");
    let missing = json!([{ "op": "replace", "path": "/spec/nosuch/x", "value": 1 }]);
    assert_eq!(
        cluster.admin.patch(&path, "json", &missing).await.refused(422, "Invalid"),
        "the server rejected our request due to an error in our request"
    );
    let rename = json!({ "metadata": { "name": "other" } });
    assert_eq!(
        cluster.admin.merge(&path, &rename).await.refused(400, "BadRequest"),
        "the name of the object (other) does not match the name on the URL (web)"
    );
    let old = json!({ "metadata": { "resourceVersion": "1" } });
    cluster.admin.merge(&path, &old).await.refused(409, "Conflict");
    let unknown = json!({ "spec": { "bogus": 1 } });
    let reply =
        cluster.admin.patch(&format!("{path}?fieldValidation=Strict"), "strategic-merge", &unknown).await;
    let message = reply.refused(422, "Invalid");
    assert!(message.contains(r#"patch: Invalid value: "map[spec:map[bogus:1]]": strict decoding error: unknown field "spec.bogus""#), "{message}");
    let send = async |content_type: &str, body: &'static str| {
        cluster.admin.send(Method::PATCH, &path, &[("content-type", content_type)], body).await
    };
    send("application/merge-patch+json", "{bad").await.refused(400, "BadRequest");
    send("application/json", "{}").await.refused(415, "UnsupportedMediaType");
    let message = send("application/apply-patch+yaml", "{}").await.refused(422, "Invalid");
    assert!(message.contains("fieldManager: Required value: is required for apply patch"), "{message}");
    cluster.admin.merge(&format!("{SERVICES}/nope"), &json!({})).await.refused(404, "NotFound");
}

#[tokio::test]
async fn many_patches_at_once_all_arrive() {
    let cluster = Cluster::new().await;
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let patches = (0..32).map(|n| {
        let (client, path) = (cluster.admin.clone(), path.clone());
        async move { client.merge(&path, &json!({ "data": { format!("k{n}"): "v" } })).await.expect(200) }
    });
    futures::future::join_all(patches.map(tokio::spawn)).await.into_iter().for_each(|r| drop(r.unwrap()));
    let data = cluster.admin.get(&path).await.expect(200)["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 33);
}

#[tokio::test]
async fn a_status_write_touches_the_status_only() {
    let cluster = Cluster::new().await;
    let mut object = service("web");
    object["spec"]["type"] = "LoadBalancer".into();
    let created = cluster.admin.post(SERVICES, &object).await.expect(201);
    let path = format!("{SERVICES}/web");
    let ingress = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.4" }] } });
    let patch = json!({ "spec": { "type": "NodePort" }, "status": ingress });
    let patched = cluster.admin.merge(&format!("{path}/status"), &patch).await.expect(200);
    assert_eq!(patched["spec"], created["spec"]);
    assert_eq!(patched["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.4");
    let main = json!({ "status": null, "metadata": { "labels": { "a": "b" } } });
    let labelled = cluster.admin.merge(&path, &main).await.expect(200);
    assert_eq!(labelled["metadata"]["labels"]["a"], "b");
    assert_eq!(labelled["status"], patched["status"]);
}

#[tokio::test]
async fn bodies_are_taken_in_known_media_types_only() {
    let cluster = Cluster::new().await;
    let send = async |content_type: &str, body: &'static str| {
        cluster.admin.send(Method::POST, CONFIG_MAPS, &[("content-type", content_type)], body).await
    };
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\ndata:\n  a: b\n";
    assert_eq!(send("application/yaml", yaml).await.expect(201)["data"], json!({ "a": "b" }));
    send("application/vnd.kubernetes.protobuf", "k8s\0").await.refused(400, "BadRequest");
    send("application/cbor", "{}").await.refused(415, "UnsupportedMediaType");
    send("application/json", "{\"kind\":").await.refused(400, "BadRequest");
    send("application/json", "[]").await.refused(400, "BadRequest");
    let wrong = r#"{"kind":"ConfigMap","apiVersion":"v2","metadata":{"name":"x"}}"#;
    let message = send("application/json", wrong).await.refused(400, "BadRequest");
    assert_eq!(message, "the API version in the data (v2) does not match the expected API version (v1)");
    let big = "x".repeat(3 * 1024 * 1024 + 1);
    let reply = cluster.admin.send(Method::POST, CONFIG_MAPS, &[], big).await;
    assert_eq!(reply.refused(413, "RequestEntityTooLarge"), "Request entity too large: limit is 3145728");
}

#[tokio::test]
async fn a_wrong_type_names_the_field() {
    let cluster = Cluster::new().await;
    let mut object = service("b1");
    object["spec"]["ports"][0]["port"] = "abc".into();
    let message = cluster.admin.post(SERVICES, &object).await.refused(400, "BadRequest");
    assert!(
        message.starts_with(
            "Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal string"
        ),
        "{message}"
    );
}
