//! A node with two pods, a pod on another node, and a machine outside; and a proxy on the node.
//!
//! ```text
//! client 10.244.1.2 ── node 192.168.56.11 ──┬── outside 192.168.56.100
//! server 10.244.1.6 ──┘                     └── remote  192.168.56.12 (pod 10.244.2.2)
//! ```
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use svcd_proxy::{Backend, Config, Handle, Metrics, Proxy};
use svcd_svcmap::{Endpoint, Entry, Protocol, Service, ServiceKind, ServiceName, ServicePort, Update};
use svcd_testkit::{Answer, End, Netns, Whoami, ask_tcp, ask_udp, bridge, eventually, plug, veth};
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take before it counts as none; only questions that expect silence wait for it.
const SILENCE: Duration = Duration::from_millis(400);

pub const CLIENT: &str = "10.244.1.2";
pub const SERVER: &str = "10.244.1.6";
pub const REMOTE: &str = "10.244.2.2";
pub const NODE: &str = "192.168.56.11";
pub const OUTSIDE: &str = "192.168.56.100";

pub struct Cluster {
    pub node: Netns,
    pub client: Netns,
    pub outside: Netns,
    /// Those that only answer (server, remote), and the bridge between them.
    others: [Netns; 3],
    _servers: Vec<Whoami>,
}

impl Cluster {
    pub fn new() -> Self {
        let names = ["node", "client", "server", "remote", "outside", "switch"];
        let [node, client, server, remote, outside, switch] = names.map(Netns::new);
        pod(&node, &client, "pod1", "10.244.1.1", CLIENT);
        pod(&node, &server, "pod2", "10.244.1.5", SERVER);
        bridge(End { netns: &switch, name: "br0", addresses: &[] });
        for (port, netns, address) in [
            ("p1", &node, "192.168.56.11/24"),
            ("p2", &remote, "192.168.56.12/24"),
            ("p3", &outside, "192.168.56.100/24"),
        ] {
            plug(&switch, "br0", port, End { netns, name: "lan", addresses: &[address] });
        }
        node.ip("route add default via 192.168.56.100");
        node.ip("route add 10.244.2.0/24 via 192.168.56.12");
        remote.ip("addr add 10.244.2.2/32 dev lo");
        // A server on all addresses answers UDP from the address that this names.
        remote.ip("route add 10.244.1.0/24 via 192.168.56.11 src 10.244.2.2");
        // A machine outside that knows the way to the Services and no pod.
        outside.ip("route add 10.96.0.0/12 via 192.168.56.11");
        outside.ip("route add 203.0.113.0/24 via 192.168.56.11");
        node.sysctl("net.ipv4.ip_forward", "1");
        node.sysctl("net.ipv4.conf.all.route_localnet", "1");
        let servers = [(&client, "client"), (&server, "server"), (&remote, "remote")]
            .map(|(netns, name)| Whoami::start(netns, 8080, name));
        let cluster = Self {
            node,
            client,
            outside,
            others: [server, remote, switch],
            _servers: servers.into_iter().collect(),
        };
        // The links are up once the network carries what needs no rules.
        eventually(PATIENCE, || match ask_tcp(&cluster.client, at(REMOTE, 8080), SILENCE) {
            Answer::From(..) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        cluster
    }

    /// Gives the pods of this node IPv6 addresses too.
    pub fn with_v6(self) -> Self {
        let server = &self.others[0];
        for (pod, name, net) in [(&self.client, "pod1", 1), (server, "pod2", 2)] {
            self.node.ip(&format!("addr add fd00:244:{net}::1/64 dev {name} nodad"));
            pod.ip(&format!("addr add fd00:244:{net}::2/64 dev eth0 nodad"));
            pod.ip(&format!("route add default via fd00:244:{net}::1"));
        }
        // A packet that no route leads anywhere never meets the rules that would refuse it.
        self.node.ip("-6 route add default dev lan");
        self.node.sysctl("net.ipv6.conf.all.forwarding", "1");
        self
    }

    pub fn config() -> Config {
        let ranges = ["10.244.0.0/16", "fd00:244::/32"].map(|range| range.parse().unwrap());
        let mut config = Config::new("node", ranges.to_vec());
        config.node_addresses = vec![NODE.parse().unwrap()];
        config
    }

    /// `nat` and `filter` as they stand, without comments and counters.
    pub fn rules(&self) -> String {
        let text = self.node.run(&["iptables-save"]);
        let plain = |line: &&str| !line.starts_with('#');
        text.lines().filter(plain).map(|line| line.split(" [").next().unwrap()).collect::<Vec<_>>().join("\n")
    }
}

fn pod(node: &Netns, pod: &Netns, name: &str, gateway: &str, address: &str) {
    let (near, far) = (format!("{gateway}/30"), format!("{address}/30"));
    veth(
        End { netns: node, name, addresses: &[&near] },
        End { netns: pod, name: "eth0", addresses: &[&far] },
    );
    pod.ip(&format!("route add default via {gateway}"));
}

pub fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Who answers, asked a few times; with the client as they see it.
pub fn tcp(from: &Netns, ip: &str, port: u16) -> String {
    describe(ask_tcp(from, at(ip, port), SILENCE))
}

pub fn udp(from: &Netns, ip: &str, port: u16) -> String {
    describe(ask_udp(from, at(ip, port), SILENCE))
}

fn describe(answer: Answer) -> String {
    match answer {
        Answer::From(name, seen) => format!("{name} sees {seen}"),
        Answer::Refused => "refused".to_owned(),
        Answer::Silence => "silence".to_owned(),
    }
}

/// A running proxy on the node.
pub struct Running {
    pub handle: Handle,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start(cluster: &Arc<Cluster>, config: Config, make: fn(&Config) -> Box<dyn Backend>) -> Self {
        let shutdown = CancellationToken::new();
        let (send, receive) = mpsc::channel();
        let (token, cluster) = (shutdown.clone(), Arc::clone(cluster));
        let thread = thread::spawn(move || {
            cluster.node.block_on(|| async move {
                let handle = Proxy::with(make(&config), &config, Metrics::default(), token.clone());
                send.send(handle).unwrap();
                token.cancelled().await;
            });
        });
        Self { handle: receive.recv().unwrap(), shutdown, thread: Some(thread) }
    }

    pub fn reset(&self, entries: &[Entry]) {
        self.synced(self.handle.apply(Update::Reset(entries.iter().cloned().map(Arc::new).collect())));
    }

    pub fn change(&self, entry: &Entry) {
        self.changes(std::slice::from_ref(entry), &[]);
    }

    pub fn changes(&self, entries: &[Entry], gone: &[&str]) {
        let entries = entries.iter().map(|entry| (entry.service.name.clone(), Some(Arc::new(entry.clone()))));
        let gone = gone.iter().map(|name| (ServiceName::new("default", name), None));
        let changed: BTreeMap<_, _> = entries.chain(gone).collect();
        self.synced(self.handle.apply(Update::Changed(changed)));
    }

    fn synced(&self, generation: u64) {
        eventually(PATIENCE, || match self.handle.status() {
            status if status.generation >= generation => Ok(()),
            status => Err(format!("{status:?}")),
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; a second one here would hide the first failure.
            let _ = thread.join();
        }
    }
}

/// A Service `default/name` with one TCP port 80 that endpoints serve at 8080.
pub struct Builder(Entry);

pub fn service(name: &str, ip: &str) -> Builder {
    let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    Builder(Entry {
        service: Service {
            cluster_ips: vec![ip.parse().unwrap()],
            ports: vec![port],
            ..Service::new(ServiceName::new("default", name), ServiceKind::ClusterIp)
        },
        endpoints: BTreeMap::new(),
        portless: Vec::new(),
    })
}

impl Builder {
    /// Pods at `SERVER` and `CLIENT` are on this node.
    pub fn to(mut self, addresses: &[&str]) -> Entry {
        let endpoints: Vec<Endpoint> = addresses.iter().map(|address| endpoint(address)).collect();
        let ports = self.0.service.ports.clone();
        for port in ports {
            self.0.endpoints.insert((port.name, port.protocol), endpoints.clone());
        }
        self.0
    }

    pub fn with(mut self, change: impl FnOnce(&mut Service)) -> Self {
        change(&mut self.0.service);
        self
    }

    pub fn node_port(self, number: u16) -> Self {
        self.with(|service| service.ports[0].node_port = Some(number))
    }

    pub fn udp(self) -> Self {
        self.with(|service| service.ports[0].protocol = Protocol::Udp)
    }
}

fn endpoint(address: &str) -> Endpoint {
    let address: IpAddr = address.parse().unwrap();
    let here = address.is_ipv6() || address.to_string().starts_with("10.244.1.");
    Endpoint {
        node: Some(if here { "node".into() } else { "remote".into() }),
        ..Endpoint::new(address, 8080)
    }
}
