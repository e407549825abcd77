//! What is served, as clients find it out.

use http::Method;
use http::header::{CONTENT_TYPE, ETAG};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

fn entry<'a>(list: &'a Value, name: &str) -> &'a Value {
    list["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap()
}

#[tokio::test]
async fn the_version_is_kubernetes_and_ours() {
    let cluster = Cluster::new().await;
    let version = cluster.admin.get("/version").await.expect(200);
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("37")));
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.37.0+svcd."));
}

#[tokio::test]
async fn groups_versions_and_kinds_can_be_walked() {
    let cluster = Cluster::new().await;
    let core = cluster.admin.get("/api").await.expect(200);
    assert_eq!((&core["kind"], &core["versions"]), (&json!("APIVersions"), &json!(["v1"])));
    let groups = cluster.admin.get("/apis").await.expect(200);
    let names: Vec<_> =
        groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"apps") && names.contains(&"discovery.k8s.io"), "{names:?}");
    let list = cluster.admin.get("/api/v1").await.expect(200);
    let services = entry(&list, "services");
    assert_eq!((&services["kind"], &services["shortNames"]), (&json!("Service"), &json!(["svc"])));
    assert_eq!((&services["namespaced"], &services["categories"]), (&json!(true), &json!(["all"])));
    assert_eq!(entry(&list, "pods/binding")["verbs"], json!(["create"]));
    assert_eq!(entry(&list, "namespaces/finalize")["verbs"], json!(["update"]));
    let apps = cluster.admin.get("/apis/apps/v1").await.expect(200);
    let scale = entry(&apps, "deployments/scale");
    assert_eq!((&scale["kind"], &scale["group"]), (&json!("Scale"), &json!("autoscaling")));
    assert_eq!(
        cluster.admin.get("/apis/apps").await.expect(200)["preferredVersion"]["groupVersion"],
        "apps/v1"
    );
}

#[tokio::test]
async fn everything_comes_at_once_to_those_who_ask_for_it() {
    let cluster = Cluster::new().await;
    let reply = cluster.admin.get_as("/apis", V2).await;
    assert_eq!(
        reply.headers[CONTENT_TYPE],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let list = reply.expect(200);
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("APIGroupDiscoveryList"), &json!("apidiscovery.k8s.io/v2"))
    );
    let apps = list["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "apps").unwrap();
    let resources = apps["versions"][0]["resources"].as_array().unwrap();
    let deployments = resources.iter().find(|r| r["resource"] == "deployments").unwrap();
    assert_eq!(
        (&deployments["scope"], &deployments["responseKind"]["kind"]),
        (&json!("Namespaced"), &json!("Deployment"))
    );
    let beta = V2.replace("v=v2", "v=v2beta1");
    let core = cluster.admin.get_as("/api", &beta).await.expect(200);
    assert_eq!(core["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    assert_eq!(core["items"][0]["versions"][0]["version"], "v1");
    assert_eq!(cluster.admin.get_as("/apis", "application/json").await.expect(200)["kind"], "APIGroupList");
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let cluster = Cluster::new().await;
    for path in ["/api", "/apis", "/api/v1", "/openapi/v3", "/openapi/v3/api/v1"] {
        let tag = cluster.admin.get(path).await.headers[ETAG].to_str().unwrap().to_owned();
        let again = cluster.admin.send(Method::GET, path, &[("if-none-match", &tag)], "").await;
        assert_eq!((again.status.as_u16(), again.bytes.len()), (304, 0), "{path}");
        let other = cluster.admin.send(Method::GET, path, &[("if-none-match", "\"x\"")], "").await;
        assert_eq!(other.status.as_u16(), 200, "{path}");
    }
}

/// What kubectl 1.27 and later look for before they leave validation to the server.
#[tokio::test]
async fn openapi_says_that_patches_validate_fields() {
    let cluster = Cluster::new().await;
    let index = cluster.admin.get("/openapi/v3").await.expect(200);
    for (root, kind) in
        [("api/v1", "Service"), ("apis/apps/v1", "Deployment"), ("apis/discovery.k8s.io/v1", "EndpointSlice")]
    {
        let url = index["paths"][root]["serverRelativeURL"].as_str().unwrap();
        let document = cluster.admin.get(url).await.expect(200);
        let verified = document["paths"].as_object().unwrap().values().any(|path| {
            let patch = &path["patch"];
            let parameters = patch["parameters"].as_array().into_iter().flatten();
            patch["x-kubernetes-group-version-kind"]["kind"] == kind
                && parameters.into_iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query")
        });
        assert!(verified, "{kind}");
    }
}

/// What `kubectl explain` and clients that merge by themselves read.
#[tokio::test]
async fn openapi_v3_has_the_fields_with_their_meaning() {
    let cluster = Cluster::new().await;
    let document = cluster.admin.get("/openapi/v3/api/v1").await.expect(200);
    let schemas = &document["components"]["schemas"];
    let port = &schemas["io.k8s.api.core.v1.ServicePort"];
    assert_eq!(port["required"], json!(["port"]));
    assert_eq!(port["properties"]["port"]["description"], "The port that will be exposed by this service.");
    assert_eq!(port["properties"]["protocol"]["enum"], json!(["SCTP", "TCP", "UDP"]));
    let mut loose = Vec::new();
    collect_references(&document, &mut loose);
    assert!(loose.len() > 100);
    loose.retain(|name| schemas.get(name).is_none());
    assert!(loose.is_empty(), "{loose:?}");
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/services/{name}"]["patch"];
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str).map(|r| r.rsplit('/').next().unwrap_or(r));
            found.extend(name.map(str::to_owned));
            map.values().for_each(|inner| collect_references(inner, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| collect_references(inner, found)),
        _ => {}
    }
}

/// What kubectl reads before it checks a file with a `List`.
#[tokio::test]
async fn openapi_v2_in_protobuf_and_in_json() {
    let cluster = Cluster::new().await;
    let accept = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let reply = cluster.admin.send(Method::GET, "/openapi/v2", &accept, "").await;
    assert!(reply.headers[CONTENT_TYPE].to_str().unwrap().ends_with("+protobuf"));
    let text = String::from_utf8_lossy(&reply.bytes);
    assert!(text.contains(r#"[{"group":"apps","kind":"Deployment","version":"v1"}]"#));
    assert!(text.contains("#/definitions/io.k8s.api.core.v1.ServicePort"));
    let document = cluster.admin.get("/openapi/v2").await.expect(200);
    let spec = &document["definitions"]["io.k8s.api.core.v1.ServiceSpec"]["properties"];
    assert_eq!(spec["ports"]["items"], json!({ "$ref": "#/definitions/io.k8s.api.core.v1.ServicePort" }));
    assert_eq!(spec["ports"]["x-kubernetes-patch-merge-key"], "port");
    // kubectl up to 1.26 looks for these before it patches with them.
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let parameters: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(parameters, ["dryRun", "fieldManager", "fieldValidation", "force"]);
}

#[tokio::test]
async fn unknown_paths_do_not_look_like_missing_objects() {
    let cluster = Cluster::new().await;
    for path in ["/nosuch", "/apis/nosuch.example.com/v1/x", "/api/v2", "/api/v2/pods", "/openapi/v4"] {
        let reply = cluster.admin.get(path).await;
        assert_eq!((reply.status.as_u16(), &reply.bytes[..]), (404, &b"404 page not found\n"[..]), "{path}");
        assert_eq!(reply.headers[CONTENT_TYPE], "text/plain; charset=utf-8");
    }
    for path in [
        "/api/v1/nosuch",
        "/api/v1/pods/x",
        "/api/v1/namespaces/default/services/web/scale",
        "/apis/apps/v1/nosuch",
    ] {
        let message = cluster.admin.get(path).await.refused(404, "NotFound");
        assert_eq!(message, "the server could not find the requested resource", "{path}");
        assert_eq!(cluster.admin.get(path).await.expect(404)["details"], json!({}), "{path}");
    }
    for what in ["log", "exec", "attach", "portforward"] {
        let path = format!("/api/v1/namespaces/default/pods/web/{what}");
        let message = cluster.admin.get(&path).await.refused(405, "MethodNotAllowed");
        assert_eq!(message, format!("svcd does not serve pods/{what} yet: look at the pod on its node"));
    }
    cluster.admin.send(Method::POST, "/version", &[], "").await.refused(405, "MethodNotAllowed");
    cluster.admin.send(Method::POST, "/api/v1/services", &[], "{}").await.refused(405, "MethodNotAllowed");
}

#[tokio::test]
async fn every_answer_can_be_found_in_the_log() {
    let cluster = Cluster::new().await;
    for path in ["/version", "/api/v1/services", "/nosuch"] {
        assert_eq!(cluster.admin.get(path).await.headers["audit-id"].len(), 36, "{path}");
    }
}

#[tokio::test]
async fn a_scale_is_read_written_and_patched() {
    let cluster = Cluster::new().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "svcd.io/echo" }] } } } });
    cluster.admin.post(path, &deployment).await.expect(201);
    let scale_path = format!("{path}/web/scale");
    let mut scale = cluster.admin.get(&scale_path).await.expect(200);
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    assert_eq!(scale["status"]["selector"], "app=web");
    scale["spec"]["replicas"] = 5.into();
    assert_eq!(cluster.admin.put(&scale_path, &scale).await.expect(200)["spec"]["replicas"], 5);
    scale["spec"]["replicas"] = 6.into();
    cluster.admin.put(&scale_path, &scale).await.refused(409, "Conflict");
    let patched = cluster.admin.merge(&scale_path, &json!({ "spec": { "replicas": 2 } })).await.expect(200);
    assert_eq!(patched["spec"]["replicas"], 2);
    let deployment = cluster.admin.get(&format!("{path}/web")).await.expect(200);
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["metadata"]["generation"]),
        (&json!(2), &json!(3))
    );
    let bad = cluster.admin.merge(&scale_path, &json!({ "spec": { "replicas": -1 } })).await;
    bad.refused(422, "Invalid");
}
