//! Joining against a real TLS listener in this process, and every way in which that fails.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use svcd_pki::Ca;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A server that answers joins as the contract says, checking each request.
struct FakeServer {
    ca: Arc<Ca>,
    token: JoinToken,
    address: SocketAddr,
    _dir: TempDir,
}

#[derive(Clone)]
enum Answer {
    Sign,
    Fixed(u16, &'static str),
    Dated(&'static str),
}

impl FakeServer {
    async fn start(answer: Answer) -> Self {
        Self::serve(answer, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn serve(answer: Answer, listener: TcpListener) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(Ca::load_or_create(dir.path()).unwrap());
        let token = JoinToken::generate(ca.pin());
        let tls = svcd_pki::server_config(&ca, identity(&ca)).unwrap();
        let address = listener.local_addr().unwrap();
        let (shared, bearer) = (Arc::clone(&ca), token.bearer());
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(tls);
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(tcp).await else { continue };
                let service = service_fn(|request| {
                    let (ca, bearer, answer) = (Arc::clone(&shared), bearer.clone(), answer.clone());
                    async move { Ok::<_, hyper::Error>(respond(&ca, &bearer, &answer, request).await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
        Self { ca, token, address, _dir: dir }
    }

    fn config(&self, data_dir: &Path) -> JoinConfig {
        config(self.address, Some(self.token.clone()), data_dir)
    }
}

fn identity(ca: &Ca) -> Arc<svcd_pki::Identity> {
    svcd_pki::Identity::issue(ca, &["127.0.0.1".into()], HOUR).unwrap()
}

fn config(address: SocketAddr, token: Option<JoinToken>, data_dir: &Path) -> JoinConfig {
    JoinConfig {
        server: address.to_string().parse().unwrap(),
        token,
        node_name: "node1".into(),
        data_dir: data_dir.to_owned(),
        retry_for: Duration::ZERO,
    }
}

async fn respond(
    ca: &Ca,
    bearer: &str,
    answer: &Answer,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (code, text, date) = match answer {
        Answer::Fixed(code, text) => (*code, (*text).to_owned(), None),
        _ if head.method != Method::POST || head.uri.path() != "/svcd.io/v1/join" => {
            (404, String::new(), None)
        }
        _ if bearer_of(&head.headers) != format!("Bearer {bearer}") => {
            (401, r#"{"kind":"Status","message":"Unauthorized"}"#.to_owned(), None)
        }
        Answer::Sign => (200, sign(ca, &body), None),
        Answer::Dated(date) => (200, sign(ca, &body), Some(*date)),
    };
    let mut response = Response::builder().status(code);
    if let Some(date) = date {
        response = response.header("date", date);
    }
    response.body(Full::new(Bytes::from(text))).unwrap()
}

fn bearer_of(headers: &HeaderMap) -> &str {
    headers.get("authorization").map_or("", |value| value.to_str().unwrap())
}

fn sign(ca: &Ca, body: &[u8]) -> String {
    let request: serde_json::Value = serde_json::from_slice(body).unwrap();
    let name = format!("system:node:{}", request["nodeName"].as_str().unwrap());
    let certificate =
        ca.sign_client_csr(request["csr"].as_str().unwrap(), &name, &["system:nodes"], HOUR).unwrap();
    serde_json::json!({
        "certificate": certificate,
        "cluster": {"clusterDomain": "cluster.local", "dnsAddress": "10.96.0.10", "serviceCidr": "10.96.0.0/12",
            "podCidr": "10.244.0.0/16", "nodePortRange": "30000-32767"},
    })
    .to_string()
}

async fn run(config: &JoinConfig) -> Result<Credentials, JoinError> {
    join(config, &CancellationToken::new()).await
}

/// Each failure is two short lines.
fn assert_readable(error: &JoinError) {
    for text in [error.to_string(), error.advice()] {
        assert!(!text.is_empty() && !text.contains('\n') && text.len() < 300, "{text}");
    }
}

#[tokio::test]
async fn joins_once_and_is_known_after() {
    let server = FakeServer::start(Answer::Sign).await;
    let dir = tempfile::tempdir().unwrap();
    let joined = run(&server.config(dir.path())).await.unwrap();
    assert_eq!(joined.ca, server.ca.certificate_pem());
    let certificate = svcd_pki::Certificate::from_pem(&joined.certificate).unwrap();
    assert_eq!(certificate.common_name, "system:node:node1");
    let path = Credentials::path(dir.path());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    // Without a token, and with the server away.
    let again =
        JoinConfig { token: None, server: "127.0.0.1:1".parse().unwrap(), ..server.config(dir.path()) };
    assert_eq!(run(&again).await.unwrap().certificate, joined.certificate);
    assert_eq!(run(&again).await.unwrap().server, "https://127.0.0.1:1");
    // Another name is another node.
    let other = JoinConfig { node_name: "node2".into(), ..server.config(dir.path()) };
    assert_eq!(run(&other).await.unwrap().node_name, "node2");
}

#[tokio::test]
async fn a_machine_of_another_cluster_is_not_taken_over() {
    let (one, two) = (FakeServer::start(Answer::Sign).await, FakeServer::start(Answer::Sign).await);
    let dir = tempfile::tempdir().unwrap();
    run(&one.config(dir.path())).await.unwrap();
    let error = run(&two.config(dir.path())).await.unwrap_err();
    assert!(matches!(error, JoinError::OtherCluster { .. }), "{error}");
    assert_readable(&error);
}

#[tokio::test]
async fn no_token() {
    let dir = tempfile::tempdir().unwrap();
    let error = run(&config(([127, 0, 0, 1], 1).into(), None, dir.path())).await.unwrap_err();
    assert!(matches!(error, JoinError::NoToken { .. }), "{error}");
    assert_readable(&error);
}

#[tokio::test]
async fn a_token_of_another_cluster() {
    let (server, other) = (FakeServer::start(Answer::Sign).await, FakeServer::start(Answer::Sign).await);
    let dir = tempfile::tempdir().unwrap();
    let error = run(&config(server.address, Some(other.token.clone()), dir.path())).await.unwrap_err();
    assert!(matches!(error, JoinError::WrongCa { .. }), "{error}");
    assert_readable(&error);
    assert!(!Credentials::path(dir.path()).exists(), "nothing is half-done");
}

#[tokio::test]
async fn a_wrong_secret() {
    let server = FakeServer::start(Answer::Sign).await;
    let dir = tempfile::tempdir().unwrap();
    let wrong = JoinToken::generate(server.ca.pin());
    let error = run(&config(server.address, Some(wrong.clone()), dir.path())).await.unwrap_err();
    assert!(matches!(&error, JoinError::TokenRefused { id, .. } if *id == wrong.id), "{error}");
    assert!(!error.to_string().contains(&wrong.secret));
    assert_readable(&error);
}

#[tokio::test]
async fn what_the_server_answers_tells_what_is_wrong() {
    let taken = r#"{"kind":"Status","message":"node \"node1\" is alive"}"#;
    let broken = r#"{"kind":"Status","message":"etcd is sad"}"#;
    type Check = fn(&JoinError) -> bool;
    let cases: [(u16, &'static str, Check); 5] = [
        (409, taken, |e| matches!(e, JoinError::NameTaken { message, .. } if message.contains("alive"))),
        (404, "nothing here", |e| matches!(e, JoinError::NotSvcd { .. })),
        (200, "<html>hello</html>", |e| matches!(e, JoinError::NotSvcd { .. })),
        (302, "", |e| matches!(e, JoinError::NotSvcd { .. })),
        (500, broken, |e| matches!(e, JoinError::Server { code: 500, .. }) && e.is_temporary()),
    ];
    for (code, text, check) in cases {
        let server = FakeServer::start(Answer::Fixed(code, text)).await;
        let dir = tempfile::tempdir().unwrap();
        let error = run(&server.config(dir.path())).await.unwrap_err();
        assert!(check(&error), "{code}: {error:?}");
        assert_readable(&error);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let dir = tempfile::tempdir().unwrap();
    let token = JoinToken::generate(CaPin::of(b"x"));
    let error = run(&config(address, Some(token), dir.path())).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused { .. }) && error.is_temporary(), "{error}");
    assert_readable(&error);
}

#[tokio::test]
async fn something_without_tls_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let token = JoinToken::generate(CaPin::of(b"x"));
    let error = run(&config(address, Some(token), dir.path())).await.unwrap_err();
    assert!(matches!(error, JoinError::NotSvcd { .. }), "{error:?}");
    assert_readable(&error);
}

#[tokio::test]
async fn unknown_host() {
    let dir = tempfile::tempdir().unwrap();
    let token = JoinToken::generate(CaPin::of(b"x"));
    let unknown = JoinConfig {
        server: "https://no-such-host.invalid:6443".parse().unwrap(),
        ..config(([127, 0, 0, 1], 1).into(), Some(token), dir.path())
    };
    let error = run(&unknown).await.unwrap_err();
    assert!(matches!(error, JoinError::UnknownHost { .. }), "{error:?}");
    assert_readable(&error);
}

#[tokio::test]
async fn clocks_that_differ() {
    let server = FakeServer::start(Answer::Dated("Sun, 06 Nov 1994 08:49:37 GMT")).await;
    let dir = tempfile::tempdir().unwrap();
    let error = run(&server.config(dir.path())).await.unwrap_err();
    assert!(matches!(error, JoinError::Clock { .. }), "{error:?}");
    assert!(error.to_string().contains("ahead of it"), "{error}");
    assert_readable(&error);
}

#[tokio::test]
async fn certificates_of_another_time_mean_the_clock() {
    let server: ServerUrl = "10.0.0.1".parse().unwrap();
    let at = |seconds| rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    for certificate in [
        rustls::CertificateError::NotValidYetContext { time: at(1_000), not_before: at(2_000_000_000) },
        rustls::CertificateError::ExpiredContext { time: at(4_000_000_000), not_after: at(2_000_000_000) },
    ] {
        let tls = rustls::Error::InvalidCertificate(certificate);
        let error = JoinError::from_handshake(&server, std::io::Error::other(tls));
        assert!(matches!(error, JoinError::Clock { .. }), "{error:?}");
        assert!(error.to_string().contains("2033-05-18T03:33:20Z"), "{error}");
        assert_readable(&error);
    }
}

#[tokio::test]
async fn an_expired_certificate_needs_a_token_again() {
    let server = FakeServer::start(Answer::Sign).await;
    let dir = tempfile::tempdir().unwrap();
    let joined = run(&server.config(dir.path())).await.unwrap();
    let (csr, _) = svcd_pki::csr("x", &[]).unwrap();
    let expired =
        server.ca.sign_client_csr(&csr, "system:node:node1", &["system:nodes"], Duration::ZERO).unwrap();
    Credentials { certificate: expired.clone(), ..joined }.store(&Credentials::path(dir.path())).unwrap();
    // Certificates count whole seconds: expired once this one is over.
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    let error = loop {
        let without = JoinConfig { token: None, ..server.config(dir.path()) };
        match run(&without).await {
            Err(error) => break error,
            Ok(_) => assert!(std::time::Instant::now() < deadline, "it never expires"),
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(error, JoinError::Pki(svcd_pki::Error::Expired { .. })), "{error:?}");
    assert_readable(&error);
    assert_ne!(run(&server.config(dir.path())).await.unwrap().certificate, expired);
}

#[tokio::test]
async fn a_broken_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = Credentials::path(dir.path());
    svcd_pki::ensure_private_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "{half").unwrap();
    let error = run(&config(([127, 0, 0, 1], 1).into(), None, dir.path())).await.unwrap_err();
    assert!(error.to_string().contains("credentials.json is broken"), "{error}");
}

#[tokio::test]
async fn keeps_trying_when_told_to() {
    // Bound and not accepting yet: the port is this test's from the start.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let token = JoinToken::generate(CaPin::of(b"another"));
    let patient = JoinConfig { retry_for: HOUR, ..config(address, Some(token), dir.path()) };
    let waiting = tokio::spawn(async move { run(&patient).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let _server = FakeServer::serve(Answer::Sign, socket.listen(8).unwrap());
    // It got through, and what is wrong then is not temporary.
    assert!(matches!(waiting.await.unwrap(), Err(JoinError::WrongCa { .. })));
}

#[tokio::test]
async fn stops_trying_when_told_to_stop() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let token = JoinToken::generate(CaPin::of(b"x"));
    let patient =
        JoinConfig { retry_for: HOUR, ..config(socket.local_addr().unwrap(), Some(token), dir.path()) };
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(matches!(join(&patient, &stop).await, Err(JoinError::Refused { .. })));
}
