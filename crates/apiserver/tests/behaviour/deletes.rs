//! Deletion: at once, by finalizers, with grace, in bulk; and namespaces.

use serde_json::json;

use crate::cluster::{CONFIG_MAPS, Cluster, SERVICES, config_map, name, pod, revision, service};

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_plain_object_goes_at_once() {
    let cluster = Cluster::new().await;
    let created = cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let status = cluster.admin.delete(&path).await.expect(200);
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(
        status["details"],
        json!({ "name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"] })
    );
    cluster.admin.get(&path).await.refused(404, "NotFound");
    cluster.admin.delete(&path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn some_kinds_answer_the_object_that_is_gone() {
    let cluster = Cluster::new().await;
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "a" } });
    for (collection, object) in
        [(SERVICES, service("a")), (PODS, pod("a")), ("/api/v1/namespaces/default/serviceaccounts", account)]
    {
        let created = cluster.admin.post(collection, &object).await.expect(201);
        let path = format!("{collection}/a");
        let dry = cluster.admin.delete(&format!("{path}?dryRun=All")).await.expect(200);
        let gone = cluster.admin.delete(&path).await.expect(200);
        for answer in [dry, gone] {
            assert_eq!(answer["kind"], created["kind"]);
            assert_eq!(answer["metadata"]["uid"], created["metadata"]["uid"]);
        }
        cluster.admin.get(&path).await.refused(404, "NotFound");
    }
}

#[tokio::test]
async fn preconditions_protect_what_is_not_meant() {
    let cluster = Cluster::new().await;
    let created = cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    for wrong in [json!({ "uid": "other" }), json!({ "resourceVersion": "1" })] {
        let message = cluster
            .admin
            .delete_with(&path, &json!({ "preconditions": wrong }))
            .await
            .refused(409, "Conflict");
        assert!(message.contains("Precondition failed"), "{message}");
    }
    let right = json!({ "uid": created["metadata"]["uid"], "resourceVersion": created["metadata"]["resourceVersion"] });
    cluster.admin.delete_with(&path, &json!({ "preconditions": right })).await.expect(200);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_removed() {
    let cluster = Cluster::new().await;
    let mut object = config_map("fin");
    object["metadata"]["finalizers"] = json!(["example.com/f"]);
    cluster.admin.post(CONFIG_MAPS, &object).await.expect(201);
    let path = format!("{CONFIG_MAPS}/fin");
    let mut watch = cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    assert_eq!(watch.brief().await, "ADDED fin");
    let marked = cluster.admin.delete(&path).await.expect(200);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(watch.brief().await, "MODIFIED fin");
    assert_eq!(cluster.admin.delete(&path).await.expect(200), marked, "a second DELETE changes nothing");
    let more = json!({ "metadata": { "finalizers": ["example.com/g"] } });
    let message = cluster.admin.merge(&path, &more).await.refused(422, "Invalid");
    assert!(message.contains("no new finalizers can be added if the object is being deleted"), "{message}");
    let undelete = json!({ "metadata": { "deletionTimestamp": null } });
    assert_eq!(cluster.admin.merge(&path, &undelete).await.expect(200), marked);
    let last = cluster.admin.merge(&path, &json!({ "metadata": { "finalizers": null } })).await.expect(200);
    assert!(last["metadata"]["finalizers"].is_null());
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], revision(&event["object"])), (&json!("DELETED"), revision(&last)));
    cluster.admin.get(&path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn propagation_is_asked_for_by_finalizers() {
    let cluster = Cluster::new().await;
    for (policy, finalizers) in [("Foreground", json!(["foregroundDeletion"])), ("Orphan", json!(["orphan"]))]
    {
        let object = config_map(&policy.to_lowercase());
        cluster.admin.post(CONFIG_MAPS, &object).await.expect(201);
        let path = format!("{CONFIG_MAPS}/{}", name(&object));
        let marked = cluster.admin.delete(&format!("{path}?propagationPolicy={policy}")).await.expect(200);
        assert_eq!(marked["metadata"]["finalizers"], finalizers);
    }
    cluster.admin.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
    let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background" });
    let status = cluster.admin.delete_with(&format!("{CONFIG_MAPS}/b"), &options).await.expect(200);
    assert_eq!(status["status"], "Success");
    let odd = json!({ "propagationPolicy": "Sideways" });
    cluster.admin.delete_with(&format!("{CONFIG_MAPS}/orphan"), &odd).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn a_pod_without_a_node_goes_at_once_and_one_with_a_node_waits_for_it() {
    let cluster = Cluster::new().await;
    cluster.admin.post(PODS, &pod("loose")).await.expect(201);
    cluster.admin.delete(&format!("{PODS}/loose")).await.expect(200);
    cluster.admin.get(&format!("{PODS}/loose")).await.refused(404, "NotFound");

    cluster.admin.post(PODS, &pod("bound")).await.expect(201);
    let binding = json!({ "kind": "Binding", "apiVersion": "v1", "metadata": { "name": "bound" },
        "target": { "kind": "Node", "name": "n1" } });
    let path = format!("{PODS}/bound");
    cluster.admin.post(&format!("{path}/binding"), &binding).await.expect(201);
    cluster.admin.post(&format!("{path}/binding"), &binding).await.refused(409, "Conflict");
    let bound = cluster.admin.get(&path).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert!(bound["status"]["conditions"].as_array().unwrap().iter().any(|c| c["type"] == "PodScheduled"));
    let marked = cluster.admin.delete(&path).await.expect(200);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let sooner = cluster.admin.delete(&format!("{path}?gracePeriodSeconds=5")).await.expect(200);
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    let later = cluster.admin.delete(&format!("{path}?gracePeriodSeconds=60")).await.expect(200);
    assert_eq!(later, sooner, "a deletion is never put off");
    cluster.admin.delete_with(&path, &json!({ "gracePeriodSeconds": 0 })).await.expect(200);
    cluster.admin.get(&path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let cluster = Cluster::new().await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({ "l": label });
        cluster.admin.post(CONFIG_MAPS, &object).await.expect(201);
    }
    let list = cluster.admin.delete(&format!("{CONFIG_MAPS}?labelSelector=l%3Dx")).await.expect(200);
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("ConfigMapList"), 2));
    let left = cluster.admin.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().iter().map(name).collect::<Vec<_>>(), ["b"]);
    cluster.admin.delete("/api/v1/configmaps").await.refused(405, "MethodNotAllowed");
}

#[tokio::test]
async fn a_namespace_waits_for_its_own_finalizers_and_takes_nothing_new() {
    let cluster = Cluster::new().await;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "t1" } });
    let created = cluster.admin.post("/api/v1/namespaces", &namespace).await.expect(201);
    assert_eq!(created["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(created["status"]["phase"], "Active");
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "t1");
    let path = "/api/v1/namespaces/t1";
    cluster.admin.merge(path, &json!({ "spec": { "finalizers": [] } })).await.expect(200);
    let marked = cluster.admin.delete(path).await.expect(200);
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert_eq!(marked["spec"]["finalizers"], json!(["kubernetes"]), "only /finalize removes it");
    let reply = cluster.admin.post(&format!("{path}/configmaps"), &config_map("a")).await;
    assert_eq!(reply.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let message = reply.refused(403, "Forbidden");
    assert_eq!(
        message,
        "configmaps \"a\" is forbidden: unable to create new content in namespace t1 because it is being terminated"
    );
    let mut finalized = marked.clone();
    finalized["spec"]["finalizers"] = json!([]);
    cluster.admin.put(&format!("{path}/finalize"), &finalized).await.expect(200);
    cluster.admin.get(path).await.refused(404, "NotFound");
}

#[tokio::test]
async fn the_namespaces_that_a_cluster_needs_stay() {
    let cluster = Cluster::new().await;
    let list = cluster.admin.get("/api/v1/namespaces").await.expect(200);
    let names: Vec<_> = list["items"].as_array().unwrap().iter().map(name).collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    assert_eq!(
        cluster.admin.delete("/api/v1/namespaces/default").await.refused(403, "Forbidden"),
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test]
async fn deleting_gives_back_what_a_service_had() {
    let cluster = Cluster::new().await;
    let mut object = service("web");
    object["spec"]["clusterIP"] = "10.96.7.7".into();
    for _ in 0..3 {
        cluster.admin.post(SERVICES, &object).await.expect(201);
        cluster.admin.delete(&format!("{SERVICES}/web")).await.expect(200);
    }
}
