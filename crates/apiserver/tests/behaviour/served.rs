//! A server on a socket of its own, and clients with certificates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use svcd_apiserver::{Config, Limits, MASTERS};
use svcd_pki::{Identity, KeyPairPem, VALIDITY, server_config};
use svcd_store::Options;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, PATIENCE};

pub(crate) struct Served {
    pub(crate) cluster: Cluster,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn new(limits: Limits) -> Self {
        let cluster = Cluster::with(Config { limits, ..Config::default() }, Options::default()).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tls = server_config(&cluster.ca, identity(&cluster)).unwrap();
        let shutdown = CancellationToken::new();
        let serving = Arc::clone(&cluster.server).serve(listener, tls, shutdown.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { cluster, address, shutdown, task }
    }

    pub(crate) async fn connect(
        &self,
        identity: Option<&KeyPairPem>,
        protocol: &str,
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cluster.ca.certificate_der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(svcd_pki::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain =
                    CertificateDer::pem_slice_iter(pair.cert.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    pub(crate) fn admin(&self) -> KeyPairPem {
        self.identity("admin", &[MASTERS])
    }

    pub(crate) fn identity(&self, name: &str, groups: &[&str]) -> KeyPairPem {
        self.cluster.ca.issue_client(name, groups, Duration::from_secs(3600)).unwrap()
    }

    /// A connection of somebody's that carries many requests at once.
    pub(crate) async fn h2_as(&self, name: &str, groups: &[&str]) -> H2 {
        h2(self.connect(Some(&self.identity(name, groups)), "h2").await).await
    }

    /// Lets the people read and write ConfigMaps in `default`.
    pub(crate) async fn let_people_in(&self) {
        let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
        let rules = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"] }]);
        let role = json!({ "metadata": { "name": "people" }, "rules": rules });
        self.cluster.admin.post(&format!("{rbac}/roles"), &role).await.expect(201);
        let binding = json!({ "metadata": { "name": "people" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "people" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "people" }] });
        self.cluster.admin.post(&format!("{rbac}/rolebindings"), &binding).await.expect(201);
    }

    pub(crate) async fn metrics(&self) -> String {
        String::from_utf8(self.cluster.admin.get("/metrics").await.bytes.to_vec()).unwrap()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the server stops").unwrap();
    }
}

fn identity(cluster: &Cluster) -> Arc<Identity> {
    Identity::issue(&cluster.ca, &["localhost".into()], VALIDITY).unwrap()
}

pub(crate) type H2 = hyper::client::conn::http2::SendRequest<Body>;

pub(crate) async fn h2(stream: TlsStream<TcpStream>) -> H2 {
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::builder()
        .uri(format!("https://localhost{path}"))
        .header("host", "localhost")
        .body(Body::empty())
        .unwrap()
}

/// Asks until the answer is yes.
pub(crate) async fn eventually(what: &str, mut asked: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !asked().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
