//! Names of chains: kube-proxy's, letter for letter, since that is what people and their tools look for.

use std::net::SocketAddr;

use sha2::{Digest, Sha256};
use svcd_svcmap::Protocol;

pub(super) const SERVICES: &str = "KUBE-SERVICES";
pub(super) const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
pub(super) const NODE_PORTS: &str = "KUBE-NODEPORTS";
pub(super) const POSTROUTING: &str = "KUBE-POSTROUTING";
pub(super) const MARK_MASQ: &str = "KUBE-MARK-MASQ";
pub(super) const FORWARD: &str = "KUBE-FORWARD";
pub(super) const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
pub(super) const FIREWALL: &str = "KUBE-FIREWALL";

/// Prefixes of the chains of one Service port or endpoint.
const PREFIXES: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The chains of one Service port.
pub(super) struct PortChains {
    /// Picks an endpoint of policy Cluster.
    pub(super) cluster: String,
    /// Picks an endpoint of policy Local.
    pub(super) local: String,
    /// Where everything for outside addresses goes through.
    pub(super) external: String,
    /// Lets only the source ranges through to `external`.
    pub(super) firewall: String,
}

impl PortChains {
    pub(super) fn new(label: &str, protocol: Protocol) -> Self {
        let hash = hash(&[label, protocol_name(protocol)]);
        Self {
            cluster: format!("KUBE-SVC-{hash}"),
            local: format!("KUBE-SVL-{hash}"),
            external: format!("KUBE-EXT-{hash}"),
            firewall: format!("KUBE-FW-{hash}"),
        }
    }
}

/// The chain of one endpoint of a Service port.
pub(super) fn endpoint_chain(label: &str, protocol: Protocol, endpoint: SocketAddr) -> String {
    format!("KUBE-SEP-{}", hash(&[label, protocol_name(protocol), &endpoint.to_string()]))
}

/// Whether a chain belongs to one Service port or endpoint.
pub(super) fn is_service_chain(chain: &str) -> bool {
    PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

pub(super) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// The first 16 letters of the base32 of the SHA-256: chain names are short.
fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let digest = hasher.finalize();
    // Five bytes make eight letters.
    let letters = digest.chunks_exact(5).take(2).flat_map(|chunk| {
        let bits = chunk.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        (0..8).rev().map(move |place| BASE32[(bits >> (5 * place) & 31) as usize] as char)
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_upstreams() {
        // From upstream's own test data.
        assert_eq!(PortChains::new("ns1/svc1:p80", Protocol::Tcp).cluster, "KUBE-SVC-XPGD46QRK7WJZT7O");
        let endpoint = "10.180.0.1:80".parse().unwrap();
        assert_eq!(endpoint_chain("ns1/svc1:p80", Protocol::Tcp, endpoint), "KUBE-SEP-SXIVWICOYRO3J4NJ");
    }
}
