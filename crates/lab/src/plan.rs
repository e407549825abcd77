//! The lab on paper: which nodes, with which names and addresses, on which network. Pure.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The domain of the nodes' full names.
pub const DOMAIN: &str = "example.com";
/// Where the control plane stands in the subnet.
const CONTROL_PLANE_HOST: u32 = 11;
/// Where the first worker stands in the subnet.
const FIRST_WORKER_HOST: u32 = 21;

/// What a node of the lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Runs `svcd server`.
    ControlPlane,
    /// Runs `svcd agent`.
    Worker,
}

/// One node of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `control-plane`, `node1`, …
    pub name: String,
    /// Its address on the lab's network.
    pub address: Ipv4Addr,
    /// What it runs.
    pub role: Role,
}

/// The lab as it shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The nodes' network.
    pub subnet: Ipv4Net,
    /// The control plane first, then the workers.
    pub nodes: Vec<Node>,
    /// How Services are forwarded, for `--proxy-mode`.
    pub proxy_mode: String,
}

impl Plan {
    /// A control plane and `workers` workers.
    ///
    /// # Errors
    /// A sentence when the subnet is too small for that many.
    pub fn new(subnet: Ipv4Net, workers: u8, proxy_mode: String) -> Result<Self, String> {
        let subnet = subnet.trunc();
        let last = FIRST_WORKER_HOST + u32::from(workers);
        if 1_u64 << (32 - subnet.prefix_len()) <= u64::from(last) {
            return Err(format!(
                "{subnet} is too small: the lab uses its hosts 1 to {last}; a /24 is enough"
            ));
        }
        let host = |n: u32| Ipv4Addr::from(u32::from(subnet.network()) + n);
        let control_plane = Node {
            name: "control-plane".to_owned(),
            address: host(CONTROL_PLANE_HOST),
            role: Role::ControlPlane,
        };
        let workers = (0..u32::from(workers)).map(|n| Node {
            name: format!("node{}", n + 1),
            address: host(FIRST_WORKER_HOST + n),
            role: Role::Worker,
        });
        Ok(Self { subnet, nodes: std::iter::once(control_plane).chain(workers).collect(), proxy_mode })
    }

    /// The machine's own address on the lab's network.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + 1)
    }

    /// The control plane.
    pub fn control_plane(&self) -> &Node {
        &self.nodes[0]
    }

    /// The workers.
    pub fn workers(&self) -> &[Node] {
        &self.nodes[1..]
    }

    /// The API's URL.
    pub fn server_url(&self) -> String {
        format!("https://{}:6443", self.control_plane().address)
    }

    /// `/etc/hosts` as the nodes see it.
    pub fn hosts_file(&self) -> String {
        let own = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
        self.nodes
            .iter()
            .fold(own, |text, n| text + &format!("{} {}.{DOMAIN} {}\n", n.address, n.name, n.name))
    }
}

/// Where a lab keeps its files, all below one directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The files below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is running.
    pub fn state(&self) -> PathBuf {
        self.root.join("lab.json")
    }

    /// The nodes' `/etc/hosts`.
    pub fn hosts(&self) -> PathBuf {
        self.root.join("hosts")
    }

    /// The nodes' `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> PathBuf {
        self.root.join("resolv.conf")
    }

    /// A node's network namespace.
    pub fn netns(&self, node: &str) -> PathBuf {
        self.root.join("netns").join(node)
    }

    /// A node's `--data-dir`.
    pub fn data(&self, node: &str) -> PathBuf {
        self.root.join(node)
    }

    /// A node's log.
    pub fn log(&self, node: &str) -> PathBuf {
        self.root.join(format!("{node}.log"))
    }

    /// The socket on which a node says that it is ready.
    pub fn notify(&self, node: &str) -> PathBuf {
        self.root.join(format!("{node}.notify"))
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data("control-plane").join("admin.kubeconfig")
    }

    /// The join token that the server wrote.
    pub fn join_token(&self) -> PathBuf {
        self.data("control-plane").join("join-token")
    }
}

/// A /24 that overlaps none of `used`, near the usual one.
pub fn free_subnet(used: &[Ipv4Net]) -> Option<Ipv4Net> {
    let candidates =
        (56..=255).chain(0..56).map(|third| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, third, 0), 24));
    candidates.into_iter().find(|c| !used.iter().any(|u| overlaps(u, c)))
}

/// Whether two ranges share an address.
pub fn overlaps(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn nodes_have_the_addresses_that_users_know() {
        let plan = Plan::new(net("192.168.56.0/24"), 3, "iptables".into()).unwrap();
        let addresses: Vec<_> = plan.nodes.iter().map(|n| format!("{} {}", n.name, n.address)).collect();
        assert_eq!(
            addresses,
            [
                "control-plane 192.168.56.11",
                "node1 192.168.56.21",
                "node2 192.168.56.22",
                "node3 192.168.56.23"
            ]
        );
        assert_eq!(plan.gateway(), Ipv4Addr::new(192, 168, 56, 1));
        assert!(plan.hosts_file().contains("192.168.56.21 node1.example.com node1\n"));
    }

    #[test]
    fn a_small_subnet_is_refused() {
        let error = Plan::new(net("10.0.0.0/28"), 3, "iptables".into()).unwrap_err();
        assert!(error.contains("10.0.0.0/28 is too small"), "{error}");
    }

    #[test]
    fn the_proposed_subnet_is_free() {
        assert_eq!(free_subnet(&[]), Some(net("192.168.56.0/24")));
        let used = [net("192.168.56.0/24"), net("192.168.57.128/25"), net("10.0.0.0/8")];
        assert_eq!(free_subnet(&used), Some(net("192.168.58.0/24")));
        assert_eq!(free_subnet(&[net("192.168.0.0/16")]), None);
    }
}
