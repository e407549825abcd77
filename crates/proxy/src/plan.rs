//! The pure middle: from a Service with its endpoints, seen from one node, to what has to happen to packets. The same
//! for every mode; what no packet can notice (a host name, a condition that changes nothing) is not in a plan, so that
//! equal plans mean that there is nothing to do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use svcd_svcmap::{
    Endpoint, Entry, Family, Place, Protocol, Selection, ServiceName, ServicePort, TrafficPolicy, select,
};

use crate::Config;

/// What happens to packets for an address of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// They go to one of the endpoints of policy Cluster.
    Cluster,
    /// They go to one of this node's own endpoints.
    Local,
    /// They are refused: nobody serves anywhere.
    Reject,
    /// They vanish: somebody serves, but not here, and the policy is Local.
    Drop,
}

/// Everything one Service means to packets on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// The Service.
    pub name: ServiceName,
    /// Its ports, for each address family that it has a virtual address in.
    pub ports: Vec<PortPlan>,
}

/// One port of a Service in one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// The family of all addresses here.
    pub family: Family,
    /// `namespace/name:port`, or `namespace/name` for a port without a name.
    pub label: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The number at virtual and outside addresses.
    pub port: u16,
    /// The number at the node's own addresses.
    pub node_port: Option<u16>,
    /// Where load balancers ask for this node's health.
    pub health_check_node_port: Option<u16>,
    /// Virtual addresses (without those this node serves itself).
    pub cluster_ips: Vec<IpAddr>,
    /// `externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of a load balancer.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty means everybody.
    pub source_ranges: Vec<IpNet>,
    /// What happens at a virtual address.
    pub internal: Target,
    /// What happens at outside addresses and the node port to packets from outside. Pods and the node itself are
    /// never held to policy Local there.
    pub external: Target,
    /// The endpoints of policy Cluster.
    pub cluster: Vec<SocketAddr>,
    /// The endpoints of policy Local.
    pub local: Vec<SocketAddr>,
    /// UDP only: whoever still answers, chosen for new flows or not. Flows to others are stale.
    pub answering: Vec<SocketAddr>,
    /// A client stays with its endpoint for this many seconds.
    pub affinity: Option<u64>,
}

impl PortPlan {
    /// Whether it has addresses other than its virtual one.
    pub fn reachable_from_outside(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    /// Whether anybody serves, here or elsewhere.
    pub fn served(&self) -> bool {
        self.internal != Target::Reject
    }
}

/// Makes plans: the facts of this node.
#[derive(Clone, Debug)]
pub struct Planner {
    node: String,
    zone: Option<String>,
    local_vips: Vec<IpAddr>,
}

impl Planner {
    /// With the facts of a node.
    pub fn new(config: &Config) -> Self {
        let Config { node_name, zone, local_vips, .. } = config;
        Self { node: node_name.clone(), zone: zone.clone(), local_vips: local_vips.clone() }
    }

    /// Moves the node to another zone. True when that is a change.
    pub fn set_zone(&mut self, zone: Option<String>) -> bool {
        std::mem::replace(&mut self.zone, zone) != self.zone
    }

    /// What a Service means here. Headless Services and aliases have no ports in their plan.
    pub fn plan(&self, entry: &Entry) -> ServicePlan {
        let families = [Family::V4, Family::V6];
        let families =
            families.into_iter().filter(|family| !of(*family, &entry.service.cluster_ips).is_empty());
        let ports = families.flat_map(|family| entry.service.ports.iter().map(move |port| (family, port)));
        ServicePlan {
            name: entry.service.name.clone(),
            ports: ports.map(|(family, port)| self.port(entry, family, port)).collect(),
        }
    }

    fn port(&self, entry: &Entry, family: Family, port: &ServicePort) -> PortPlan {
        let service = &entry.service;
        let selection = select(entry, port, family, Place { node: &self.node, zone: self.zone.as_deref() });
        let mut cluster_ips = of(family, &service.cluster_ips);
        cluster_ips.retain(|ip| !self.local_vips.contains(ip));
        let ranges = service.source_ranges.iter().filter(|range| Family::of(range.addr()) == family);
        PortPlan {
            family,
            label: label(&service.name, &port.name),
            protocol: port.protocol,
            port: port.port,
            node_port: port.node_port,
            health_check_node_port: service.health_check_node_port,
            cluster_ips,
            external_ips: of(family, &service.external_ips),
            load_balancer_ips: of(family, &service.load_balancer_ips),
            source_ranges: ranges.copied().collect(),
            internal: target(service.internal_policy, &selection),
            external: target(service.external_policy, &selection),
            cluster: addresses(selection.cluster),
            local: addresses(selection.local),
            answering: answering(entry, family, port),
            affinity: service.affinity.map(|timeout| timeout.as_secs()),
        }
    }
}

fn target(policy: TrafficPolicy, selection: &Selection<'_>) -> Target {
    match policy {
        _ if !selection.anywhere => Target::Reject,
        TrafficPolicy::Cluster => Target::Cluster,
        TrafficPolicy::Local if selection.local.is_empty() => Target::Drop,
        TrafficPolicy::Local => Target::Local,
    }
}

fn label(service: &ServiceName, port: &str) -> String {
    let ServiceName { namespace, name } = service;
    if port.is_empty() { format!("{namespace}/{name}") } else { format!("{namespace}/{name}:{port}") }
}

fn of(family: Family, addresses: &[IpAddr]) -> Vec<IpAddr> {
    addresses.iter().copied().filter(|address| Family::of(*address) == family).collect()
}

fn addresses(endpoints: Vec<&Endpoint>) -> Vec<SocketAddr> {
    endpoints.into_iter().map(|endpoint| SocketAddr::new(endpoint.address, endpoint.port)).collect()
}

fn answering(entry: &Entry, family: Family, port: &ServicePort) -> Vec<SocketAddr> {
    if port.protocol != Protocol::Udp {
        return Vec::new();
    }
    let all = entry.endpoints.get(&(Arc::clone(&port.name), port.protocol)).into_iter().flatten();
    addresses(all.filter(|one| one.serving && Family::of(one.address) == family).collect())
}
