//! What the controllers must be told about the cluster. Plain values; nothing is read from the environment.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::Error;

/// The cluster as the controllers see it, and how patient they are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses of Services; its first one is that of `default/kubernetes`.
    pub service_range: IpNet,
    /// Addresses of pods, cut into one range for each node.
    pub pod_range: IpNet,
    /// Prefix length of a node's range.
    pub node_mask: u8,
    /// The VIP of `kube-system/kube-dns`.
    pub dns_address: IpAddr,
    /// Where the API server is reached, for the endpoints of `default/kubernetes`.
    pub advertise: SocketAddr,
    /// The cluster's CA certificates, put into `kube-root-ca.crt` of every namespace.
    pub ca_pem: String,
    /// How long a node may be silent before it counts as gone.
    pub node_grace: Duration,
    /// How long pods without an own toleration stay on a node that is not ready or unreachable.
    pub eviction_after: Duration,
    /// How long pods of a node that never was seen are kept.
    pub orphan_pods_after: Duration,
}

impl Config {
    /// A configuration with upstream's times for the given addresses.
    pub fn new(service_range: IpNet, pod_range: IpNet, dns_address: IpAddr, advertise: SocketAddr) -> Self {
        Self {
            service_range,
            pod_range,
            node_mask: if pod_range.addr().is_ipv4() { 24 } else { 64 },
            dns_address,
            advertise,
            ca_pem: String::new(),
            node_grace: Duration::from_secs(40),
            eviction_after: Duration::from_secs(300),
            orphan_pods_after: Duration::from_secs(40),
        }
    }

    /// The VIP of `default/kubernetes`.
    pub fn kubernetes_address(&self) -> Result<IpAddr, Error> {
        self.service_range.hosts().next().ok_or_else(|| {
            Error::Config(format!("the service range {} has no usable address", self.service_range))
        })
    }

    /// Refuses what could not work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.kubernetes_address()?;
        if !self.service_range.contains(&self.dns_address) {
            let message = format!("the DNS address {} is not in {}", self.dns_address, self.service_range);
            return Err(Error::Config(message));
        }
        if self.node_mask < self.pod_range.prefix_len() || self.node_mask > self.pod_range.max_prefix_len() {
            let message = format!("nodes cannot get /{} ranges out of {}", self.node_mask, self.pod_range);
            return Err(Error::Config(message));
        }
        Ok(())
    }
}
