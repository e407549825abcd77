//! Everything an agent is told, as one validated value.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use svcd_runtime::{Metrics, Readiness};

use crate::{ClusterInfo, Error};

/// The name of the node's own directory in a data directory.
pub const AGENT_DIR: &str = "agent";
/// The pods' bridge.
pub(crate) const BRIDGE: &str = "svcd0";

/// What this node is in its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Runs pods.
    #[default]
    Worker,
    /// Runs the control plane beside the agent.
    ControlPlane,
}

/// When the Lease is renewed, and for how long others may trust it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// How often.
    pub interval: Duration,
    /// `leaseDurationSeconds`.
    pub lease: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), lease: Duration::from_secs(40) }
    }
}

/// What [`run`](crate::run) needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the Node.
    pub node_name: String,
    /// Where the API server is; the interface that reaches it gives the node's address.
    pub server: SocketAddr,
    /// The node's address, when that is not what is wanted.
    pub node_address: Option<IpAddr>,
    /// The agent's data directory; it uses `agent/` below it.
    pub data_dir: PathBuf,
    /// The cluster's facts.
    pub cluster: ClusterInfo,
    /// What this node is.
    pub role: Role,
    /// Labels of the Node besides the usual ones.
    pub labels: BTreeMap<String, String>,
    /// Taints of the Node when it is registered first.
    pub taints: Vec<Taint>,
    /// When to show a sign of life.
    pub heartbeat: Heartbeat,
    /// How rules are written into the kernel.
    pub proxy_mode: svcd_proxy::Mode,
    /// Another address at which the node's DNS answers, on `lo`.
    pub node_dns_address: Option<Ipv4Addr>,
    /// This binary, which pods of the built-in images run.
    pub self_exe: PathBuf,
    /// Whether pods are run at all.
    pub run_pods: bool,
    /// Where `/healthz`, `/readyz` and `/metrics` are served (10256, kube-proxy's).
    pub health_address: Option<SocketAddr>,
    /// Where the parts' metrics go.
    pub metrics: Metrics,
    /// Held back until the node's parts work.
    pub readiness: Readiness,
}

impl Config {
    /// The usual values around what cannot be guessed.
    #[must_use]
    pub fn new(
        node_name: impl Into<String>,
        server: SocketAddr,
        data_dir: impl Into<PathBuf>,
        self_exe: impl Into<PathBuf>,
        cluster: ClusterInfo,
    ) -> Self {
        Self {
            node_name: node_name.into(),
            server,
            node_address: None,
            data_dir: data_dir.into(),
            cluster,
            role: Role::Worker,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            heartbeat: Heartbeat::default(),
            proxy_mode: svcd_proxy::Mode::default(),
            node_dns_address: Some(Ipv4Addr::new(169, 254, 25, 10)),
            self_exe: self_exe.into(),
            run_pods: true,
            health_address: Some(SocketAddr::from(([0, 0, 0, 0], 10256))),
            metrics: Metrics::default(),
            readiness: Readiness::default(),
        }
    }

    /// Refuses what could not work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !is_node_name(&self.node_name) {
            return Err(Error::BadName { name: self.node_name.clone() });
        }
        let Heartbeat { interval, lease } = self.heartbeat;
        if interval.is_zero() || interval >= lease {
            return Err(Error::Heartbeat { interval, lease });
        }
        let ClusterInfo { service_cidr, pod_cidr, .. } = &self.cluster;
        if let Some(range) = service_cidr.v6().or_else(|| pod_cidr.v6()) {
            return Err(Error::Family { range });
        }
        Ok(())
    }

    /// The agent's own directory.
    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.data_dir.join(AGENT_DIR)
    }

    /// What `/configz` shows.
    pub(crate) fn to_json(&self) -> String {
        let Self {
            node_name,
            server,
            node_address,
            data_dir,
            cluster,
            role,
            labels,
            taints,
            heartbeat,
            proxy_mode,
            node_dns_address,
            self_exe,
            run_pods,
            health_address,
            metrics: _,
            readiness: _,
        } = self;
        serde_json::json!({
            "nodeName": node_name,
            "server": server,
            "nodeAddress": node_address,
            "dataDir": data_dir,
            "cluster": cluster,
            "role": format!("{role:?}"),
            "labels": labels,
            "taints": taints,
            "heartbeatSeconds": heartbeat.interval.as_secs_f64(),
            "leaseSeconds": heartbeat.lease.as_secs_f64(),
            "proxyMode": proxy_mode.to_string(),
            "nodeDnsAddress": node_dns_address,
            "selfExe": self_exe,
            "runPods": run_pods,
            "healthAddress": health_address,
        })
        .to_string()
    }

    /// Where the pod network remembers addresses and namespaces.
    pub(crate) fn network_dir(&self) -> PathBuf {
        self.agent_dir().join("network")
    }

    /// Where the pod runtime keeps what it must find again.
    pub(crate) fn pods_dir(&self) -> PathBuf {
        self.agent_dir().join("pods")
    }
}

/// The taint that keeps ordinary pods off a control plane.
#[must_use]
pub fn control_plane_taint() -> Taint {
    Taint {
        key: "node-role.kubernetes.io/control-plane".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    }
}

/// A DNS subdomain, as the API server demands.
fn is_node_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str) -> Config {
        let cluster = ClusterInfo {
            cluster_domain: "cluster.local".into(),
            dns_address: [10, 96, 0, 10].into(),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            pod_cidr: "10.244.0.0/16".parse().unwrap(),
            node_port_range: "30000-32767".parse().unwrap(),
        };
        Config::new(name, "127.0.0.1:6443".parse().unwrap(), "/var/lib/svcd", "/usr/bin/svcd", cluster)
    }

    #[test]
    fn names_are_those_of_dns() {
        for good in ["node1", "node1.example.com", "1-a"] {
            config(good).check().unwrap();
        }
        for bad in ["", "Node1", "a_b", "-a", "a-", "a..b", "a.", &"a".repeat(254)] {
            assert!(matches!(config(bad).check(), Err(Error::BadName { .. })), "{bad}");
        }
    }

    #[test]
    fn a_heart_must_beat_faster_than_patience() {
        let mut slow = config("a");
        slow.heartbeat.interval = slow.heartbeat.lease;
        assert!(matches!(slow.check(), Err(Error::Heartbeat { .. })));
    }

    #[test]
    fn a_cluster_with_ipv6_is_refused_by_name() {
        let mut dual = config("a");
        dual.cluster.service_cidr = "10.96.0.0/12,fd00::/108".parse().unwrap();
        let error = dual.check().unwrap_err().to_string();
        assert!(error.contains("fd00::/108") && error.contains("IPv4 only"), "{error}");
    }

    #[test]
    fn shows_itself_as_json() {
        let shown: serde_json::Value = serde_json::from_str(&config("a").to_json()).unwrap();
        assert_eq!(shown["nodeName"], "a");
        assert_eq!(shown["leaseSeconds"], 40.0);
    }
}
