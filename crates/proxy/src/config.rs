//! What the proxy has to be told: its mode and the facts of its node.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::Error;

/// How Services are forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Rules in the chains that kube-proxy uses.
    #[default]
    Iptables,
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "iptables" => Ok(Self::Iptables),
            "nftables" | "ipvs" => Err(Error::ModeNotBuilt(text.to_owned())),
            _ => Err(Error::UnknownMode(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Iptables => formatter.write_str("iptables"),
        }
    }
}

/// The proxy's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to forward.
    pub mode: Mode,
    /// This node's name, as EndpointSlices call it.
    pub node_name: String,
    /// This node's zone; [`crate::Handle::set_zone`] changes it.
    pub zone: Option<String>,
    /// This node's own addresses: a source range of a load balancer that holds one lets the node itself in.
    pub node_addresses: Vec<IpAddr>,
    /// The ranges of all pods. Traffic from elsewhere to a virtual address is masqueraded, so that answers come back
    /// the same way. The first of each family counts; without one nothing is taken for a pod.
    pub pod_ranges: Vec<IpNet>,
    /// Virtual addresses that this node serves itself; no rules are made for them.
    pub local_vips: Vec<IpAddr>,
    /// Node ports answer at 127.0.0.1 too. Needs `net.ipv4.conf.all.route_localnet`, which is then set.
    pub localhost_node_ports: bool,
    /// How often to look whether somebody flushed our rules.
    pub check_every: Duration,
}

impl Config {
    /// For a node and the range of all pods, everything else at its default.
    pub fn new(node_name: impl Into<String>, pod_ranges: Vec<IpNet>) -> Self {
        Self {
            mode: Mode::default(),
            node_name: node_name.into(),
            zone: None,
            node_addresses: Vec::new(),
            pod_ranges,
            local_vips: Vec::new(),
            localhost_node_ports: true,
            check_every: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_parsed_or_refused_with_a_reason() {
        assert_eq!("iptables".parse::<Mode>().unwrap().to_string(), "iptables");
        for (text, want) in
            [("nftables", "not there yet"), ("ipvs", "not there yet"), ("ebpf", "unknown proxy mode")]
        {
            let error = text.parse::<Mode>().unwrap_err().to_string();
            assert!(error.contains(want) && error.contains("--proxy-mode=iptables"), "{error}");
        }
    }
}
