//! The socket: TLS, identities, HTTP/1.1 and HTTP/2, how connections begin and end.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use svcd_apiserver::{Limits, MASTERS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cluster::{CONFIG_MAPS, PATIENCE, config_map};
use crate::served::{Served, get, h2};

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
async fn a_certificate_that_expires_opens_nothing_more_on_its_connection() {
    let served = Served::new(Limits::default()).await;
    let brief = served.cluster.ca.issue_client("admin", &[MASTERS], Duration::from_secs(2)).unwrap();
    let mut sender = h2(served.connect(Some(&brief), "h2").await).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut codes = Vec::new();
    while codes.last() != Some(&StatusCode::UNAUTHORIZED) {
        assert!(tokio::time::Instant::now() < deadline, "{codes:?}");
        codes.push(sender.send_request(get("/api/v1/namespaces")).await.unwrap().status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(codes.first(), Some(&StatusCode::OK));
    drop(sender);
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
async fn a_head_says_how_long_the_body_would_be_and_sends_none() {
    let head = || {
        let mut request = get("/version");
        *request.method_mut() = Method::HEAD;
        request
    };
    let served = Served::new(Limits::default()).await;
    let mut sender = h2(served.connect(Some(&served.admin()), "h2").await).await;
    let whole = sender.send_request(get("/version")).await.unwrap().into_body().collect().await.unwrap();
    let length = whole.to_bytes().len().to_string();
    let over_2 = sender.send_request(head()).await.unwrap();
    let stream = served.connect(Some(&served.admin()), "http/1.1").await;
    let (mut sender_1, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let over_1 = sender_1.send_request(head()).await.unwrap();
    for reply in [over_1, over_2] {
        assert_eq!(reply.status(), StatusCode::OK);
        assert_eq!(reply.headers()["content-length"], length.as_str());
        assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "");
    }
    // Nothing of a body stands in the way of the next answer.
    assert_eq!(sender_1.send_request(get("/version")).await.unwrap().status(), StatusCode::OK);
    drop((sender, sender_1));
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

/// One client's connections leave room for those of others.
#[tokio::test]
async fn one_address_never_takes_all_connections() {
    let served = Served::new(Limits { connections: 4, ..Limits::default() }).await;
    let admin = served.admin();
    let first = served.connect(Some(&admin), "h2").await;
    let _second = served.connect(Some(&admin), "h2").await;
    let mut third = TcpStream::connect(served.address).await.unwrap();
    let read = tokio::time::timeout(PATIENCE, third.read(&mut [0; 1])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop(first);
    crate::served::eventually("a place that was given up can be had", async || {
        let Ok(mut stream) = TcpStream::connect(served.address).await else { return false };
        // A place is held open; the lack of one is closed at once.
        tokio::time::timeout(Duration::from_millis(100), stream.read(&mut [0; 1])).await.is_err()
    })
    .await;
    served.stop().await;
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// On HTTP/1.1 too the body of a watch ends properly: its last chunk is there.
#[tokio::test]
async fn shutting_down_ends_the_chunks_of_a_watch_and_lets_requests_finish() {
    let served = Served::new(Limits::default()).await;
    let admin = served.admin();
    let mut watch = served.connect(Some(&admin), "http/1.1").await;
    let head = format!("GET {CONFIG_MAPS}?watch=true HTTP/1.1\r\nhost: localhost\r\n\r\n");
    watch.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(PATIENCE, watch.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"));
    let mut slow = served.connect(Some(&admin), "http/1.1").await;
    // It waits for three seconds and then says so.
    let head = format!("GET {CONFIG_MAPS}?resourceVersion=99999 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut idle = served.connect(Some(&admin), "http/1.1").await;
    crate::served::eventually("the slow request is worked on", async || {
        let metrics = served.metrics().await;
        metrics.contains(r#"current_executing_requests{priority_level="exempt",flow_schema="exempt"} 1"#)
    })
    .await;
    served.shutdown.cancel();
    let mut ended = Vec::new();
    tokio::time::timeout(PATIENCE, watch.read_to_end(&mut ended)).await.unwrap().unwrap();
    assert!(ended.ends_with(LAST_CHUNK), "{:?}", String::from_utf8_lossy(&ended));
    // Who looks at readyz when the port is closed is told why.
    crate::served::eventually("the port is closed", async || {
        TcpStream::connect(served.address).await.is_err()
    })
    .await;
    assert_eq!(served.cluster.admin.get("/readyz").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(served.cluster.admin.get("/livez").await.status, StatusCode::OK);
    let nothing = tokio::time::timeout(PATIENCE, idle.read_to_end(&mut Vec::new())).await.unwrap();
    assert!(matches!(nothing, Ok(0) | Err(_)));
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, slow.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 504 Gateway Timeout"), "{:?}", String::from_utf8_lossy(&answer));
    served.stop().await;
}

#[tokio::test]
async fn requests_that_are_sent_ahead_are_answered_in_order() {
    let served = Served::new(Limits::default()).await;
    let mut stream = served.connect(Some(&served.admin()), "http/1.1").await;
    let mut ahead = String::new();
    for n in 0..100 {
        ahead += &format!("GET {CONFIG_MAPS}/c{n} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    }
    ahead += "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let mut answers = Vec::new();
    let (written, read) = tokio::join!(
        writer.write_all(ahead.as_bytes()),
        tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answers))
    );
    written.unwrap();
    read.unwrap().unwrap();
    let text = String::from_utf8(answers).unwrap();
    let named: Vec<usize> =
        (0..100).map(|n| text.find(&format!("configmaps \\\"c{n}\\\"")).unwrap()).collect();
    assert!(named.is_sorted());
    assert!(text.ends_with("ok"));
    served.stop().await;
}

/// Streams that are opened and reset as fast as they can be end their connection at most, not the server.
#[tokio::test]
async fn a_flood_of_resets_hurts_nobody_else() {
    let served = Served::new(Limits::default()).await;
    let mut flood = h2(served.connect(Some(&served.admin()), "h2").await).await;
    for _ in 0..5000 {
        if flood.ready().await.is_err() {
            break;
        }
        drop(flood.send_request(get(CONFIG_MAPS)));
        tokio::task::yield_now().await;
    }
    let mut other = h2(served.connect(Some(&served.admin()), "h2").await).await;
    assert_eq!(other.send_request(get(CONFIG_MAPS)).await.unwrap().status(), StatusCode::OK);
    drop((flood, other));
    served.stop().await;
}
