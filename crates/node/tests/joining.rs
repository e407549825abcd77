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
use svcd_node::{Credentials, JoinConfig, JoinError, Renewal, join};
use svcd_pki::{Ca, Certificate, JoinToken};
use svcd_store::{Embedded, Options};
use svcd_testkit::eventually_async;
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
        Self::start_with(ApiConfig::default()).await
    }

    async fn start_with(config: ApiConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(Ca::load_or_create(&dir.path().join("pki")).unwrap());
        let store = Embedded::open(dir.path().join("store"), Options::default()).unwrap();
        let server = ApiServer::new(Arc::new(store), Arc::clone(&ca), config);
        server.bootstrap().await.unwrap();
        let admin = Client::new(server.in_process(User::master("admin")), "default");
        let names = ["127.0.0.1".into()];
        let identity = svcd_pki::Identity::issue(&ca, &names, svcd_pki::VALIDITY).unwrap();
        let tls = svcd_pki::server_config(&ca, identity).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(listener, tls, stop.clone()));
        Self { ca, admin, address, dir, stop }
    }

    /// Approves and signs what nodes ask for.
    fn control(&self) {
        let (services, pods) =
            (vec!["10.96.0.0/12".parse().unwrap()], vec!["10.244.0.0/16".parse().unwrap()]);
        let dns = [10, 96, 0, 10].into();
        let config = svcd_controllers::Config::new(services, pods, dns, self.address, Arc::clone(&self.ca));
        tokio::spawn(svcd_controllers::run(self.admin.clone(), config, self.stop.clone()));
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
    let client = svcd_node::connect(&credentials).unwrap().0;
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

const DEADLINE: Duration = Duration::from_secs(30);

fn kept(config: &JoinConfig) -> Certificate {
    let credentials = Credentials::load(&Credentials::path(&config.data_dir)).unwrap().unwrap();
    Certificate::from_pem(&credentials.certificate).unwrap()
}

/// A node whose first certificate is good for some seconds.
async fn short_lived() -> (Cluster, JoinConfig, Credentials) {
    let brief = ApiConfig { certificate_validity: Duration::from_secs(6), ..ApiConfig::default() };
    let cluster = Cluster::start_with(brief).await;
    let config = cluster.config(cluster.token(None).await);
    let credentials = run(&config).await.unwrap();
    (cluster, config, credentials)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_certificate_is_renewed_while_its_client_is_used() {
    let (cluster, config, credentials) = short_lived().await;
    let first = kept(&config);
    cluster.control();
    let (client, connections) = svcd_node::connect(&credentials).unwrap();
    let services: Api<Service> = Api::all(client.clone());
    services.list(&ListParams::default()).await.unwrap();
    let without_token = JoinConfig { token: None, ..config.clone() };
    let renewal = Renewal::new(without_token, credentials, client, connections);
    let renewal = tokio::spawn(renewal.run());
    eventually_async(DEADLINE, || async { Some(kept(&config)).filter(|next| *next != first).ok_or("old") })
        .await;
    let second = kept(&config);
    assert_eq!((second.common_name, second.organizations), (first.common_name, first.organizations));
    assert!(second.not_after > first.not_after + jiff::SignedDuration::from_hours(24 * 300));
    // The connection of before is known by a certificate that has expired now.
    svcd_runtime::sleep_until((first.not_after + jiff::SignedDuration::from_secs(1)).into()).await;
    services.list(&ListParams::default()).await.unwrap();
    renewal.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_certificate_has_expired_joins_again_with_a_token() {
    let (cluster, config, credentials) = short_lived().await;
    let first = kept(&config);
    // Nobody signs: the time goes by as for a machine that is off.
    let (client, connections) = svcd_node::connect(&credentials).unwrap();
    let running = JoinConfig { token: Some(cluster.token(None).await), ..config.clone() };
    let renewal = tokio::spawn(Renewal::new(running, credentials, client.clone(), connections).run());
    svcd_runtime::sleep_until((first.not_after + jiff::SignedDuration::from_secs(1)).into()).await;
    let services: Api<Service> = Api::all(client);
    eventually_async(DEADLINE, || async { services.list(&ListParams::default()).await }).await;
    renewal.abort();
    svcd_runtime::sleep_until((kept(&config).not_after + jiff::SignedDuration::from_secs(1)).into()).await;
    let error = run(&JoinConfig { token: None, ..config.clone() }).await.unwrap_err();
    assert!(matches!(error, JoinError::Pki(svcd_pki::Error::Expired { .. })), "{error}");
    assert!(error.advice().contains("svcd token create"), "{}", error.advice());
    run(&JoinConfig { token: Some(cluster.token(None).await), ..config }).await.unwrap();
}
