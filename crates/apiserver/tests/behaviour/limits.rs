//! Limits and fairness: who is held up by whom, and what is refused for its size or its shape.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use svcd_apiserver::{Limits, NODES};
use tokio::time::Instant;

use crate::cluster::{CONFIG_MAPS, Client, Cluster, PATIENCE, config_map};
use crate::served::{H2, Served, eventually, get};

/// A read that takes three seconds and holds its seat all the while.
const SLOW: &str = "/api/v1/namespaces/default/configmaps?resourceVersion=99999";
const PEOPLE: &[&str] = &["people"];

async fn status(sender: &mut H2, path: &str) -> (StatusCode, Duration) {
    let started = Instant::now();
    let reply = tokio::time::timeout(PATIENCE, sender.send_request(get(path))).await.unwrap().unwrap();
    (reply.status(), started.elapsed())
}

/// One user floods the server with the slowest requests there are. Nodes are not held up at all; another user of the same
/// level by one turn; the flood itself is told 429.
#[tokio::test]
async fn a_noisy_user_starves_nobody() {
    // One seat for each level.
    let served = Served::new(Limits { seats: 0, ..Limits::default() }).await;
    served.let_people_in().await;
    let mut noisy = served.h2_as("noisy", PEOPLE).await;
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..400 {
        noisy.ready().await.unwrap();
        flood.spawn(noisy.send_request(get(SLOW)));
    }
    eventually("the queue is full", async || {
        served.metrics().await.contains(
            r#"apiserver_flowcontrol_rejected_requests_total{priority_level="global-default",flow_schema="global-default",reason="queue-full"} 99"#,
        )
    })
    .await;
    let mut node = served.h2_as("system:node:n1", &[NODES]).await;
    for path in ["/api/v1/nodes", "/api/v1/services", "/api/v1/nodes/n1"] {
        let (code, took) = status(&mut node, path).await;
        assert!(code == StatusCode::OK || code == StatusCode::NOT_FOUND, "{path}: {code}");
        assert!(took < Duration::from_secs(1), "{path}: {took:?}");
    }
    let (code, _) = status(&mut served.h2_as("admin", &["system:masters"]).await, CONFIG_MAPS).await;
    assert_eq!(code, StatusCode::OK);
    let (code, took) = status(&mut served.h2_as("quiet", PEOPLE).await, CONFIG_MAPS).await;
    assert_eq!(code, StatusCode::OK);
    assert!(took < Duration::from_secs(8), "two turns of three seconds at most: {took:?}");
    let metrics = served.metrics().await;
    for line in [
        r#"apiserver_flowcontrol_nominal_limit_seats{priority_level="system"} 1"#,
        r#"apiserver_flowcontrol_dispatched_requests_total{priority_level="node-high",flow_schema="system-node-high"} 2"#,
        r#"apiserver_flowcontrol_current_executing_requests{priority_level="global-default",flow_schema="global-default"} 1"#,
        r#"apiserver_flowcontrol_request_wait_duration_seconds_count{priority_level="system",flow_schema="system-nodes",execute="true"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    drop((noisy, flood, node));
    eventually("who has gone waits no longer", async || {
        let metrics = served.metrics().await;
        metrics.contains(
            r#"apiserver_flowcontrol_current_inqueue_requests{priority_level="global-default",flow_schema="global-default"} 0"#,
        )
    })
    .await;
    served.stop().await;
}

#[tokio::test]
async fn who_waits_too_long_is_told_when_to_come_back() {
    let served =
        Served::new(Limits { seats: 0, queue_wait: Duration::from_millis(50), ..Limits::default() }).await;
    served.let_people_in().await;
    let mut sender = served.h2_as("noisy", PEOPLE).await;
    let first = tokio::spawn(sender.send_request(get(SLOW)));
    eventually("the seat is taken", async || {
        served.metrics().await.contains(
            r#"current_executing_requests{priority_level="global-default",flow_schema="global-default"} 1"#,
        )
    })
    .await;
    let reply = sender.send_request(get(CONFIG_MAPS)).await.unwrap();
    assert_eq!(
        (reply.status(), &reply.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    assert!(!reply.headers().keys().any(|name| name.as_str().starts_with("x-kubernetes-pf")));
    let body: Value = serde_json::from_slice(&reply.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(
        (&body["reason"], &body["details"]["retryAfterSeconds"]),
        (&json!("TooManyRequests"), &json!(1))
    );
    let line = r#"rejected_requests_total{priority_level="global-default",flow_schema="global-default",reason="time-out"} 1"#;
    assert!(served.metrics().await.contains(line));
    first.abort();
    drop(sender);
    served.stop().await;
}

#[tokio::test]
async fn watches_are_counted_for_each_user() {
    let served = Served::new(Limits { watches: 4, ..Limits::default() }).await;
    served.let_people_in().await;
    let path = format!("{CONFIG_MAPS}?watch=true");
    let mut noisy = served.h2_as("noisy", PEOPLE).await;
    let first = noisy.send_request(get(&path)).await.unwrap();
    let second = noisy.send_request(get(&path)).await.unwrap();
    let third = noisy.send_request(get(&path)).await.unwrap();
    assert_eq!(
        (first.status(), second.status(), third.status()),
        (StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS)
    );
    let mut quiet = served.h2_as("quiet", PEOPLE).await;
    assert_eq!(quiet.send_request(get(&path)).await.unwrap().status(), StatusCode::OK);
    drop(first);
    eventually("a place is free again", async || {
        noisy.send_request(get(&path)).await.unwrap().status() == StatusCode::OK
    })
    .await;
    drop((second, third, noisy, quiet));
    served.stop().await;
}

fn post(body: Body) -> Request<Body> {
    let uri = format!("https://localhost{CONFIG_MAPS}");
    Request::builder().method("POST").uri(uri).header("content-type", "application/json").body(body).unwrap()
}

/// Bodies that do not come hold no seat, and only so much memory is promised to one user.
#[tokio::test]
async fn bodies_on_their_way_hold_up_nobody() {
    let limits = Limits { seats: 0, upload_bytes: 12 * 1024 * 1024, ..Limits::default() };
    let served = Served::new(limits).await;
    served.let_people_in().await;
    let mut noisy = served.h2_as("noisy", PEOPLE).await;
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        flood.spawn(noisy.send_request(post(never)));
    }
    let mut refused = served.h2_as("noisy", PEOPLE).await;
    eventually("both bodies are waited for", async || {
        let reply = refused.send_request(post(Body::from(config_map("n").to_string()))).await.unwrap();
        reply.status() == StatusCode::TOO_MANY_REQUESTS
    })
    .await;
    let mut quiet = served.h2_as("quiet", PEOPLE).await;
    let reply = quiet.send_request(post(Body::from(config_map("a").to_string()))).await.unwrap();
    assert_eq!(reply.status(), StatusCode::CREATED);
    drop((noisy, refused, quiet, flood));
    served.stop().await;
}

const JSON: (&str, &str) = ("content-type", "application/json");
const YAML: (&str, &str) = ("content-type", "application/yaml");

async fn create(client: &Client, content_type: (&str, &str), body: impl Into<Body>) -> u16 {
    client.send(Method::POST, CONFIG_MAPS, &[content_type], body).await.status.as_u16()
}

#[tokio::test]
async fn a_body_is_as_large_as_the_limit_and_no_larger() {
    let cluster = Cluster::new().await;
    let limit = 3 * 1024 * 1024;
    let whole = vec![b' '; limit + 1];
    let reply = cluster.admin.send(Method::POST, CONFIG_MAPS, &[JSON], whole.clone()).await;
    let message = reply.refused(413, "RequestEntityTooLarge");
    assert_eq!(message, "Request entity too large: limit is 3145728");
    let pieces = whole.chunks(1 << 16).map(|c| Ok::<_, std::io::Error>(Bytes::copy_from_slice(c)));
    let pieces: Vec<_> = pieces.collect();
    let unannounced = Body::from_stream(futures::stream::iter(pieces));
    assert_eq!(create(&cluster.admin, JSON, unannounced).await, 413);
    assert_eq!(create(&cluster.admin, JSON, whole[..limit].to_vec()).await, 400, "empty, but not too large");
}

/// What would take all the stack, or all the memory, is refused by all decoders.
#[tokio::test]
async fn deep_and_swelling_bodies_are_refused() {
    let cluster = Cluster::new().await;
    let deep = |open: &str, close: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","x":{}{}}}"#,
            open.repeat(200_000),
            close.repeat(200_000)
        )
    };
    let mut swelling = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..30 {
        let before = format!("*a{}", n - 1);
        swelling += &format!("a{n}: &a{n} [{}]\n", [before.as_str(); 10].join(","));
    }
    for body in [deep("[", "]"), deep(r#"{"a":"#, "}"), deep("[", "")] {
        assert_eq!(create(&cluster.admin, JSON, body.clone()).await, 400);
        assert_eq!(create(&cluster.admin, YAML, body.clone()).await, 400);
        for patch in ["json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"]
        {
            let content_type = format!("application/{patch}");
            let path = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt?fieldManager=x";
            let reply = cluster
                .admin
                .send(Method::PATCH, path, &[("content-type", &content_type)], body.clone())
                .await;
            assert!(matches!(reply.status.as_u16(), 400 | 404 | 422), "{patch}: {}", reply.status);
        }
    }
    assert_eq!(create(&cluster.admin, YAML, swelling).await, 400);
    assert_eq!(cluster.admin.get("/healthz").await.status, StatusCode::OK);
}

/// As upstream: the server does not unpack bodies, and what it cannot read is a bad request.
#[tokio::test]
async fn a_packed_body_is_a_bad_request() {
    let cluster = Cluster::new().await;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(config_map("packed").to_string().as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    let reply =
        cluster.admin.send(Method::POST, CONFIG_MAPS, &[JSON, ("content-encoding", "gzip")], packed).await;
    reply.refused(400, "BadRequest");
    cluster.admin.get(&format!("{CONFIG_MAPS}/packed")).await.refused(404, "NotFound");
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).unwrap();
    plain
}

#[tokio::test]
async fn large_answers_are_packed_for_who_takes_them_so() {
    let cluster = Cluster::new().await;
    for n in 0..30 {
        let mut object = config_map(&format!("c{n:02}"));
        object["data"]["a"] = format!("{n}-").repeat(4000).into();
        cluster.admin.post(CONFIG_MAPS, &object).await.expect(201);
    }
    let gzip = [("accept-encoding", "gzip")];
    for path in [CONFIG_MAPS, "/api/v1/configmaps?limit=29", "/openapi/v3/api/v1"] {
        let plain = cluster.admin.get(path).await;
        assert!(!plain.headers.contains_key("content-encoding"));
        let packed = cluster.admin.send(Method::GET, path, &gzip, Body::empty()).await;
        assert_eq!(packed.headers["content-encoding"], "gzip", "{path}");
        assert!(packed.headers.get_all("vary").iter().any(|v| v == "Accept-Encoding"));
        assert!(packed.bytes.len() * 3 < plain.bytes.len(), "{path}");
        assert!(unpack(&packed.bytes) == plain.bytes, "{path}");
    }
    for path in ["/api/v1/namespaces", "/api/v1/namespaces/default/configmaps/c00", "/version", "/api"] {
        let reply = cluster.admin.send(Method::GET, path, &gzip, Body::empty()).await;
        assert!(!reply.headers.contains_key("content-encoding"), "{path}");
        reply.expect(200);
    }
    let request =
        Request::builder().uri(format!("{CONFIG_MAPS}?watch=true")).header("accept-encoding", "gzip");
    let watch = tower::ServiceExt::oneshot(cluster.admin.0.clone(), request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert!(!watch.headers().contains_key("content-encoding"), "events are sent as they come");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let served = Served::new(Limits::default()).await;
    let mut stream = served.connect(Some(&served.admin()), "http/1.1").await;
    let head = format!("GET /api HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(400 * 1024));
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    let mut sender = served.h2_as("admin", &["system:masters"]).await;
    let request = Request::builder().uri("https://localhost/api").header("x", "x".repeat(400 * 1024));
    let reply = sender.send_request(request.body(Body::empty()).unwrap()).await;
    assert!(reply.map_or(true, |reply| reply.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    let mut sender = served.h2_as("admin", &["system:masters"]).await;
    assert_eq!(sender.send_request(get("/api")).await.unwrap().status(), StatusCode::OK);
    drop(sender);
    served.stop().await;
}
