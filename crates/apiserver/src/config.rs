//! What a server is told about its cluster.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use crate::audit::AuditLog;
use crate::limits::Limits;

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ranges of service addresses, at most one for each address family; the first is the usual one.
    pub service_cidrs: Vec<IpNet>,
    /// Ports that Services may ask of every node.
    pub node_port_range: RangeInclusive<u16>,
    /// Ranges of pod addresses, at most one for each address family.
    pub pod_cidrs: Vec<IpNet>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// The address of the cluster's DNS.
    pub dns_address: IpAddr,
    /// How long the certificate of a node that joins is valid.
    pub certificate_validity: Duration,
    /// How much is served at once.
    pub limits: Limits,
    /// Where every request is told of, if anywhere.
    pub audit: Option<AuditLog>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_cidrs: vec![IpNet::new_assert([10, 96, 0, 0].into(), 12)],
            node_port_range: 30_000..=32_767,
            pod_cidrs: vec![IpNet::new_assert([10, 244, 0, 0].into(), 16)],
            cluster_domain: "cluster.local".to_owned(),
            dns_address: [10, 96, 0, 10].into(),
            certificate_validity: svcd_pki::VALIDITY,
            limits: Limits::default(),
            audit: None,
        }
    }
}
