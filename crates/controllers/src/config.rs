//! What the controllers must be told about the cluster. Plain values; nothing is read from the environment.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use svcd_pki::Ca;

use crate::{ControllerName, Error};

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
    /// The cluster's authority: its certificate is put into `kube-root-ca.crt` of every namespace, and it signs what was
    /// requested and approved.
    pub ca: Arc<Ca>,
    /// How long a node may be silent before it counts as gone.
    pub node_grace: Duration,
    /// How long pods without an own toleration stay on a node that is not ready or unreachable.
    pub eviction_after: Duration,
    /// How long pods of a node that never was seen are kept.
    pub orphan_pods_after: Duration,
    /// Controllers that are not run.
    pub disabled: Vec<ControllerName>,
}

impl Config {
    /// A configuration with upstream's times for the given addresses.
    pub fn new(
        service_range: IpNet,
        pod_range: IpNet,
        dns_address: IpAddr,
        advertise: SocketAddr,
        ca: Arc<Ca>,
    ) -> Self {
        Self {
            service_range,
            pod_range,
            node_mask: if pod_range.addr().is_ipv4() { 24 } else { 64 },
            dns_address,
            advertise,
            ca,
            node_grace: Duration::from_secs(40),
            eviction_after: Duration::from_secs(300),
            orphan_pods_after: Duration::from_secs(40),
            disabled: Vec::new(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_of_it_has_no_key_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(Ca::load_or_create(dir.path()).unwrap());
        let range = |text: &str| text.parse().unwrap();
        let advertise = SocketAddr::from(([192, 0, 2, 1], 6443));
        let config =
            Config::new(range("10.96.0.0/12"), range("10.244.0.0/16"), [10, 96, 0, 10].into(), advertise, ca);
        let shown = format!("{config:?} {config:#?}");
        let key = std::fs::read_to_string(dir.path().join("ca.key")).unwrap();
        let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(lines.len() >= 2 && lines.iter().all(|line| !shown.contains(line)), "{shown}");
        assert!(!shown.contains("key"), "{shown}");
    }
}
