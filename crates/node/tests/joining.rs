//! Joining a real API server over TLS, and what the certificate is good for.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Secret, Service};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use svcd_apiserver::{ApiServer, Config as ApiConfig, User};
use svcd_node::{Credentials, JoinConfig, JoinError, join};
use svcd_pki::{Ca, JoinToken};
use svcd_store::{Embedded, Options};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct Cluster {
    ca: Arc<Ca>,
    admin: Client,
    address: SocketAddr,
    dir: TempDir,
    stop: CancellationToken,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(Ca::load_or_create(&dir.path().join("pki")).unwrap());
        let store = Embedded::open(dir.path().join("store"), Options::default()).unwrap();
        let server = ApiServer::new(Arc::new(store), Arc::clone(&ca), ApiConfig::default());
        server.bootstrap().await.unwrap();
        let admin = Client::new(server.in_process(User::master("admin")), "default");
        let tls = svcd_pki::server_config(&ca, &["127.0.0.1".into()]).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(listener, tls, stop.clone()));
        Self { ca, admin, address, dir, stop }
    }

    async fn token(&self, expiration: Option<Timestamp>) -> JoinToken {
        let token = JoinToken::generate(self.ca.pin());
        let mut data = vec![
            ("token-id", token.id.clone()),
            ("token-secret-sha256", svcd_pki::hash_secret(&token.secret)),
        ];
        data.extend(expiration.map(|time| ("expiration", time.to_string())));
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": format!("bootstrap-token-{}", token.id), "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token",
        }))
        .unwrap();
        secret.data = Some(
            data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect(),
        );
        let secrets: Api<Secret> = Api::namespaced(self.admin.clone(), "kube-system");
        secrets.create(&PostParams::default(), &secret).await.unwrap();
        token
    }

    fn config(&self, token: JoinToken) -> JoinConfig {
        JoinConfig {
            server: self.address.to_string().parse().unwrap(),
            token: Some(token),
            node_name: "node1".into(),
            data_dir: self.dir.path().join("worker"),
            retry_for: Duration::ZERO,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn run(config: &JoinConfig) -> Result<Credentials, JoinError> {
    join(config, &CancellationToken::new()).await
}

#[tokio::test]
async fn the_certificate_opens_what_an_agent_needs_and_no_more() {
    let cluster = Cluster::start().await;
    let token = cluster.token(None).await;
    let credentials = run(&cluster.config(token)).await.unwrap();
    assert_eq!(credentials.cluster.cluster_domain, "cluster.local");
    let client = svcd_node::client(&credentials).unwrap();
    let services: Api<Service> = Api::all(client.clone());
    services.list(&ListParams::default()).await.unwrap();
    let nodes: Api<Node> = Api::all(client.clone());
    let node = |name: &str| serde_json::from_value::<Node>(json!({"metadata": {"name": name}})).unwrap();
    nodes.create(&PostParams::default(), &node("node1")).await.unwrap();
    for forbidden in [
        nodes.create(&PostParams::default(), &node("node2")).await.map(drop).unwrap_err(),
        Api::<Secret>::namespaced(client, "kube-system")
            .list(&ListParams::default())
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert!(matches!(&forbidden, kube::Error::Api(status) if status.code == 403), "{forbidden}");
    }
}

#[tokio::test]
async fn expired_revoked_and_unknown_tokens() {
    let cluster = Cluster::start().await;
    let past = Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let expired = cluster.token(Some(past)).await;
    let revoked = cluster.token(None).await;
    let secrets: Api<Secret> = Api::namespaced(cluster.admin.clone(), "kube-system");
    secrets.delete(&format!("bootstrap-token-{}", revoked.id), &Default::default()).await.unwrap();
    let mut wrong = cluster.token(None).await;
    wrong.secret = JoinToken::generate(wrong.pin).secret;
    for token in [expired, revoked, wrong, JoinToken::generate(cluster.ca.pin())] {
        let error = run(&cluster.config(token)).await.unwrap_err();
        assert!(matches!(error, JoinError::TokenRefused { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_name_of_a_living_node() {
    let cluster = Cluster::start().await;
    let token = cluster.token(None).await;
    let nodes: Api<Node> = Api::all(cluster.admin.clone());
    let node = serde_json::from_value(json!({"metadata": {"name": "node1"}})).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let leases: Api<Lease> = Api::namespaced(cluster.admin.clone(), "kube-node-lease");
    let lease = serde_json::from_value(json!({
        "metadata": {"name": "node1", "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": "node1", "leaseDurationSeconds": 40,
            "renewTime": format!("{:.6}", Timestamp::now())},
    }))
    .unwrap();
    leases.create(&PostParams::default(), &lease).await.unwrap();
    let error = run(&cluster.config(token.clone())).await.unwrap_err();
    assert!(matches!(error, JoinError::NameTaken { .. }), "{error:?}");
    let other = JoinConfig { node_name: "node2".into(), ..cluster.config(token) };
    run(&other).await.unwrap();
}
