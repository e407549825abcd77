//! What the controllers must be told about the cluster. Plain values; nothing is read from the environment.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use svcd_api::addresses;
use svcd_pki::Ca;

use crate::{ControllerName, Error};

/// The cluster as the controllers see it, and how patient they are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses of Services, at most one range for each family; the first address of the first range is that of
    /// `default/kubernetes`.
    pub service_ranges: Vec<IpNet>,
    /// Addresses of pods, at most one range for each family, each cut into one range for each node.
    pub pod_ranges: Vec<IpNet>,
    /// Prefix length of a node's IPv4 range.
    pub node_mask_v4: u8,
    /// Prefix length of a node's IPv6 range.
    pub node_mask_v6: u8,
    /// The VIP of `kube-system/kube-dns`.
    pub dns_address: IpAddr,
    /// Where the API server is reached, for the endpoints of `default/kubernetes`.
    pub advertise: SocketAddr,
    /// The cluster's authority: its certificate is put into `kube-root-ca.crt` of every namespace, and it signs what was
    /// requested and approved.
    pub ca: Arc<Ca>,
    /// How long a certificate is valid for which nothing shorter was asked.
    pub certificate_validity: Duration,
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
        service_ranges: Vec<IpNet>,
        pod_ranges: Vec<IpNet>,
        dns_address: IpAddr,
        advertise: SocketAddr,
        ca: Arc<Ca>,
    ) -> Self {
        Self {
            service_ranges,
            pod_ranges,
            node_mask_v4: 24,
            node_mask_v6: 64,
            dns_address,
            advertise,
            ca,
            certificate_validity: svcd_pki::VALIDITY,
            node_grace: Duration::from_secs(40),
            eviction_after: Duration::from_secs(300),
            orphan_pods_after: Duration::from_secs(40),
            disabled: Vec::new(),
        }
    }

    /// The VIP of `default/kubernetes`.
    pub fn kubernetes_address(&self) -> Result<IpAddr, Error> {
        let first = self.service_ranges.first();
        let first =
            first.ok_or_else(|| Error::Config("there is no range of service addresses".to_owned()))?;
        addresses::nth(first, 1)
            .ok_or_else(|| Error::Config(format!("the service range {first} has no usable address")))
    }

    /// Prefix length of a node's share of a pod range.
    pub(crate) fn node_mask(&self, range: &IpNet) -> u8 {
        if range.addr().is_ipv4() { self.node_mask_v4 } else { self.node_mask_v6 }
    }

    /// Refuses what could not work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.kubernetes_address()?;
        if !self.service_ranges.iter().any(|range| range.contains(&self.dns_address)) {
            let ranges: Vec<String> = self.service_ranges.iter().map(ToString::to_string).collect();
            let message = format!("the DNS address {} is not in {}", self.dns_address, ranges.join(","));
            return Err(Error::Config(message));
        }
        for range in &self.pod_ranges {
            let mask = self.node_mask(range);
            if mask < range.prefix_len() || mask > range.max_prefix_len() {
                let message = format!("nodes cannot get /{mask} ranges out of {range}");
                return Err(Error::Config(message));
            }
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
        let range = |text: &str| vec![text.parse().unwrap()];
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
