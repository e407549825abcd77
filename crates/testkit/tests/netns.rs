//! The namespaces themselves: links carry traffic, closures run inside, and nothing stays.
#![allow(missing_docs, reason = "a test")]

use std::net::IpAddr;
use std::time::Duration;

use svcd_testkit::{
    Answer, End, Netns, Whoami, ask_tcp, ask_udp, bridge, eventually, plug, privileged, veth,
};

const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn a_pair_carries_tcp_and_udp() {
    privileged(|| {
        let (one, other) = (Netns::new("one"), Netns::new("other"));
        veth(
            End { netns: &one, name: "eth0", addresses: &["10.9.0.1/24", "fd09::1/64"] },
            End { netns: &other, name: "eth0", addresses: &["10.9.0.2/24", "fd09::2/64"] },
        );
        let _server = Whoami::start(&other, 80, "other");
        let seen = |text: &str| Answer::From("other".into(), text.parse::<IpAddr>().unwrap());
        eventually(PATIENCE, || match ask_tcp(&one, "10.9.0.2:80".parse().unwrap(), PATIENCE) {
            answer if answer == seen("10.9.0.1") => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
        assert_eq!(ask_udp(&one, "10.9.0.2:80".parse().unwrap(), PATIENCE), seen("10.9.0.1"));
        assert_eq!(ask_tcp(&one, "[fd09::2]:80".parse().unwrap(), PATIENCE), seen("fd09::1"));
        assert_eq!(ask_tcp(&one, "10.9.0.2:81".parse().unwrap(), PATIENCE), Answer::Refused);
        assert_eq!(ask_udp(&one, "10.9.0.2:81".parse().unwrap(), PATIENCE), Answer::Refused);
    });
}

#[test]
fn a_bridge_joins_many() {
    privileged(|| {
        let (hub, one, other) = (Netns::new("hub"), Netns::new("one"), Netns::new("other"));
        bridge(End { netns: &hub, name: "br0", addresses: &["10.9.1.1/24"] });
        plug(&hub, "br0", "port1", End { netns: &one, name: "eth0", addresses: &["10.9.1.2/24"] });
        plug(&hub, "br0", "port2", End { netns: &other, name: "eth0", addresses: &["10.9.1.3/24"] });
        let _server = Whoami::start(&other, 80, "other");
        let want = Answer::From("other".into(), "10.9.1.2".parse().unwrap());
        eventually(PATIENCE, || match ask_tcp(&one, "10.9.1.3:80".parse().unwrap(), PATIENCE) {
            answer if answer == want => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
    });
}

#[test]
fn closures_and_futures_run_inside_and_the_namespace_goes_with_its_owner() {
    privileged(|| {
        let netns = Netns::new("inside");
        let inside = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let outside = inside();
        let within = netns.enter(inside);
        assert_ne!(outside, within);
        assert_eq!(netns.block_on(|| async { tokio::task::spawn_blocking(inside).await.unwrap() }), within);
        netns.sysctl("net.ipv4.ip_forward", "1");
        assert_eq!(netns.run(&["cat", "/proc/sys/net/ipv4/ip_forward"]).trim(), "1");
        let path = netns.path();
        assert!(netns.nsenter().contains(path.to_str().unwrap()));
        drop(netns);
        assert_ne!(std::fs::read_link(path).ok(), Some(within));
    });
}
