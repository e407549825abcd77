//! What the data plane knows of a Service: plain values, without a client and without Kubernetes types.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The name of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

/// `spec.type`, with headless told apart from ClusterIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// Has virtual addresses.
    ClusterIp,
    /// Has virtual addresses and a port on every node.
    NodePort,
    /// As `NodePort`, and addresses from outside.
    LoadBalancer,
    /// `clusterIP: None`.
    Headless,
    /// An alias in DNS for this name.
    ExternalName(Arc<str>),
}

/// `ports[].protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// `externalTrafficPolicy` and `internalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// All endpoints.
    #[default]
    Cluster,
    /// Only endpoints on the same node.
    Local,
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`, empty when the Service has one port without a name.
    pub name: Arc<str>,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`, the number at the virtual address.
    pub port: u16,
    /// `nodePort`.
    pub node_port: Option<u16>,
}

/// A Service, as much of it as forwarding and naming need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its type.
    pub kind: ServiceKind,
    /// `spec.clusterIPs`; empty for Headless and ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` whose `ipMode` is VIP.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: Vec<ipnet::IpNet>,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `sessionAffinity: ClientIP` and its timeout.
    pub affinity: Option<Duration>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
}

impl Service {
    /// A Service with nothing but a name and a type: no addresses, no ports, every policy as the API's defaults are.
    #[must_use]
    pub fn new(name: ServiceName, kind: ServiceKind) -> Self {
        Self {
            name,
            kind,
            cluster_ips: Vec::new(),
            ports: Vec::new(),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            external_policy: TrafficPolicy::Cluster,
            internal_policy: TrafficPolicy::Cluster,
            affinity: None,
            health_check_node_port: None,
            publish_not_ready: false,
        }
    }
}

/// One address that serves a Service's port, from an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// `addresses[0]`.
    pub address: IpAddr,
    /// The port's number in the slice.
    pub port: u16,
    /// `conditions.ready` (true when absent).
    pub ready: bool,
    /// `conditions.serving` (as `ready` when absent).
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
    /// `hostname`.
    pub hostname: Option<Arc<str>>,
    /// `zone`.
    pub zone: Option<Arc<str>>,
    /// `hints.forZones[].name`.
    pub hint_zones: Vec<Arc<str>>,
    /// `hints.forNodes[].name`.
    pub hint_nodes: Vec<Arc<str>>,
}

impl Endpoint {
    /// A ready endpoint that nothing more is known of.
    #[must_use]
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self {
            address,
            port,
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            hostname: None,
            zone: None,
            hint_zones: Vec::new(),
            hint_nodes: Vec::new(),
        }
    }
}

/// A Service together with its endpoints: everything that one Service means to the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The Service.
    pub service: Service,
    /// For every port's name and protocol (as the EndpointSlices name them) its endpoints, ordered and without repeats.
    pub endpoints: BTreeMap<(Arc<str>, Protocol), Vec<Endpoint>>,
    /// Addresses of slices without ports (a headless Service may have none); `port` is 0.
    pub portless: Vec<Endpoint>,
}
