//! The pod network against a real kernel: nodes and pods are anonymous namespaces, so nothing stays behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and says where")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use svcd_podnet::{Config, Error, NodeRoute, PodAddress, PodNet, cleanup, netns};
use svcd_testkit::{Answer, End, Netns, Whoami, ask_tcp, ask_udp, bridge, plug, privileged};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(2);

struct Node {
    netns: Netns,
    state: TempDir,
    range: &'static str,
    address: Option<Ipv4Addr>,
}

impl Node {
    fn new(label: &str, range: &'static str) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory can be made");
        Self { netns: Netns::new(label), state, range, address: None }
    }

    fn config(&self) -> Config {
        Config {
            bridge: "svcd0".to_owned(),
            node_range: self.range.parse().unwrap(),
            cluster_range: "10.244.0.0/16".parse().unwrap(),
            node_address: self.address,
            mtu: None,
            state_dir: self.state.path().to_owned(),
        }
    }

    fn attach(&self, pods: &[&Netns]) -> Vec<PodAddress> {
        self.netns.block_on(|| async {
            let net = PodNet::start(self.config()).await.unwrap();
            let mut addresses = Vec::new();
            for pod in pods {
                addresses.push(net.attach(&pod.path(), pod.label()).await.unwrap());
            }
            addresses
        })
    }

    fn sync(&self, routes: &[(&str, &str)]) -> Result<(), Error> {
        let routes: Vec<_> = routes
            .iter()
            .map(|(range, via)| NodeRoute { range: range.parse().unwrap(), via: via.parse().unwrap() })
            .collect();
        self.netns
            .block_on(|| async { PodNet::start(self.config()).await.unwrap().sync_routes(&routes).await })
    }

    /// All that this crate could change in the node's kernel.
    fn snapshot(&self) -> String {
        let links = self.netns.ip("link show");
        let addresses = self.netns.ip("-4 addr show");
        let routes = self.netns.ip("-4 route show table all");
        format!("{links}\n{addresses}\n{routes}\n{}", self.rules())
    }

    fn rules(&self) -> String {
        let text = self.netns.run(&["iptables-save"]);
        text.lines()
            .filter(|line| line.starts_with("-A") || line.starts_with(":SVCD"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn socket(address: Ipv4Addr, port: u16) -> SocketAddr {
    (address, port).into()
}

fn from(name: &str, client: Ipv4Addr) -> Answer {
    Answer::From(name.to_owned(), IpAddr::V4(client))
}

#[test]
fn pods_of_a_node_talk_and_a_second_start_changes_nothing() {
    privileged(|| {
        let node = Node::new("node", "10.244.1.0/24");
        let (one, two) = (Netns::new("one"), Netns::new("two"));
        let addresses = node.attach(&[&one, &two]);
        assert_eq!(addresses[0].address.to_string(), "10.244.1.2");
        assert_eq!(addresses[1].address.to_string(), "10.244.1.3");
        assert_eq!(addresses[1].gateway.to_string(), "10.244.1.1");

        let _server = Whoami::start(&two, 80, "two");
        let target = socket(addresses[1].address, 80);
        assert_eq!(ask_tcp(&one, target, PATIENCE), from("two", addresses[0].address));
        assert_eq!(ask_udp(&one, target, PATIENCE), from("two", addresses[0].address));
        assert_eq!(ask_tcp(&node.netns, target, PATIENCE), from("two", addresses[0].gateway));

        let (before, pod) = (node.snapshot(), one.ip("-4 addr show"));
        assert_eq!(node.attach(&[&one, &two]), addresses);
        assert_eq!(node.snapshot(), before);
        assert_eq!(one.ip("-4 addr show"), pod);
        assert_eq!(ask_tcp(&one, target, PATIENCE), from("two", addresses[0].address));
    });
}

#[test]
fn what_was_broken_by_hand_is_repaired() {
    privileged(|| {
        let node = Node::new("node", "10.244.1.0/24");
        let pod = Netns::new("pod");
        let address = node.attach(&[&pod])[0];
        let _server = Whoami::start(&pod, 80, "pod");
        let whole = node.rules();
        node.netns.ip("addr add 10.99.0.1/24 dev svcd0");
        node.netns.run(&["iptables", "-t", "nat", "-D", "SVCD-MASQ", "1"]);
        pod.ip("route del default");
        pod.ip("link set eth0 down");
        assert_eq!(node.attach(&[&pod]), [address]);
        assert_eq!(node.rules(), whole);
        assert!(!node.netns.ip("addr show svcd0").contains("10.99.0.1"));
        assert_eq!(ask_tcp(&node.netns, socket(address.address, 80), PATIENCE), from("pod", address.gateway));

        // The pod's side gone takes the host's side with it: a new pair, the same address.
        pod.ip("link del eth0");
        assert_eq!(node.attach(&[&pod]), [address]);
        assert_eq!(ask_tcp(&node.netns, socket(address.address, 80), PATIENCE), from("pod", address.gateway));
    });
}

/// A VIP as kube-proxy makes it, with and without bridged packets passing iptables.
#[test]
fn a_pod_reaches_its_neighbour_and_itself_through_a_vip() {
    privileged(|| {
        let node = Node::new("node", "10.244.1.0/24");
        let (one, two) = (Netns::new("one"), Netns::new("two"));
        let addresses = node.attach(&[&one, &two]);
        let _server = Whoami::start(&one, 80, "one");
        let one_address = addresses[0].address.to_string();
        let rules = [
            format!(
                "-A PREROUTING -d 10.96.0.99 -p tcp --dport 80 -j DNAT --to-destination {one_address}:80"
            ),
            format!("-A POSTROUTING -s {one_address} -d {one_address} -j MASQUERADE"),
        ];
        for rule in &rules {
            let words: Vec<_> = ["iptables", "-t", "nat"].into_iter().chain(rule.split(' ')).collect();
            node.netns.run(&words);
        }
        let vip = SocketAddr::from(([10, 96, 0, 99], 80));
        let bridged = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists();
        for call in if bridged { &["0", "1"][..] } else { &["absent"] } {
            if bridged {
                node.netns.sysctl("net.bridge.bridge-nf-call-iptables", call);
            }
            assert_eq!(
                ask_tcp(&two, vip, PATIENCE),
                from("one", addresses[1].address),
                "bridge-nf-call-iptables {call}"
            );
            assert_eq!(
                ask_tcp(&one, vip, PATIENCE),
                from("one", addresses[0].gateway),
                "hairpin, bridge-nf-call-iptables {call}"
            );
        }
    });
}

#[test]
fn nodes_route_to_each_other_and_masquerade_to_the_outside() {
    privileged(|| {
        let network = Netns::new("network");
        bridge(End { netns: &network, name: "br0", addresses: &[] });
        let mut one = Node::new("node1", "10.244.1.0/24");
        let mut two = Node::new("node2", "10.244.2.0/24");
        let outside = Netns::new("outside");
        let ends = [
            (&one.netns, "p1", "192.168.56.21/24"),
            (&two.netns, "p2", "192.168.56.22/24"),
            (&outside, "p3", "192.168.56.99/24"),
        ];
        for (netns, port, address) in ends {
            plug(&network, "br0", port, End { netns, name: "up0", addresses: &[address] });
        }
        one.netns.ip("link set up0 mtu 1400");
        one.address = Some("192.168.56.21".parse().unwrap());
        two.address = Some("192.168.56.22".parse().unwrap());
        // A machine with Docker on it.
        one.netns.run(&["iptables", "-P", "FORWARD", "DROP"]);

        let (pod1, pod2) = (Netns::new("pod1"), Netns::new("pod2"));
        let address1 = one.attach(&[&pod1])[0].address;
        let address2 = two.attach(&[&pod2])[0].address;
        assert!(pod1.ip("link show eth0").contains("mtu 1400"));
        let all = [("10.244.1.0/24", "192.168.56.21"), ("10.244.2.0/24", "192.168.56.22")];
        one.netns.ip("route add 10.244.77.0/24 via 192.168.56.99");
        one.sync(&all).unwrap();
        two.sync(&all).unwrap();

        let _one = Whoami::start(&pod1, 80, "pod1");
        let _two = Whoami::start(&pod2, 80, "pod2");
        let _outside = Whoami::start(&outside, 80, "outside");
        assert_eq!(ask_tcp(&pod1, socket(address2, 80), PATIENCE), from("pod2", address1));
        assert_eq!(ask_tcp(&pod2, socket(address1, 80), PATIENCE), from("pod1", address2));
        let far = SocketAddr::from(([192, 168, 56, 99], 80));
        assert_eq!(ask_tcp(&pod1, far, PATIENCE), from("outside", "192.168.56.21".parse().unwrap()));

        // A node that cannot be reached is named, and does not keep the others from being routed.
        let error =
            one.sync(&[("10.244.3.0/24", "172.31.0.3"), ("10.244.4.0/24", "192.168.56.22")]).unwrap_err();
        assert!(error.to_string().contains("10.244.3.0/24 via 172.31.0.3"), "{error}");
        let routes = one.netns.ip("route show");
        assert!(routes.contains("10.244.4.0/24 via 192.168.56.22"), "{routes}");
        assert!(!routes.contains("10.244.2.0/24"), "{routes}");
        assert!(routes.contains("10.244.77.0/24 via 192.168.56.99"), "not ours, not touched: {routes}");
    });
}

#[test]
fn cleanup_removes_all_of_ours_and_nothing_else() {
    privileged(|| {
        let node = Node::new("node", "10.244.1.0/24");
        node.netns.run(&["iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "10.1.0.0/16", "-j", "ACCEPT"]);
        node.netns.ip("link add veth0 type veth peer name veth1");
        node.netns.ip("link add br-other type bridge");
        node.netns.ip("addr add 10.96.0.77/32 dev lo");
        let before = node.snapshot();
        let pod = Netns::new("pod");
        node.attach(&[&pod]);
        node.netns.block_on(|| async {
            let net = PodNet::start(node.config()).await.unwrap();
            let route =
                NodeRoute { range: "10.244.2.0/24".parse().unwrap(), via: "10.244.1.9".parse().unwrap() };
            net.sync_routes(&[route]).await.unwrap();
            for address in ["10.96.0.10", "10.96.0.10", "10.96.0.77"] {
                net.add_local_address(address.parse().unwrap()).await.unwrap();
            }
        });
        let during = node.snapshot();
        for part in ["svcd0", "SVCD-MASQ", "proto 92", "10.96.0.10/32"] {
            assert!(during.contains(part), "{part} in {during}");
        }
        for _ in 0..2 {
            node.netns.block_on(|| async { cleanup(&node.config()).await }).unwrap();
            assert_eq!(node.snapshot(), before);
        }
        assert_eq!(node.state.path().read_dir().unwrap().count(), 0);
    });
}

#[test]
fn a_full_range_says_so_and_a_detached_pod_makes_room() {
    privileged(|| {
        let node = Node::new("node", "10.244.1.0/30");
        let (one, two) = (Netns::new("one"), Netns::new("two"));
        node.netns.block_on(|| async {
            let net = PodNet::start(node.config()).await.unwrap();
            let first = net.attach(&one.path(), "one").await.unwrap();
            let error = net.attach(&two.path(), "two").await.unwrap_err();
            assert!(matches!(error, Error::Exhausted { capacity: 1, .. }), "{error}");
            net.detach("one").await.unwrap();
            net.detach("one").await.unwrap();
            assert_eq!(net.attach(&two.path(), "two").await.unwrap(), first);
            assert_eq!(net.attached(), ["two"]);
        });
        assert!(!one.ip("link show").contains("eth0"));
    });
}

#[test]
fn a_local_address_is_answered_until_it_is_removed() {
    privileged(|| {
        let node = Node::new("node", "10.244.1.0/24");
        let pod = Netns::new("pod");
        let address = node.attach(&[&pod])[0].address;
        let _dns = Whoami::start(&node.netns, 53, "dns");
        let vip = SocketAddr::from(([10, 96, 0, 10], 53));
        let local = |add: bool| {
            node.netns.block_on(|| async {
                let net = PodNet::start(node.config()).await.unwrap();
                let ip = "10.96.0.10".parse().unwrap();
                if add { net.add_local_address(ip).await } else { net.remove_local_address(ip).await }
            })
        };
        local(true).unwrap();
        assert_eq!(ask_tcp(&pod, vip, PATIENCE), from("dns", address));
        local(false).unwrap();
        assert!(!node.netns.ip("addr show lo").contains("10.96.0.10"));
    });
}

#[test]
fn namespaces_of_pods_outlive_their_maker() {
    privileged(|| {
        let node = Node::new("node", "10.244.1.0/24");
        node.netns.block_on(|| async {
            // Mounts of this test are its own.
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let net = PodNet::start(node.config()).await.unwrap();
            let path = net.create_netns("pod").await.unwrap();
            let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
            let made = inode(&path);
            assert!(netns::exists(&path));
            assert_eq!(inode(&net.create_netns("pod").await.unwrap()), made, "kept, not made again");
            let address = net.attach(&path, "pod").await.unwrap();
            let seen = netns::enter(&path, || Ok(Command::new("ip").args(["-4", "addr"]).output().unwrap()));
            let seen = String::from_utf8(seen.await.unwrap().stdout).unwrap();
            assert!(seen.contains(&format!("inet {}/32", address.address)), "{seen}");
            net.delete_netns("pod").unwrap();
            net.delete_netns("pod").unwrap();
            assert!(!path.exists());
            // Nothing else holds it: its side of the pair went with it, and so did ours.
            net.create_netns("again").await.unwrap();
            cleanup(&node.config()).await.unwrap();
            assert!(!netns::exists(&net.netns_path("again")));
        });
    });
}
