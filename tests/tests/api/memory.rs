//! Clients that do not read cost a bounded amount of memory, and nobody else any time.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::client::{Target, request};
use crate::server::Server;

const COLLECTION: &str = "/api/v1/namespaces/kube-public/configmaps";
const STREAMS: usize = 800;
const SOCKETS: usize = 200;
const EVENTS: usize = 10_000;
const WRITERS: usize = 32;
const SIZE: usize = 10 * 1024;
/// What the past that the store keeps may take (48 MiB of values), and the newest state beside it.
const KEPT: f64 = 48.0 + 2.0;
/// What a watcher that does not read may take at most: what is under way to it in the connection, and little else.
const EACH: f64 = 0.125;

/// Overwrites a few objects again and again.
async fn write(target: Target, writer: usize) {
    let mut connection = target.connect().await.unwrap();
    let path = format!("{COLLECTION}/m{writer}");
    for n in 0..=EVENTS / WRITERS {
        let value = format!("{n:08}").repeat(SIZE / 8);
        let body = json!({ "metadata": { "name": format!("m{writer}") }, "data": { "v": value } });
        let method = if n == 0 { Method::POST } else { Method::PUT };
        let path = if n == 0 { COLLECTION } else { path.as_str() };
        let reply = connection.send(method, path, Some(("application/json", &body))).await.unwrap();
        assert!(matches!(reply.code, 200 | 201), "{}", reply.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_that_do_not_read_take_little_and_hold_up_nobody() {
    let server = Server::start(&[]).await;
    let target = server.admin();
    let path = format!("{COLLECTION}?watch=true");
    let (mut streams, mut sockets, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STREAMS / 100 {
        let mut connection = target.connect_many().await.unwrap();
        for _ in 0..100 {
            let request = request(Method::GET, &format!("https://localhost{path}"), None);
            answers.push(connection.send_request(request).await.unwrap());
        }
        streams.push(connection);
    }
    for _ in 0..SOCKETS {
        let mut socket = target.connect_raw().await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    let before = server.memory();
    let began = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(target.clone(), writer));
    }
    let mut most = before;
    while !writers.is_empty() {
        tokio::select! {
            Some(written) = writers.join_next() => written.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(100)) => most = most.max(server.memory()),
        }
    }
    let took = began.elapsed();
    let watchers = (STREAMS + SOCKETS) as f64;
    println!("{before:.0} MiB before, {most:.0} MiB at most; {EVENTS} writes in {took:.1?}");
    let allowed = before + 2.0 * KEPT + watchers * EACH;
    assert!(most < allowed, "{most:.0} MiB, and {allowed:.0} MiB are allowed");
    let asked = Instant::now();
    let reply = target.connect().await.unwrap().get("/api/v1/namespaces/default").await.unwrap();
    assert!(reply.code == 200 && asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    drop((streams, sockets, answers));
    lists_that_are_not_read(&server, &target).await;
}

/// The same for lists: each is some megabytes long, and its client takes a byte now and then.
async fn lists_that_are_not_read(server: &Server, target: &Target) {
    use tokio::io::AsyncReadExt as _;
    const LISTS: usize = 100;
    let mut connection = target.connect().await.unwrap();
    for n in 0..500 {
        let body = json!({ "metadata": { "name": format!("big{n}") }, "data": { "v": "x".repeat(SIZE) } });
        assert_eq!(connection.post(COLLECTION, &body).await.unwrap().code, 201);
    }
    let before = server.memory();
    let mut sockets = Vec::new();
    for _ in 0..LISTS {
        let mut socket = target.connect_raw().await.unwrap();
        let head = format!("GET {COLLECTION} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    let mut most = before;
    for _ in 0..3 {
        for socket in &mut sockets {
            let mut byte = [0; 1];
            assert_eq!(socket.read(&mut byte).await.unwrap(), 1);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        most = most.max(server.memory());
    }
    println!("{before:.0} MiB before, {most:.0} MiB with {LISTS} lists of 5 MiB that are hardly read");
    assert!(most < before + 40.0, "{most:.0} MiB after {before:.0} MiB");
}
