//! The server as clients see it: sockets, sizes, floods, changes under load, and its end.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use prometheus_client::registry::Registry;
use support::{
    PATIENCE, ask, ask_tcp, ask_udp, config, data, entry, forward, question, service_name, start,
    start_with_services, with_edns,
};
use svcd_dns::{Config, Error, Server};
use svcd_svcmap::{ServiceKind, Update};
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;

const WEB: &str = "web.default.svc.cluster.local.";
const CROWD: &str = "crowd.default.svc.cluster.local.";

#[tokio::test]
async fn fails_until_it_knows_everything() {
    let server = start(config(forward(&[])));
    assert!(!server.handle.is_synced());
    assert_eq!(ask(server.address, WEB, RecordType::A).await.metadata.response_code, ResponseCode::ServFail);
    server.handle.apply(&Update::Reset(Vec::new()));
    assert!(server.handle.is_synced());
    assert_eq!(ask(server.address, WEB, RecordType::A).await.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn large_answers_are_cut_and_whole_over_tcp() {
    let server = start_with_services(config(forward(&[])));
    let asked = question(CROWD, RecordType::A);
    let cut = ask_udp(server.address, &asked).await;
    assert!(cut.metadata.truncation && !cut.answers.is_empty());
    assert!(ask_udp(server.address, &with_edns(asked.clone(), 1232)).await.metadata.truncation);
    assert_eq!(ask_udp(server.address, &with_edns(asked.clone(), 4096)).await.answers.len(), 200);
    let whole = ask_tcp(server.address, &asked).await;
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (200, false));
    let ports = ask_tcp(server.address, &question(&format!("_http._tcp.{CROWD}"), RecordType::SRV)).await;
    assert_eq!((ports.answers.len(), ports.additionals.len()), (200, 200));
}

#[tokio::test]
async fn answers_on_every_address_and_family() {
    let mut both = config(forward(&[]));
    both.listen = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    let mut registry = Registry::default();
    let server = Server::bind(both, &mut registry).unwrap();
    let addresses = server.local_addresses().to_vec();
    server.handle().apply(&Update::Reset(vec![entry(
        "web",
        ServiceKind::ClusterIp,
        vec!["10.96.0.20".parse().unwrap()],
        vec![],
    )]));
    let shutdown = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(server.run(shutdown.clone()));
    assert_eq!(data(&ask(addresses[0], WEB, RecordType::A).await), ["10.96.0.20"]);
    let socket = UdpSocket::bind("[::1]:0").await.unwrap();
    socket.send_to(&question(WEB, RecordType::A).to_vec().unwrap(), addresses[1]).await.unwrap();
    let mut buffer = [0; 512];
    let (_, from) = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(from, addresses[1]);
    assert_eq!(data(&ask_tcp(addresses[1], &question(WEB, RecordType::A)).await), ["10.96.0.20"]);
    shutdown.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn ends_when_told_and_frees_its_port() {
    let server = start_with_services(config(forward(&[])));
    let address = server.address;
    // A connection held open does not hold the server up.
    let _idle = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(data(&ask(address, WEB, RecordType::A).await), ["10.96.0.20"]);
    server.shutdown.cancel();
    let mut server = server;
    let task = std::mem::replace(&mut server.task, tokio::spawn(async { Ok(()) }));
    tokio::time::timeout(PATIENCE, task).await.expect("an end").unwrap().unwrap();
    let again = Config { listen: vec![address], ..config(forward(&[])) };
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = Server::bind(again.clone(), &mut Registry::default()) {
        assert!(Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_occupied_port_is_an_error_that_says_so() {
    let first = Server::bind(config(forward(&[])), &mut Registry::default()).unwrap();
    let taken = first.local_addresses()[0];
    let second =
        Server::bind(Config { listen: vec![taken], ..config(forward(&[])) }, &mut Registry::default());
    let Err(error @ Error::Bind { .. }) = second else { panic!("bound twice") };
    let text = error.to_string();
    assert!(text.contains(&taken.to_string()) && text.contains("another DNS server"), "{text}");
    let nowhere = Config { listen: Vec::new(), ..config(forward(&[])) };
    assert!(matches!(Server::bind(nowhere, &mut Registry::default()), Err(Error::NoAddress)));
}

#[tokio::test]
async fn an_address_may_come_later() {
    let later = Config { listen: vec!["192.0.2.53:0".parse().unwrap()], ..config(forward(&[])) };
    Server::bind(later, &mut Registry::default()).unwrap();
}

/// While everything changes, an answer is always one that was true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_under_load_are_never_seen_half() {
    let server = start_with_services(config(forward(&[])));
    let done = Arc::new(AtomicBool::new(false));
    let (handle, stop) = (server.handle.clone(), done.clone());
    let changing = tokio::task::spawn_blocking(move || {
        for n in 0_u32.. {
            if stop.load(Ordering::Relaxed) {
                return n;
            }
            let ip = format!("10.96.1.{}", n % 2).parse().unwrap();
            let web = entry("web", ServiceKind::ClusterIp, vec![ip], vec![]);
            if n % 50 == 0 {
                handle.apply(&Update::Reset(vec![web]));
            } else {
                handle.apply(&Update::Changed([(service_name("web"), Some(web))].into()));
            }
        }
        0
    });
    let asking: Vec<_> = (0..4).map(|_| tokio::spawn(ask_many(server.address, 300))).collect();
    for one in asking {
        one.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    assert!(changing.await.unwrap() > 10);
}

async fn ask_many(server: SocketAddr, count: usize) {
    for _ in 0..count {
        let reply = data(&ask(server, WEB, RecordType::A).await);
        assert!(matches!(reply[0].as_str(), "10.96.0.20" | "10.96.1.0" | "10.96.1.1"), "{reply:?}");
    }
}

#[tokio::test]
async fn a_burst_is_answered_to_the_last() {
    let server = start_with_services(config(forward(&[])));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.address).await.unwrap();
    let mut missing: std::collections::BTreeSet<u16> = (0..100).collect();
    for id in 0..100 {
        let mut message = question(WEB, RecordType::A);
        message.metadata.id = id;
        socket.send(&message.to_vec().unwrap()).await.unwrap();
        // Noise in between must not disturb the batch.
        socket.send(&[id.to_be_bytes()[1]; 5]).await.unwrap();
    }
    let mut buffer = [0; 512];
    while !missing.is_empty() {
        let length =
            tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("a reply").unwrap();
        let reply = hickory_proto::op::Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(data(&reply), ["10.96.0.20"]);
        assert!(missing.remove(&reply.metadata.id));
    }
}

#[tokio::test]
async fn nonsense_over_tcp_harms_only_itself() {
    let server = start_with_services(config(forward(&[])));
    for nonsense in [
        &[0_u8, 3, 1, 2, 3][..],
        &[0, 12, 0, 9, 1, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0],
        &[0xff, 0xff, 1],
        &[0, 0],
    ] {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        assert_eq!(data(&ask_tcp(server.address, &question(WEB, RecordType::A)).await), ["10.96.0.20"]);
    }
}

/// With dig, as people ask; nothing to see where it is not installed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dig_understands() {
    let server = start_with_services(config(forward(&[])));
    let port = server.address.port().to_string();
    let dig = |arguments: &[&str]| {
        let output = Command::new("dig")
            .args(["@127.0.0.1", "-p", &port, "+tries=2", "+time=5"])
            .args(arguments)
            .output();
        output.ok().map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(plain) = dig(&["+short", WEB]) else { return };
    assert_eq!(plain.trim(), "10.96.0.20");
    let rows: [(&[&str], &str); 6] = [
        (&["+short", "-x", "10.96.0.20"], "web.default.svc.cluster.local."),
        (&["+short", "TXT", "dns-version.cluster.local"], "\"1.1.0\""),
        (
            &["+short", "SRV", "_http._tcp.web.default.svc.cluster.local"],
            "0 100 80 web.default.svc.cluster.local.",
        ),
        (&["nothing.default.svc.cluster.local"], "status: NXDOMAIN"),
        (&["AXFR", "cluster.local"], "Transfer failed"),
        (&["+edns=1", "+noednsneg", WEB], "BADVERS"),
    ];
    for (arguments, expected) in rows {
        let text = dig(arguments).unwrap();
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    // Cut over UDP, so that dig comes again over TCP.
    assert_eq!(dig(&["+short", CROWD]).unwrap().lines().count(), 200);
    let begun = Instant::now();
    assert!(dig(&["+noall", "+comments", "www.example.org"]).unwrap().contains("SERVFAIL"));
    assert!(begun.elapsed() < Duration::from_secs(5), "at once without upstreams");
}
