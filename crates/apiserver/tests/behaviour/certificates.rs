//! Certificate signing requests: who asks, who decides, who signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use svcd_apiserver::{NODES, User};

use crate::cluster::{Client, Cluster};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// For root of system:masters.
const MASTERS: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
    MIHkMIGKAgEAMCgxFzAVBgNVBAoMDnN5c3RlbTptYXN0ZXJzMQ0wCwYDVQQDDARy\n\
    b290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENmopdN2W5MyyViKe1FATFA6Y\n\
    llkA4dVo22BWBPsO8lBjHJlB+1efcx1JY4a6ZLKt+xURWvY2Xl5FfTibmymMQ6AA\n\
    MAoGCCqGSM49BAMCA0kAMEYCIQDnCBfvTk+6PE5EwI3+/u5gIUd8A4z+pHs/xoPI\n\
    nm2pUQIhAJ/lDb10BluVxKNxhUiaAFAJNHmZloLs9fQ4M4l36BXY\n\
    -----END CERTIFICATE REQUEST-----\n";
/// For the node n1.
const NODE: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
    MIHrMIGSAgEAMDAxFTATBgNVBAoMDHN5c3RlbTpub2RlczEXMBUGA1UEAwwOc3lz\n\
    dGVtOm5vZGU6bjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ+XD8XkELlQDFf\n\
    9LL+HLHBsmZWUGBPK2IkioZjxQxc/dxvfHoAjkEhR5TN4pVGYqvZtPFOC4aFgrJr\n\
    UsEgUvtcoAAwCgYIKoZIzj0EAwIDSAAwRQIhANnD6JYUvBRpSLnfjCz1zUg9/eRZ\n\
    4t6tZdcWrkdmqHHgAiAbrlXeroftyNMj+pUm8MOizz9U+/XQIMuDnN9GlKCulw==\n\
    -----END CERTIFICATE REQUEST-----\n";

fn request(name: &str, pem: &str, signer: &str) -> Value {
    json!({ "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": { "name": name },
        "spec": { "request": STANDARD.encode(pem), "signerName": signer, "usages": ["client auth"] } })
}

fn approved(mut request: Value) -> Value {
    request["status"]["conditions"] =
        json!([{ "type": "Approved", "status": "True", "reason": "Test", "message": "because" }]);
    request
}

/// Somebody who may do everything to requests, and nothing with signers.
async fn clerk(cluster: &Cluster) -> Client {
    let rules = json!([{ "apiGroups": ["certificates.k8s.io"], "verbs": ["*"], "resources":
        ["certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"] }]);
    let role = json!({ "metadata": { "name": "clerk" }, "rules": rules });
    give(cluster, "clerk", &role).await;
    cluster.client(User::new("clerk", ["office"]))
}

async fn give(cluster: &Cluster, user: &str, role: &Value) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    cluster.admin.post(&format!("{rbac}/clusterroles"), role).await.expect(201);
    let name = &role["metadata"]["name"];
    let binding = json!({ "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }] });
    cluster.admin.post(&format!("{rbac}/clusterrolebindings"), &binding).await.expect(201);
}

#[tokio::test]
async fn the_requester_is_who_the_server_saw() {
    let cluster = Cluster::new().await;
    let clerk = clerk(&cluster).await;
    let mut forged = request("a", NODE, API_CLIENT);
    forged["spec"]["username"] = json!("root");
    forged["spec"]["groups"] = json!(["system:masters"]);
    forged["status"] = json!({ "certificate": "AAAA" });
    let made = clerk.post(REQUESTS, &forged).await.expect(201);
    assert_eq!(made["spec"]["username"], "clerk");
    assert_eq!(made["spec"]["groups"], json!(["office", "system:authenticated"]));
    assert_eq!(made["status"], json!({}));
    let changed =
        json!({ "spec": { "signerName": "other.example.com/x" }, "metadata": { "labels": { "a": "b" } } });
    let changed = clerk.merge(&format!("{REQUESTS}/a"), &changed).await.expect(200);
    assert_eq!((&changed["spec"], &changed["metadata"]["labels"]["a"]), (&made["spec"], &json!("b")));
}

#[tokio::test]
async fn certificates_of_the_masters_are_not_given() {
    let cluster = Cluster::new().await;
    let refused = cluster.admin.post(REQUESTS, &request("m", MASTERS, API_CLIENT)).await;
    assert_eq!(
        refused.refused(403, "Forbidden"),
        "certificatesigningrequests.certificates.k8s.io \"m\" is forbidden: use of kubernetes.io/kube-apiserver-client \
         signer with system:masters group is not allowed"
    );
    cluster.admin.post(REQUESTS, &request("m", MASTERS, "example.com/other")).await.expect(201);
}

#[tokio::test]
async fn approving_and_signing_take_a_right_on_the_signer() {
    let cluster = Cluster::new().await;
    let clerk = clerk(&cluster).await;
    let made = clerk.post(REQUESTS, &request("a", NODE, API_CLIENT)).await.expect(201);
    let (approval, status) = (format!("{REQUESTS}/a/approval"), format!("{REQUESTS}/a/status"));
    assert_eq!(
        clerk.put(&approval, &approved(made.clone())).await.refused(403, "Forbidden"),
        "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to approve requests with \
         signerName \"kubernetes.io/kube-apiserver-client\""
    );
    let approver = json!({ "metadata": { "name": "approver" }, "rules": [{ "apiGroups": ["certificates.k8s.io"],
        "resources": ["signers"], "resourceNames": ["kubernetes.io/*"], "verbs": ["approve"] }] });
    give(&cluster, "clerk", &approver).await;
    let decided = clerk.put(&approval, &approved(made)).await.expect(200);
    assert!(decided["status"]["conditions"][0]["lastUpdateTime"].is_string(), "{decided}");
    let managers = decided["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|entry| entry["subresource"] == "approval"), "{managers:?}");

    let failed = json!({ "status": { "conditions": [
        decided["status"]["conditions"][0], { "type": "Failed", "status": "True" }] } });
    let message = clerk.merge(&status, &failed).await.refused(403, "Forbidden");
    assert!(message.contains("user not permitted to sign requests with signerName"), "{message}");
    cluster.admin.merge(&status, &failed).await.expect(200);
    let refused = cluster.admin.merge(&approval, &json!({ "status": { "conditions": [] } })).await;
    let message = refused.refused(422, "Invalid");
    assert!(message.contains("updates may not remove a condition of type \"Approved\""), "{message}");
}

#[tokio::test]
async fn a_node_asks_for_itself_only() {
    let cluster = Cluster::new().await;
    let node = |name: &str| cluster.client(User::new(format!("system:node:{name}"), [NODES]));
    node("n1").post(REQUESTS, &request("a", NODE, NODE_CLIENT)).await.expect(201);
    node("n1").get(&format!("{REQUESTS}/a")).await.expect(200);
    let message = node("n2").post(REQUESTS, &request("b", NODE, NODE_CLIENT)).await.refused(403, "Forbidden");
    assert!(message.contains("can only create a node CSR with CN=system:node:n2"), "{message}");
    node("n1").put(&format!("{REQUESTS}/a/approval"), &json!({})).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn requests_are_selected_by_their_signer() {
    let cluster = Cluster::new().await;
    cluster.admin.post(REQUESTS, &request("a", NODE, API_CLIENT)).await.expect(201);
    cluster.admin.post(REQUESTS, &request("b", NODE, "example.com/x")).await.expect(201);
    let list = cluster
        .admin
        .get(&format!("{REQUESTS}?fieldSelector=spec.signerName%3Dexample.com/x"))
        .await
        .expect(200);
    let names: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, ["b"]);
}
