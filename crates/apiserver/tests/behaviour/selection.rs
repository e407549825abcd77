//! What selects: field selectors kind by kind, the old `watch/` paths, rights to one name, methods.

use axum::body::Body;
use http::Method;
use serde_json::json;
use svcd_apiserver::User;

use crate::cluster::{CONFIG_MAPS, Cluster, config_map, pod, revision};

/// What upstream selects by, beside name and namespace.
const FIELDS: &[(&str, &[&str])] = &[
    (
        "/api/v1/pods",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    ),
    ("/api/v1/nodes", &["spec.unschedulable"]),
    ("/api/v1/namespaces", &["name", "status.phase"]),
    ("/api/v1/secrets", &["type"]),
    ("/api/v1/services", &["spec.clusterIP", "spec.type"]),
    ("/api/v1/replicationcontrollers", &["status.replicas"]),
    (
        "/api/v1/events",
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    ),
    ("/apis/certificates.k8s.io/v1/certificatesigningrequests", &["spec.signerName"]),
    ("/apis/apps/v1/replicasets", &["status.replicas"]),
    ("/apis/apps/v1/deployments", &[]),
    ("/api/v1/configmaps", &[]),
    ("/apis/discovery.k8s.io/v1/endpointslices", &[]),
    ("/apis/coordination.k8s.io/v1/leases", &[]),
];

#[tokio::test]
async fn every_kind_is_selected_by_the_fields_that_upstream_knows() {
    let cluster = Cluster::new().await;
    for (path, fields) in FIELDS {
        for field in fields.iter().chain(&["metadata.name", "metadata.namespace"]) {
            cluster.admin.get(&format!("{path}?fieldSelector={field}%3Dx")).await.expect(200);
        }
        for verb in ["", "watch=true&"] {
            let reply = cluster.admin.get(&format!("{path}?{verb}fieldSelector=spec.bogus%3Dx")).await;
            let wanted = if fields.is_empty() {
                r#""spec.bogus" is not a known field selector: only "metadata.name", "metadata.namespace""#
            } else {
                "field label not supported: spec.bogus"
            };
            assert_eq!(reply.refused(400, "BadRequest"), wanted, "{path}");
        }
    }
}

#[tokio::test]
async fn an_object_that_leaves_a_field_selector_is_deleted_for_it() {
    let cluster = Cluster::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    let mut mine =
        cluster.admin.watch(&format!("{pods}?watch=true&fieldSelector=status.phase%3DRunning")).await;
    let mut others =
        cluster.admin.watch(&format!("{pods}?watch=true&fieldSelector=status.phase!%3DRunning")).await;
    cluster.admin.post(pods, &pod("p")).await.expect(201);
    assert_eq!(others.brief().await, "ADDED p");
    let phase = async |phase: &str| {
        let patch = json!({ "status": { "phase": phase } });
        cluster.admin.merge(&format!("{pods}/p/status"), &patch).await.expect(200)
    };
    let running = phase("Running").await;
    assert_eq!(mine.next().await.unwrap(), json!({ "type": "ADDED", "object": running }));
    let gone = others.next().await.unwrap();
    assert_eq!((&gone["type"], &gone["object"]["status"]["phase"]), (&json!("DELETED"), &json!("Pending")));
    assert_eq!(
        revision(&gone["object"]),
        revision(&running),
        "the last state that matched, at the change's revision"
    );
    let ended = phase("Succeeded").await;
    let gone = mine.next().await.unwrap();
    assert_eq!((&gone["type"], &gone["object"]["status"]["phase"]), (&json!("DELETED"), &json!("Running")));
    assert_eq!(revision(&gone["object"]), revision(&ended));
    assert_eq!(others.brief().await, "ADDED p");
}

#[tokio::test]
async fn the_old_watch_paths_are_served() {
    let cluster = Cluster::new().await;
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    cluster.admin.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
    for (path, first) in [
        ("/api/v1/watch/namespaces/default/configmaps", "ADDED a"),
        ("/api/v1/watch/configmaps?fieldSelector=metadata.namespace%3Ddefault", "ADDED a"),
        ("/api/v1/watch/namespaces/default/configmaps/b", "ADDED b"),
        ("/api/v1/watch/namespaces/default/configmaps/b?fieldSelector=metadata.name%3Db", "ADDED b"),
        ("/api/v1/watch/namespaces", "ADDED default"),
        ("/api/v1/watch/namespaces/kube-system", "ADDED kube-system"),
    ] {
        assert_eq!(cluster.admin.watch(path).await.brief().await, first, "{path}");
    }
    let mut quiet = cluster.admin.watch("/apis/apps/v1/watch/deployments").await;
    assert!(quiet.is_quiet());
    let at = cluster.store.revision();
    let path = format!("/api/v1/watch/namespaces/default/configmaps/b?resourceVersion={at}");
    let mut one = cluster.admin.watch(&path).await;
    cluster.admin.delete(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    cluster.admin.delete(&format!("{CONFIG_MAPS}/b")).await.expect(200);
    assert_eq!(one.brief().await, "DELETED b");
    let other = "/api/v1/watch/namespaces/default/configmaps/b?fieldSelector=metadata.name%3Da";
    let message = cluster.admin.get(other).await.refused(400, "BadRequest");
    assert_eq!(message, "fieldSelector metadata.name doesn't match requested name");
    for path in ["/api/v1/watch", "/api/v1/watch/bogus", "/api/v1/watch/namespaces/default/pods/p/status"] {
        assert_eq!(cluster.admin.get(path).await.status, 404, "{path}");
    }
    let posted = cluster.admin.post("/api/v1/watch/namespaces/default/configmaps", &config_map("c")).await;
    posted.refused(405, "MethodNotAllowed");
}

/// Rights to some names hold for a list or a watch that selects one of them: kubelets and `kubectl get NAME -w` need it.
#[tokio::test]
async fn a_right_to_one_name_lets_one_list_and_watch_it() {
    let cluster = Cluster::new().await;
    cluster.admin.post(CONFIG_MAPS, &config_map("mine")).await.expect(201);
    let rules = json!([{ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get", "list", "watch"] }]);
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({ "metadata": { "name": "one" }, "rules": rules });
    cluster.admin.post(&format!("{roles}/roles"), &role).await.expect(201);
    let binding = json!({ "metadata": { "name": "one" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice" }] });
    cluster.admin.post(&format!("{roles}/rolebindings"), &binding).await.expect(201);
    let alice = cluster.client(User::new("alice", ["people"]));
    let one = format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dmine");
    assert_eq!(alice.get(&one).await.expect(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(alice.watch(&format!("{one}&watch=true")).await.brief().await, "ADDED mine");
    assert_eq!(
        alice
            .watch(&CONFIG_MAPS.replace("v1/", "v1/watch/").replace("maps", "maps/mine"))
            .await
            .brief()
            .await,
        "ADDED mine"
    );
    alice.get(CONFIG_MAPS).await.refused(403, "Forbidden");
    let message = alice
        .get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dyours"))
        .await
        .refused(403, "Forbidden");
    assert!(
        message.starts_with(r#"configmaps "yours" is forbidden: User "alice" cannot list resource"#),
        "{message}"
    );
    alice.get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name!%3Dmine")).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn a_head_is_a_get_without_its_body_and_other_methods_are_not_there() {
    let cluster = Cluster::new().await;
    cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    for path in [CONFIG_MAPS, &format!("{CONFIG_MAPS}/a"), "/api", "/version", "/healthz"] {
        assert_eq!(cluster.admin.send(Method::HEAD, path, &[], Body::empty()).await.status, 200, "{path}");
    }
    for (method, path) in [
        (Method::OPTIONS, CONFIG_MAPS.to_owned()),
        (Method::PUT, CONFIG_MAPS.to_owned()),
        (Method::PATCH, CONFIG_MAPS.to_owned()),
        (Method::POST, format!("{CONFIG_MAPS}/a")),
        (Method::POST, "/api/v1/configmaps".to_owned()),
        (Method::POST, "/api".to_owned()),
        (Method::TRACE, format!("{CONFIG_MAPS}/a")),
    ] {
        let reply = cluster.admin.send(method.clone(), &path, &[], Body::empty()).await;
        reply.refused(405, "MethodNotAllowed");
    }
}
