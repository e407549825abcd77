//! The battery: packet questions to a real kernel, the same for every mode. Another mode is one more line in `modes!`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{CLIENT, Cluster, NODE, OUTSIDE, PATIENCE, REMOTE, Running, SERVER, at, service, tcp, udp};
use svcd_proxy::{Backend, Config, Iptables};
use svcd_svcmap::TrafficPolicy;
use svcd_testkit::{eventually, privileged};

const VIP: &str = "10.96.0.7";

type Make = fn(&Config) -> Box<dyn Backend>;

fn iptables(config: &Config) -> Box<dyn Backend> {
    Box::new(Iptables::new(config).unwrap())
}

macro_rules! battery {
    ($make:ident: $($question:ident)*) => {
        mod $make {
            $(#[test]
            fn $question() {
                svcd_testkit::privileged(|| super::$question(super::$make));
            })*
        }
    };
}

battery! { iptables:
    cluster_ip_from_everywhere
    node_port_on_every_address
    hairpin
    no_endpoints_is_refused_at_once
    an_endpoint_leaves_and_another_comes
    external_policy_local
    internal_policy_local
    external_and_balancer_addresses
    session_affinity
    udp_flows_follow_the_endpoints
    a_restart_writes_nothing_and_breaks_nothing
    stale_rules_of_an_earlier_run_go
    changes_equal_a_fresh_start
    flushed_rules_come_back
    cleanup_removes_ours_and_only_ours
    cleanup_leaves_no_jump_behind
    local_addresses_are_left_out
    one_bad_service_does_not_stop_the_rest
    a_bad_service_does_not_stop_a_start
    ipv6_services
}

fn start(make: Make) -> (Arc<Cluster>, Running) {
    let cluster = Arc::new(Cluster::new());
    let proxy = Running::start(&cluster, Cluster::config(), make);
    (cluster, proxy)
}

fn cluster_ip_from_everywhere(make: Make) {
    let (cluster, proxy) = start(make);
    proxy.reset(&[service("web", VIP).to(&[SERVER])]);
    assert_eq!(tcp(&cluster.client, VIP, 80), format!("server sees {CLIENT}"));
    assert_eq!(tcp(&cluster.node, VIP, 80), "server sees 10.244.1.5");
    assert_eq!(tcp(&cluster.outside, VIP, 80), "server sees 10.244.1.5");
    proxy.change(&service("web", VIP).to(&[REMOTE]));
    assert_eq!(tcp(&cluster.client, VIP, 80), format!("remote sees {CLIENT}"));
    assert_eq!(tcp(&cluster.node, VIP, 80), format!("remote sees {NODE}"));
    assert_eq!(tcp(&cluster.outside, VIP, 80), format!("remote sees {NODE}"));
    proxy.change(&service("web", VIP).to(&[SERVER, REMOTE]));
    let seen: BTreeSet<String> = (0..40).map(|_| tcp(&cluster.client, VIP, 80)).collect();
    assert_eq!(seen, BTreeSet::from([format!("server sees {CLIENT}"), format!("remote sees {CLIENT}")]));
    // Another port of the address, and another protocol, are nobody's.
    assert!(!tcp(&cluster.client, VIP, 81).contains("sees"));
    assert!(!udp(&cluster.client, VIP, 80).contains("sees"));
}

fn node_port_on_every_address(make: Make) {
    let (cluster, proxy) = start(make);
    proxy.reset(&[service("web", VIP).node_port(30080).to(&[REMOTE])]);
    // A pod of another node has to answer through this node.
    assert_eq!(tcp(&cluster.outside, NODE, 30080), format!("remote sees {NODE}"));
    assert_eq!(tcp(&cluster.client, NODE, 30080), format!("remote sees {NODE}"));
    assert_eq!(tcp(&cluster.client, "10.244.1.1", 30080), format!("remote sees {NODE}"));
    assert_eq!(tcp(&cluster.node, NODE, 30080), format!("remote sees {NODE}"));
    assert_eq!(tcp(&cluster.node, "127.0.0.1", 30080), format!("remote sees {NODE}"));
    assert_eq!(tcp(&cluster.outside, NODE, 30081), "refused");
}

fn hairpin(make: Make) {
    let (cluster, proxy) = start(make);
    proxy.reset(&[service("web", VIP).to(&[CLIENT])]);
    assert_eq!(tcp(&cluster.client, VIP, 80), "client sees 10.244.1.1");
}

fn no_endpoints_is_refused_at_once(make: Make) {
    let (cluster, proxy) = start(make);
    proxy.reset(&[service("web", VIP)
        .node_port(30080)
        .with(|s| s.external_ips = vec!["203.0.113.1".parse().unwrap()])
        .to(&[])]);
    for from in [&cluster.client, &cluster.node, &cluster.outside].into_iter().cycle().take(30) {
        assert_eq!(tcp(from, VIP, 80), "refused", "{}", from.label());
        assert_eq!(tcp(from, NODE, 30080), "refused", "{}", from.label());
        assert_eq!(tcp(from, "203.0.113.1", 80), "refused", "{}", from.label());
    }
}

fn an_endpoint_leaves_and_another_comes(make: Make) {
    let (cluster, proxy) = start(make);
    proxy.reset(&[service("web", VIP).to(&[SERVER, REMOTE])]);
    for (addresses, want) in
        [(vec![SERVER], "server"), (vec![REMOTE], "remote"), (vec![], ""), (vec![SERVER], "server")]
    {
        proxy.change(&service("web", VIP).to(&addresses));
        let want = if want.is_empty() { "refused".to_owned() } else { format!("{want} sees {CLIENT}") };
        assert!((0..8).all(|_| tcp(&cluster.client, VIP, 80) == want), "{addresses:?}");
    }
    proxy.changes(&[], &["web"]);
    assert!(!cluster.rules().contains("default/web"));
}

fn external_policy_local(make: Make) {
    let (cluster, proxy) = start(make);
    let web = || {
        service("web", VIP).node_port(30080).with(|service| service.external_policy = TrafficPolicy::Local)
    };
    proxy.reset(&[web().to(&[SERVER, REMOTE])]);
    // From outside only local pods, which see the client; pods and the node go to all.
    assert!((0..8).all(|_| tcp(&cluster.outside, NODE, 30080) == format!("server sees {OUTSIDE}")));
    let seen: BTreeSet<String> = (0..40).map(|_| tcp(&cluster.client, NODE, 30080)).collect();
    assert_eq!(seen, BTreeSet::from([format!("server sees {CLIENT}"), format!("remote sees {CLIENT}")]));
    proxy.change(&web().to(&[REMOTE]));
    assert_eq!(tcp(&cluster.outside, NODE, 30080), "silence");
    assert_eq!(tcp(&cluster.client, NODE, 30080), format!("remote sees {CLIENT}"));
    assert_eq!(tcp(&cluster.node, NODE, 30080), format!("remote sees {NODE}"));
    assert_eq!(tcp(&cluster.outside, VIP, 80), format!("remote sees {NODE}"));
}

fn internal_policy_local(make: Make) {
    let (cluster, proxy) = start(make);
    let web = || {
        service("web", VIP).node_port(30080).with(|service| service.internal_policy = TrafficPolicy::Local)
    };
    proxy.reset(&[web().to(&[SERVER, REMOTE])]);
    assert!((0..8).all(|_| tcp(&cluster.client, VIP, 80) == format!("server sees {CLIENT}")));
    proxy.change(&web().to(&[REMOTE]));
    assert_eq!(tcp(&cluster.client, VIP, 80), "silence");
    assert_eq!(tcp(&cluster.client, NODE, 30080), format!("remote sees {NODE}"));
}

fn external_and_balancer_addresses(make: Make) {
    let (cluster, proxy) = start(make);
    let web = |ranges: &[&str]| {
        let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let web = service("web", VIP).node_port(30080).with(|service| {
            service.external_ips = vec!["203.0.113.1".parse().unwrap()];
            service.load_balancer_ips = vec!["203.0.113.2".parse().unwrap()];
            service.source_ranges = ranges;
        });
        web.to(&[SERVER])
    };
    proxy.reset(&[web(&[])]);
    for ip in ["203.0.113.1", "203.0.113.2"] {
        assert_eq!(tcp(&cluster.outside, ip, 80), "server sees 10.244.1.5");
        assert_eq!(tcp(&cluster.client, ip, 80), "server sees 10.244.1.5");
        assert_eq!(tcp(&cluster.node, ip, 80), "server sees 10.244.1.5");
    }
    // Source ranges guard the balancer's address alone.
    proxy.change(&web(&["198.51.100.0/24"]));
    assert_eq!(tcp(&cluster.outside, "203.0.113.2", 80), "silence");
    assert_eq!(tcp(&cluster.client, "203.0.113.2", 80), "silence");
    assert_eq!(tcp(&cluster.outside, "203.0.113.1", 80), "server sees 10.244.1.5");
    assert_eq!(tcp(&cluster.outside, NODE, 30080), "server sees 10.244.1.5");
    proxy.change(&web(&["192.168.56.0/24"]));
    assert_eq!(tcp(&cluster.outside, "203.0.113.2", 80), "server sees 10.244.1.5");
    assert_eq!(tcp(&cluster.node, "203.0.113.2", 80), "server sees 10.244.1.5");
    assert_eq!(tcp(&cluster.client, "203.0.113.2", 80), "silence");
}

fn session_affinity(make: Make) {
    let (cluster, proxy) = start(make);
    let web = || service("web", VIP).with(|service| service.affinity = Some(Duration::from_secs(600)));
    proxy.reset(&[web().to(&[SERVER, REMOTE])]);
    let first = tcp(&cluster.client, VIP, 80);
    assert!(first.contains("sees"), "{first}");
    assert!((0..20).all(|_| tcp(&cluster.client, VIP, 80) == first));
    // Another endpoint joins: whoever has a place keeps it. Its own leaves: it gets another and keeps that.
    proxy.change(&web().to(&[SERVER, REMOTE, CLIENT]));
    assert!((0..20).all(|_| tcp(&cluster.client, VIP, 80) == first));
    let (name, left) = if first.contains("server") { ("remote", REMOTE) } else { ("server", SERVER) };
    proxy.change(&web().to(&[left]));
    assert!((0..8).all(|_| tcp(&cluster.client, VIP, 80) == format!("{name} sees {CLIENT}")));
}

fn udp_flows_follow_the_endpoints(make: Make) {
    let (cluster, proxy) = start(make);
    let dns = || service("dns", VIP).udp();
    proxy.reset(&[dns().to(&[SERVER])]);
    let socket = cluster.client.enter(|| {
        let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
        socket.connect(at(VIP, 80)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        socket
    });
    let ask = || {
        let mut buffer = [0; 64];
        socket.send(b"?").map_err(|error| error.to_string())?;
        let length = socket.recv(&mut buffer).map_err(|error| error.to_string())?;
        Ok::<String, String>(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
    };
    assert_eq!(ask(), Ok(format!("server {CLIENT}")));
    // A restart does not disturb the flow; an endpoint's end does.
    let port = socket.local_addr().unwrap().port();
    let flow = || {
        let flows = cluster.node.run(&["conntrack", "-L", "-p", "udp"]);
        flows.lines().filter(|line| line.contains(&format!("sport={port} "))).count()
    };
    assert_eq!(flow(), 1);
    drop(proxy);
    let proxy = Running::start(&cluster, Cluster::config(), make);
    proxy.reset(&[dns().to(&[SERVER])]);
    assert_eq!(flow(), 1);
    proxy.change(&dns().to(&[REMOTE]));
    let got = eventually(PATIENCE, || match ask() {
        Ok(answer) if answer.starts_with("remote") => Ok(answer),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(got, format!("remote {CLIENT}"));
    // Nobody left: the flow goes too, so that the next datagram is refused.
    proxy.change(&dns().to(&[]));
    assert_eq!(flow(), 0);
    assert_eq!(udp(&cluster.client, VIP, 80), "refused");
}

fn a_restart_writes_nothing_and_breaks_nothing(make: Make) {
    let (cluster, proxy) = start(make);
    let entries = [
        service("web", VIP)
            .node_port(30080)
            .with(|s| s.affinity = Some(Duration::from_secs(60)))
            .to(&[SERVER, REMOTE, CLIENT]),
        service("none", "10.96.0.8").node_port(30081).to(&[]),
        service("dns", "10.96.0.9").udp().to(&[SERVER]),
        service("local", "10.96.0.11")
            .node_port(30082)
            .with(|s| s.external_policy = TrafficPolicy::Local)
            .to(&[REMOTE]),
        service("guarded", "10.96.0.12")
            .with(|service| {
                service.load_balancer_ips = vec!["203.0.113.2".parse().unwrap()];
                service.source_ranges = vec!["192.168.56.0/24".parse().unwrap()];
                service.health_check_node_port = Some(30090);
            })
            .to(&[SERVER]),
    ];
    proxy.reset(&entries);
    let before = cluster.rules();
    drop(proxy);
    // Forwarding goes on without a proxy.
    assert!(tcp(&cluster.client, VIP, 80).contains("sees"));
    let mut stream = cluster.client.enter(|| TcpStream::connect(at(VIP, 80)).unwrap());
    let config = Cluster::config();
    let written = cluster.node.enter(|| {
        let mut backend = make(&config);
        let planner = svcd_proxy::Planner::new(&config);
        let wanted =
            entries.iter().map(|entry| (entry.service.name.clone(), Arc::new(planner.plan(entry)))).collect();
        let report = backend.full(&wanted);
        assert!(report.complete(), "{report:?}");
        report.written
    });
    assert_eq!(written, 0);
    assert_eq!(cluster.rules(), before);
    stream.write_all(b"still there?\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains(CLIENT) || text.contains("10.244.1.1"), "{text}");
}

fn stale_rules_of_an_earlier_run_go(make: Make) {
    let (cluster, proxy) = start(make);
    proxy.reset(&[
        service("old", "10.96.0.8").node_port(30081).to(&[SERVER]),
        service("web", VIP).to(&[SERVER]),
    ]);
    drop(proxy);
    let proxy = Running::start(&cluster, Cluster::config(), make);
    proxy.reset(&[service("web", VIP).to(&[REMOTE])]);
    assert_eq!(tcp(&cluster.client, VIP, 80), format!("remote sees {CLIENT}"));
    assert!(!tcp(&cluster.client, "10.96.0.8", 80).contains("sees"));
    assert!(!cluster.rules().contains("default/old"));
    assert!(!cluster.rules().contains(SERVER));
}

fn changes_equal_a_fresh_start(make: Make) {
    let (cluster, proxy) = start(make);
    let web = |name: &str, ip: &str| service(name, ip).node_port(30000 + u16::from(ip.ends_with('8')));
    proxy.reset(&[web("one", "10.96.0.8").to(&[SERVER])]);
    proxy.change(&web("two", "10.96.0.9").to(&[]));
    proxy.change(&web("two", "10.96.0.9").to(&[SERVER, REMOTE]));
    proxy.change(&web("one", "10.96.0.8").with(|s| s.internal_policy = TrafficPolicy::Local).to(&[REMOTE]));
    proxy.change(&web("three", "10.96.0.10").udp().with(|s| s.ports[0].node_port = None).to(&[REMOTE]));
    proxy.changes(&[web("two", "10.96.0.9").to(&[REMOTE])], &["three"]);
    proxy.change(&web("one", "10.96.0.8").with(|s| s.external_policy = TrafficPolicy::Local).to(&[REMOTE]));
    let changed: BTreeSet<String> = cluster.rules().lines().map(str::to_owned).collect();
    let last =
        |rules: &str| rules.lines().rfind(|line| line.starts_with("-A KUBE-SERVICES")).unwrap().to_owned();
    assert!(last(&cluster.rules()).contains("NOTE: this must be the last rule"));
    drop(proxy);
    cluster.node.enter(svcd_proxy::cleanup).unwrap();
    let proxy = Running::start(&cluster, Cluster::config(), make);
    proxy.reset(&[
        web("one", "10.96.0.8").with(|s| s.external_policy = TrafficPolicy::Local).to(&[REMOTE]),
        web("two", "10.96.0.9").to(&[REMOTE]),
    ]);
    let fresh: BTreeSet<String> = cluster.rules().lines().map(str::to_owned).collect();
    assert_eq!(changed, fresh);
}

fn flushed_rules_come_back(make: Make) {
    let cluster = Arc::new(Cluster::new());
    let mut config = Cluster::config();
    config.check_every = Duration::from_millis(50);
    let proxy = Running::start(&cluster, config, make);
    proxy.reset(&[service("web", VIP).to(&[SERVER])]);
    let works = || {
        eventually(PATIENCE, || match tcp(&cluster.client, VIP, 80) {
            answer if answer == format!("server sees {CLIENT}") => Ok(()),
            other => Err(other),
        });
    };
    works();
    for flush in [&["iptables", "-t", "nat", "-F"], &["iptables", "-t", "nat", "-F"]] {
        cluster.node.run(flush);
        works();
    }
    cluster.node.run(&["iptables", "-F"]);
    proxy.change(&service("web", VIP).to(&[]));
    eventually(PATIENCE, || match tcp(&cluster.client, VIP, 80) {
        answer if answer == "refused" => Ok(()),
        other => Err(other),
    });
}

fn cleanup_removes_ours_and_only_ours(make: Make) {
    let (cluster, proxy) = start(make);
    for words in [
        "iptables -t nat -N MINE",
        "iptables -t nat -A MINE -p tcp --dport 99 -j RETURN",
        "iptables -t nat -A PREROUTING -j MINE",
        "iptables -A INPUT -p tcp --dport 98 -j DROP",
        "iptables -t mangle -A FORWARD -p tcp --dport 97 -j ACCEPT",
    ] {
        cluster.node.run(&words.split(' ').collect::<Vec<_>>());
    }
    let before = cluster.rules();
    proxy.reset(&[service("web", VIP).node_port(30080).to(&[SERVER]), service("none", "10.96.0.8").to(&[])]);
    assert!(cluster.rules().contains("-A PREROUTING -j MINE"));
    assert_ne!(cluster.rules(), before);
    drop(proxy);
    cluster.node.enter(svcd_proxy::cleanup).unwrap();
    let sorted = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(sorted(cluster.rules()), sorted(before));
    // Nothing there is no error.
    cluster.node.enter(svcd_proxy::cleanup).unwrap();
}

fn cleanup_leaves_no_jump_behind(make: Make) {
    let (cluster, proxy) = start(make);
    proxy.reset(&[service("web", VIP).to(&[SERVER])]);
    drop(proxy);
    // A jump from somebody else's chain would keep ours from being deleted; it could not do without ours anyway.
    cluster.node.run(&["iptables", "-t", "nat", "-N", "MINE"]);
    cluster.node.run(&["iptables", "-t", "nat", "-A", "MINE", "-j", "KUBE-MARK-MASQ"]);
    cluster.node.enter(svcd_proxy::cleanup).unwrap();
    let left = cluster.rules();
    assert!(!left.contains("KUBE-"), "{left}");
    assert!(left.contains(":MINE"), "{left}");
}

fn local_addresses_are_left_out(make: Make) {
    let cluster = Arc::new(Cluster::new());
    let mut config = Cluster::config();
    config.local_vips = vec!["10.96.0.10".parse().unwrap()];
    let proxy = Running::start(&cluster, config, make);
    proxy.reset(&[
        service("dns", "10.96.0.10").node_port(30053).to(&[SERVER]),
        service("web", VIP).to(&[SERVER]),
    ]);
    assert!(!cluster.rules().contains("10.96.0.10"));
    assert_eq!(tcp(&cluster.outside, NODE, 30053), "server sees 10.244.1.5");
}

/// A Service that no kernel takes: its timeout is beyond all numbers.
fn impossible() -> svcd_svcmap::Entry {
    service("bad", "10.96.0.99")
        .with(|service| service.affinity = Some(Duration::from_secs(1 << 40)))
        .to(&[SERVER])
}

fn one_bad_service_does_not_stop_the_rest(make: Make) {
    let (cluster, proxy) = start(make);
    let good = |last: u8| service(&format!("good{last}"), &format!("10.96.1.{last}"));
    proxy.reset(&[good(1).to(&[REMOTE])]);
    proxy.changes(&[impossible(), good(1).to(&[SERVER]), good(2).to(&[SERVER]), good(3).to(&[SERVER])], &[]);
    let status = proxy.handle.status();
    assert_eq!(status.failed, 1);
    let error = status.error.unwrap();
    assert!(error.contains("restore") && error.contains("bad"), "{error}");
    for last in 1..=3 {
        assert_eq!(tcp(&cluster.client, &format!("10.96.1.{last}"), 80), format!("server sees {CLIENT}"));
    }
    // Repaired, it is served, and all is well again.
    proxy.change(&service("bad", "10.96.0.99").to(&[SERVER]));
    assert_eq!(tcp(&cluster.client, "10.96.0.99", 80), format!("server sees {CLIENT}"));
    assert_eq!(proxy.handle.status().failed, 0);
    assert_eq!(proxy.handle.status().error, None);
    assert_eq!(proxy.handle.healthy(Duration::ZERO), Ok(()));
}

fn a_bad_service_does_not_stop_a_start(make: Make) {
    let (cluster, proxy) = start(make);
    proxy.reset(&[service("old", "10.96.0.8").to(&[SERVER])]);
    drop(proxy);
    let proxy = Running::start(&cluster, Cluster::config(), make);
    proxy.reset(&[impossible(), service("web", VIP).to(&[SERVER])]);
    assert_eq!(proxy.handle.status().failed, 1);
    assert_eq!(tcp(&cluster.client, VIP, 80), format!("server sees {CLIENT}"));
    assert!(!cluster.rules().contains("default/old"));
    proxy.changes(&[], &["bad"]);
    assert_eq!(proxy.handle.status().failed, 0);
}

fn ipv6_services(make: Make) {
    let cluster = Arc::new(Cluster::new().with_v6());
    let proxy = Running::start(&cluster, Cluster::config(), make);
    let both = |name: &str, last: u8| {
        let v6 = format!("fd96::{last}").parse().unwrap();
        service(name, &format!("10.96.0.{last}")).with(|service| service.cluster_ips.push(v6))
    };
    proxy.reset(&[both("web", 7).to(&[SERVER, "fd00:244:2::2"]), both("none", 8).to(&[SERVER])]);
    assert_eq!(tcp(&cluster.client, "fd96::7", 80), "server sees fd00:244:1::2");
    assert_eq!(tcp(&cluster.client, VIP, 80), format!("server sees {CLIENT}"));
    // Endpoints of the other family do not count.
    assert_eq!(tcp(&cluster.client, "fd96::8", 80), "refused");
    proxy.change(&both("web", 7).to(&["fd00:244:1::2"]));
    assert_eq!(tcp(&cluster.client, "fd96::7", 80), "client sees fd00:244:1::1");
    drop(proxy);
    cluster.node.enter(svcd_proxy::cleanup).unwrap();
    assert!(!cluster.node.run(&["ip6tables-save"]).contains("KUBE-"));
}

#[test]
fn starting_prepares_the_node_and_stopping_leaves_the_rules() {
    privileged(|| {
        let node = svcd_testkit::Netns::new("node");
        let shutdown = tokio_util::sync::CancellationToken::new();
        node.block_on(|| async {
            let metrics = svcd_proxy::Metrics::default();
            let mut registry = prometheus_client::registry::Registry::default();
            metrics.register(&mut registry);
            let handle =
                svcd_proxy::Proxy::start(Cluster::config(), metrics, shutdown.clone()).await.unwrap();
            let entries = vec![Arc::new(service("web", VIP).to(&[SERVER]))];
            handle.synced(handle.apply(svcd_svcmap::Update::Reset(entries))).await.unwrap();
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            for line in [
                "kubeproxy_sync_full_proxy_rules_duration_seconds_count 1",
                "kubeproxy_services 1",
                "kubeproxy_sync_proxy_rules_iptables_restore_failures_total 0",
                "kubeproxy_sync_proxy_rules_iptables_total{table=\"nat\",ip_family=\"IPv4\"} 10",
            ] {
                assert!(text.contains(line), "{line}\n{text}");
            }
            shutdown.cancel();
            let next = handle.apply(svcd_svcmap::Update::Reset(Vec::new()));
            assert!(handle.synced(next).await.is_err(), "it has stopped");
        });
        assert_eq!(node.run(&["cat", "/proc/sys/net/ipv4/ip_forward"]).trim(), "1");
        assert_eq!(node.run(&["cat", "/proc/sys/net/ipv4/conf/all/route_localnet"]).trim(), "1");
        assert!(node.run(&["iptables-save"]).contains("default/web:http cluster IP"));
    });
}

/// All of it once more with the other kind of iptables (on the kernel's old tables), where it is installed.
#[test]
fn the_legacy_kind_too() {
    let legacy =
        ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];
    let find = |name: &str| {
        let name = name.replace("tables", "tables-legacy");
        ["/usr/sbin", "/sbin", "/usr/bin"]
            .iter()
            .map(|dir| format!("{dir}/{name}"))
            .find(|path| std::fs::exists(path).unwrap())
    };
    let folder = tempfile::tempdir().unwrap();
    for name in legacy {
        let Some(path) = find(name) else {
            eprintln!("skipped: {name} of the legacy kind is not installed here");
            return;
        };
        symlink(path, folder.path().join(name)).unwrap();
    }
    privileged(|| {
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["iptables::", "--test-threads=4"])
            .env("PATH", path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("20 passed"), "{text}");
    });
}
