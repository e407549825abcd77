//! The socket: TLS, identities, HTTP/1.1 and HTTP/2, limits, shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use svcd_apiserver::{Config, Limits, MASTERS};
use svcd_pki::{AltName, KeyPairPem, server_config};
use svcd_store::Options;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::cluster::{CONFIG_MAPS, Cluster, PATIENCE, config_map};

struct Served {
    cluster: Cluster,
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    async fn new(limits: Limits) -> Self {
        let cluster = Cluster::with(Config { limits, ..Config::default() }, Options::default()).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tls = server_config(&cluster.ca, &[AltName::from("localhost")]).unwrap();
        let shutdown = CancellationToken::new();
        let serving = Arc::clone(&cluster.server).serve(listener, tls, shutdown.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { cluster, address, shutdown, task }
    }

    async fn connect(&self, identity: Option<&KeyPairPem>, protocol: &str) -> TlsStream<TcpStream> {
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

    fn admin(&self) -> KeyPairPem {
        self.cluster.ca.issue_client("admin", &[MASTERS], Duration::from_secs(3600)).unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the server stops").unwrap();
    }
}

type H2 = hyper::client::conn::http2::SendRequest<Body>;

async fn h2(stream: TlsStream<TcpStream>) -> H2 {
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Body> {
    Request::builder()
        .uri(format!("https://localhost{path}"))
        .header("host", "localhost")
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn the_client_certificate_is_the_identity() {
    let served = Served::new(Limits::default()).await;
    let admin = served.admin();
    let mut known = h2(served.connect(Some(&admin), "h2").await).await;
    assert_eq!(known.send_request(get("/api/v1/namespaces")).await.unwrap().status(), StatusCode::OK);
    let mut unknown = h2(served.connect(None, "h2").await).await;
    assert_eq!(
        unknown.send_request(get("/api/v1/namespaces")).await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
    assert_eq!(unknown.send_request(get("/healthz")).await.unwrap().status(), StatusCode::OK);
    drop((known, unknown));
    served.stop().await;
}

#[tokio::test]
async fn http_1_and_2_are_both_spoken() {
    let served = Served::new(Limits::default()).await;
    let stream = served.connect(Some(&served.admin()), "http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..2 {
        let reply = sender.send_request(get("/version")).await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        reply.into_body().collect().await.unwrap();
    }
    drop(sender);
    served.stop().await;
}

#[tokio::test]
async fn shutting_down_ends_watches_cleanly_and_says_not_ready() {
    let served = Served::new(Limits::default()).await;
    let mut sender = h2(served.connect(Some(&served.admin()), "h2").await).await;
    let mut watch = sender.send_request(get(&format!("{CONFIG_MAPS}?watch=true"))).await.unwrap().into_body();
    served.cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let first = tokio::time::timeout(PATIENCE, watch.frame()).await.unwrap().unwrap().unwrap();
    assert!(first.into_data().unwrap().starts_with(b"{\"type\":\"ADDED\""));
    let in_process = served.cluster.admin.clone();
    let address = served.address;
    served.stop().await;
    let rest = watch.collect().await.expect("the body ends without an error");
    assert_eq!(rest.to_bytes(), "");
    assert_eq!(in_process.get("/readyz").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn silent_clients_are_let_go() {
    use tokio::io::AsyncReadExt as _;
    let short = Duration::from_millis(100);
    let served =
        Served::new(Limits { handshake_timeout: short, header_timeout: short, ..Limits::default() }).await;
    let mut mute = TcpStream::connect(served.address).await.unwrap();
    let read = tokio::time::timeout(PATIENCE, mute.read(&mut [0; 1])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let mut slow = served.connect(None, "http/1.1").await;
    let read = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut Vec::new())).await;
    assert!(read.is_ok(), "closed in time");
    served.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let served = Served::new(Limits { body_timeout: Duration::from_millis(100), ..Limits::default() }).await;
    let mut sender = h2(served.connect(Some(&served.admin()), "h2").await).await;
    let never = Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let uri = format!("https://localhost{CONFIG_MAPS}");
    let request = Request::builder().method("POST").uri(uri).body(never).unwrap();
    let reply = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(reply.status(), StatusCode::REQUEST_TIMEOUT);
    drop(sender);
    served.stop().await;
}

#[tokio::test]
async fn too_many_watches_are_told_to_come_back() {
    let served = Served::new(Limits { watches: 1, ..Limits::default() }).await;
    let mut sender = h2(served.connect(Some(&served.admin()), "h2").await).await;
    let path = format!("{CONFIG_MAPS}?watch=true");
    let first = sender.send_request(get(&path)).await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    let second = sender.send_request(get(&path)).await.unwrap();
    assert_eq!(
        (second.status(), &second.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    assert_eq!(sender.send_request(get(CONFIG_MAPS)).await.unwrap().status(), StatusCode::OK);
    drop((first, second, sender));
    served.stop().await;
}
