//! Who gets in, and what they may do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use svcd_apiserver::{BOOTSTRAPPERS, MASTERS, NODES, User};
use svcd_pki::{Certificate, csr, hash_secret};
use svcd_store::snapshot::Contents;

use crate::cluster::{CONFIG_MAPS, Client, Cluster, SERVICES, pod, service};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn node(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } })
}

fn lease(name: &str) -> Value {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name },
        "spec": { "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now } })
}

#[tokio::test]
async fn whoever_has_no_right_is_told_which() {
    let cluster = Cluster::new().await;
    let nobody = cluster.client(User::new("alice", ["people"]));
    assert_eq!(
        nobody.post(SERVICES, &service("web")).await.refused(403, "Forbidden"),
        "services is forbidden: User \"alice\" cannot create resource \"services\" in API group \"\" in the namespace \
         \"default\""
    );
    assert_eq!(
        nobody.get("/apis/apps/v1/deployments").await.refused(403, "Forbidden"),
        "deployments.apps is forbidden: User \"alice\" cannot list resource \"deployments\" in API group \"apps\" at the \
         cluster scope"
    );
    let message = nobody.merge("/api/v1/nodes/n1/status", &json!({})).await.refused(403, "Forbidden");
    assert_eq!(
        message,
        "nodes \"n1\" is forbidden: User \"alice\" cannot patch resource \"nodes/status\" in API group \"\" at the \
         cluster scope"
    );
    nobody.get("/api").await.expect(200);
    let message = nobody.get("/metrics").await.refused(403, "Forbidden");
    assert_eq!(message, "forbidden: User \"alice\" cannot get path \"/metrics\"");
}

#[tokio::test]
async fn an_agent_reads_what_its_node_needs_and_no_secret() {
    let cluster = Cluster::new().await;
    let agent = cluster.client(User::new("system:node:n1", [NODES]));
    for path in [
        "/api/v1/services",
        "/api/v1/endpoints",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "/api/v1/nodes",
        "/api/v1/namespaces",
        "/api/v1/pods",
        "/svcd.io/v1/cluster",
    ] {
        agent.get(path).await.expect(200);
    }
    for path in [
        "/api/v1/secrets",
        "/api/v1/namespaces/kube-system/secrets/x",
        "/apis/apps/v1/deployments",
        CONFIG_MAPS,
    ] {
        agent.get(path).await.refused(403, "Forbidden");
    }
    agent.post(SERVICES, &service("web")).await.refused(403, "Forbidden");
    agent.post("/svcd.io/v1/join", &json!({})).await.refused(403, "Forbidden");
    let not_named = cluster.client(User::new("someone", [NODES]));
    not_named.get("/api/v1/services").await.refused(403, "Forbidden");
}

#[tokio::test]
async fn an_agent_writes_its_own_node_and_lease_only() {
    let cluster = Cluster::new().await;
    let agent = cluster.client(User::new("system:node:n1", [NODES]));
    agent.post("/api/v1/nodes", &node("n2")).await.refused(403, "Forbidden");
    agent.post("/api/v1/nodes", &node("n1")).await.expect(201);
    cluster.admin.post("/api/v1/nodes", &node("n2")).await.expect(201);
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    agent.merge("/api/v1/nodes/n1", &label).await.expect(200);
    agent.merge("/api/v1/nodes/n2", &label).await.refused(403, "Forbidden");
    let status = json!({ "status": { "nodeInfo": { "kubeletVersion": "v1" } } });
    agent.merge("/api/v1/nodes/n1/status", &status).await.expect(200);
    agent.merge("/api/v1/nodes/n2/status", &status).await.refused(403, "Forbidden");
    agent.delete("/api/v1/nodes/n1").await.refused(403, "Forbidden");
    agent.post(LEASES, &lease("n1")).await.expect(201);
    agent.post(LEASES, &lease("n2")).await.refused(403, "Forbidden");
    agent.get(&format!("{LEASES}/n1")).await.expect(200);
    agent.get(&format!("{LEASES}/n2")).await.refused(403, "Forbidden");
    let elsewhere = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    agent.post(elsewhere, &lease("n1")).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn an_agent_writes_the_status_of_its_own_pods_and_finishes_their_deletion() {
    let cluster = Cluster::new().await;
    let agent = cluster.client(User::new("system:node:n1", [NODES]));
    for (name, node) in [("mine", "n1"), ("theirs", "n2")] {
        let mut object = pod(name);
        object["spec"]["nodeName"] = node.into();
        cluster.admin.post(PODS, &object).await.expect(201);
    }
    let status = json!({ "status": { "phase": "Running" } });
    agent.merge(&format!("{PODS}/mine/status"), &status).await.expect(200);
    agent.merge(&format!("{PODS}/theirs/status"), &status).await.refused(403, "Forbidden");
    agent.merge(&format!("{PODS}/mine"), &json!({})).await.refused(403, "Forbidden");
    let now = json!({ "gracePeriodSeconds": 0 });
    agent.delete_with(&format!("{PODS}/theirs"), &now).await.refused(403, "Forbidden");
    agent.delete_with(&format!("{PODS}/mine"), &now).await.expect(200);
    agent.delete(PODS).await.refused(403, "Forbidden");
}

/// Somebody with a join token that can be used for a thousand years.
async fn joiner(cluster: &Cluster) -> Client {
    let secret = token_secret("abc123", "s3cret", "2999-01-01T00:00:00Z");
    cluster.admin.post(SECRETS, &secret).await.expect(201);
    cluster.client(User::new("system:bootstrap:abc123", [BOOTSTRAPPERS]))
}

fn token_secret(id: &str, secret: &str, expiration: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": format!("bootstrap-token-{id}") },
        "type": "bootstrap.kubernetes.io/token",
        "data": { "token-id": STANDARD.encode(id), "token-secret-sha256": STANDARD.encode(hash_secret(secret)),
            "expiration": STANDARD.encode(expiration) } })
}

#[tokio::test]
async fn a_bootstrapper_may_join_and_do_nothing_else() {
    let cluster = Cluster::new().await;
    let joiner = joiner(&cluster).await;
    for path in ["/api", "/api/v1/nodes", "/svcd.io/v1/cluster", "/openapi/v3"] {
        joiner.get(path).await.refused(403, "Forbidden");
    }
    let (request, _) = csr("whatever", &[]).unwrap();
    let reply =
        joiner.post("/svcd.io/v1/join", &json!({ "nodeName": "node1", "csr": request })).await.expect(200);
    let certificate = Certificate::from_pem(reply["certificate"].as_str().unwrap()).unwrap();
    assert_eq!(
        (certificate.common_name.as_str(), certificate.organizations),
        ("system:node:node1", vec![NODES.to_owned()])
    );
    assert_eq!(reply["cluster"]["clusterDomain"], "cluster.local");
    assert_eq!(reply["cluster"]["nodePortRange"], "30000-32767");
    assert_eq!(reply["cluster"], cluster.admin.get("/svcd.io/v1/cluster").await.expect(200));
    joiner.get("/svcd.io/v1/join").await.refused(405, "MethodNotAllowed");
    for bad in [json!({}), json!({ "nodeName": "n", "csr": "x" })] {
        joiner.post("/svcd.io/v1/join", &bad).await.refused(400, "BadRequest");
    }
    let bad = json!({ "nodeName": "Bad_Name", "csr": request });
    joiner.post("/svcd.io/v1/join", &bad).await.refused(422, "Invalid");
}

#[tokio::test]
async fn the_name_of_a_living_node_is_not_given_away() {
    let cluster = Cluster::new().await;
    let joiner = joiner(&cluster).await;
    let request = json!({ "nodeName": "n1", "csr": csr("x", &[]).unwrap().0 });
    cluster.admin.post("/api/v1/nodes", &node("n1")).await.expect(201);
    joiner.post("/svcd.io/v1/join", &request).await.expect(200);
    cluster.admin.post(LEASES, &lease("n1")).await.expect(201);
    let message = joiner.post("/svcd.io/v1/join", &request).await.refused(409, "Conflict");
    assert!(message.contains("a node of this name is running"), "{message}");
    let old = json!({ "spec": { "renewTime": "2020-01-01T00:00:00.000000Z" } });
    cluster.admin.merge(&format!("{LEASES}/n1"), &old).await.expect(200);
    joiner.post("/svcd.io/v1/join", &request).await.expect(200);
}

#[tokio::test]
async fn tokens_open_the_door_while_they_are_good() {
    let cluster = Cluster::new().await;
    cluster.admin.post(SECRETS, &token_secret("abc123", "s3cret", "2999-01-01T00:00:00Z")).await.expect(201);
    cluster.admin.post(SECRETS, &token_secret("old456", "s3cret", "2001-01-01T00:00:00Z")).await.expect(201);
    let anonymous = cluster.anonymous();
    let with = async |token: &str| {
        let header = format!("Bearer {token}");
        anonymous.send(Method::GET, "/api", &[("authorization", &header)], "").await
    };
    let message = with("abc123.s3cret").await.refused(403, "Forbidden");
    assert_eq!(message, "forbidden: User \"system:bootstrap:abc123\" cannot get path \"/api\"");
    for bad in ["abc123.guess", "old456.s3cret", "nobody.s3cret", "garbage", "", "../x.y"] {
        assert_eq!(with(bad).await.refused(401, "Unauthorized"), "Unauthorized", "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_used_as_often_as_it_says() {
    let cluster = Cluster::new().await;
    let mut secret = token_secret("abc123", "s3cret", "2999-01-01T00:00:00Z");
    secret["data"]["uses-left"] = STANDARD.encode("2").into();
    cluster.admin.post(SECRETS, &secret).await.expect(201);
    let joins = (0..8).map(|n| {
        let anonymous = cluster.anonymous();
        tokio::spawn(async move {
            let body = json!({ "nodeName": format!("n{n}"), "csr": csr("x", &[]).unwrap().0 }).to_string();
            let headers = [("authorization", "Bearer abc123.s3cret"), ("content-type", "application/json")];
            anonymous.send(Method::POST, "/svcd.io/v1/join", &headers, body).await.status.as_u16()
        })
    });
    let mut codes: Vec<u16> =
        futures::future::join_all(joins).await.into_iter().map(|code| code.unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [200, 200, 401, 401, 401, 401, 401, 401]);
    cluster.admin.get(&format!("{SECRETS}/bootstrap-token-abc123")).await.refused(404, "NotFound");
}

#[tokio::test]
async fn a_snapshot_has_every_object_and_is_for_masters_only() {
    let cluster = Cluster::new().await;
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "key": "value" } });
    let written = cluster.admin.post("/api/v1/namespaces/default/secrets", &secret).await.expect(201);
    let taken = cluster.admin.get("/svcd.io/v1/snapshot").await;
    let contents = Contents::read(&*taken.bytes).unwrap();
    let key = "/objects/core/secrets/default/s";
    assert!(svcd_apiserver::is_object(key));
    let record = contents.records.iter().find(|record| &*record.key == key).unwrap();
    assert_eq!(record.modified.to_string(), written["metadata"]["resourceVersion"].as_str().unwrap());
    assert!(record.modified <= contents.head.revision);
    // Who may read every path is still none of the masters.
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let binding = json!({ "metadata": { "name": "eve" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve" }] });
    cluster.admin.post(bindings, &binding).await.expect(201);
    let eve = cluster.client(User::new("eve", [""; 0]));
    eve.get("/api/v1/secrets").await.expect(200);
    eve.get("/svcd.io/v1/snapshot").await.refused(403, "Forbidden");
    cluster.anonymous().get("/svcd.io/v1/snapshot").await.refused(403, "Forbidden");
}

#[tokio::test]
async fn what_does_not_join_uses_nothing_up() {
    let cluster = Cluster::new().await;
    let mut secret = token_secret("abc123", "s3cret", "2999-01-01T00:00:00Z");
    secret["data"]["uses-left"] = STANDARD.encode("1").into();
    cluster.admin.post(SECRETS, &secret).await.expect(201);
    let joiner = cluster.client(User::new("system:bootstrap:abc123", [BOOTSTRAPPERS]));
    joiner.post("/svcd.io/v1/join", &json!({ "nodeName": "n", "csr": "x" })).await.refused(400, "BadRequest");
    cluster.admin.get(&format!("{SECRETS}/bootstrap-token-abc123")).await.expect(200);
}

#[tokio::test]
async fn without_an_identity_there_is_only_health_and_version() {
    let cluster = Cluster::new().await;
    let anonymous = cluster.anonymous();
    for path in ["/api", "/apis", "/openapi/v3", "/metrics", "/nosuch", "/svcd.io/v1/cluster", "/"] {
        let message = anonymous.get(path).await.refused(403, "Forbidden");
        assert_eq!(message, format!("forbidden: User \"system:anonymous\" cannot get path {path:?}"));
    }
    assert_eq!(
        anonymous.get(SERVICES).await.refused(403, "Forbidden"),
        "services is forbidden: User \"system:anonymous\" cannot list resource \"services\" in API group \"\" in the \
         namespace \"default\""
    );
    anonymous.post("/svcd.io/v1/join", &json!({})).await.refused(403, "Forbidden");
    anonymous.get("/version").await.expect(200);
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(anonymous.get(path).await.bytes, "ok");
    }
    let verbose = anonymous.get("/readyz?verbose").await;
    let text = String::from_utf8(verbose.bytes.to_vec()).unwrap();
    assert!(
        text.starts_with("[+]ping ok\n[+]store ok\n") && text.ends_with("readyz check passed\n"),
        "{text}"
    );
    assert_eq!(anonymous.get("/readyz/ping").await.bytes, "ok");
}

#[tokio::test]
async fn masters_may_do_everything() {
    let cluster = Cluster::new().await;
    let master = cluster.client(User::new("root", [MASTERS]));
    master.post(SERVICES, &service("web")).await.expect(201);
    let text = String::from_utf8(master.get("/metrics").await.bytes.to_vec()).unwrap();
    assert!(
        text.contains(
            "apiserver_request_total{verb=\"POST\",group=\"\",version=\"v1\",resource=\"services\""
        ),
        "{text}"
    );
    assert!(text.contains("apiserver_request_duration_seconds_bucket"));
}
