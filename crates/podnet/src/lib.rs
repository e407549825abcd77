//! The pod network of one node: a bridge, a veth pair a pod, addresses from the node's range, routes to the other
//! nodes' ranges, masquerade for what leaves the cluster.
//!
//! Promises: everything is level-triggered and idempotent. Starting over an existing set-up changes nothing in the
//! kernel; a pod keeps its address over restarts of the agent; [`cleanup`] removes all of ours and nothing else.
//! Pods are routed, not switched: each has its address as a /32 and reaches everything, also pods beside it, through
//! the bridge's address, so Services work whether or not `br_netfilter` is loaded, and no sysctl that other
//! bridges of the machine feel is touched.
//!
//! Refuses: knowing Services, the API, or any pod beyond an opaque id. IPv4 only.

mod address;
mod cleanup;
mod error;
mod firewall;
mod leftovers;
mod link;
mod local;
mod machine;
mod netlink;
pub mod netns;
mod network;
mod probe;
mod route;
mod sysctl;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

pub use cleanup::cleanup;
pub use error::{Error, RouteFailure};
pub use leftovers::leftovers;
pub use machine::{Changes, link_of};
pub use network::PodNet;
pub use probe::{routes, try_bridge, try_pair};
pub use route::PROTOCOL as ROUTE_PROTOCOL;

/// What [`PodNet::start`] and [`cleanup`] need to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The bridge's name, `svcd0` on a real node; at most 15 characters.
    pub bridge: String,
    /// This node's pod range; its first address is the bridge's.
    pub node_range: Ipv4Net,
    /// The range of all pods of the cluster: traffic within it is never masqueraded.
    pub cluster_range: Ipv4Net,
    /// This node's own address; pods get the MTU of the interface that has it.
    pub node_address: Option<Ipv4Addr>,
    /// The pods' MTU, when the uplink's is not what is wanted.
    pub mtu: Option<u32>,
    /// Where addresses and namespaces are remembered. Must survive the agent; need not survive a reboot.
    pub state_dir: PathBuf,
}

/// What a pod got from [`PodNet::attach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// The pod's address, on its `eth0`.
    pub address: Ipv4Addr,
    /// The bridge's address: the pod's default gateway.
    pub gateway: Ipv4Addr,
}

/// Another node's pod range, and the address of that node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRoute {
    /// The range of the node's pods.
    pub range: Ipv4Net,
    /// The node's own address, which must be on a network that this node is on too.
    pub via: Ipv4Addr,
}
