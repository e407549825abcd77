//! Which endpoints a Service has: a pure function of the Service, the pods it selects, and their nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::kit::{meta, pods};

/// Endpoints that may share a slice: one family of addresses, one set of ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    /// `IPv4` or `IPv6`.
    pub(crate) address_type: String,
    pub(crate) ports: Vec<Port>,
}

/// A port of a slice, in an order of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) port: Option<i32>,
    pub(crate) app_protocol: Option<String>,
}

impl Port {
    pub(crate) fn of_slice(port: &EndpointPort) -> Self {
        Self {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: port.port,
            app_protocol: port.app_protocol.clone(),
        }
    }

    pub(crate) fn to_slice(&self) -> EndpointPort {
        EndpointPort {
            name: Some(self.name.clone()),
            protocol: Some(self.protocol.clone()),
            port: self.port,
            app_protocol: self.app_protocol.clone(),
        }
    }
}

/// What the slices of a Service must hold.
pub(crate) type Desired = BTreeMap<Shape, Vec<Endpoint>>;

/// What a pod's node adds to its endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) zone: Option<String>,
}

/// The endpoints of a Service. `node` knows the nodes that exist: upstream leaves out pods of those that do not.
pub(crate) fn desired<'a>(
    service: &Service,
    pods: impl Iterator<Item = &'a Pod>,
    node: impl Fn(&str) -> Option<NodeFacts>,
) -> Desired {
    let mut desired = Desired::new();
    let Some(spec) = &service.spec else { return desired };
    let families = families(spec);
    for pod in pods.filter(|pod| !pods::is_terminal(pod)) {
        let facts = pods::node(pod).map(&node);
        if matches!(facts, Some(None)) && spec.publish_not_ready_addresses != Some(true) {
            continue;
        }
        let facts = facts.flatten().unwrap_or_default();
        let ports = ports(spec, pod);
        for family in &families {
            let addresses = addresses_of(pod, family);
            if !addresses.is_empty() {
                let shape = Shape { address_type: family.clone(), ports: ports.clone() };
                desired.entry(shape).or_default().push(endpoint(service, spec, pod, addresses, &facts));
            }
        }
    }
    desired
}

/// The families of a Service's slices.
pub(crate) fn families(spec: &ServiceSpec) -> Vec<String> {
    if let Some(families) = spec.ip_families.as_ref().filter(|f| !f.is_empty()) {
        return families.clone();
    }
    let cluster_ip = spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
    vec![if cluster_ip.is_some_and(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" }.to_owned()]
}

pub(crate) fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

fn addresses_of(pod: &Pod, family: &str) -> Vec<String> {
    let all = pods::addresses(pod).into_iter();
    all.filter(|ip| is_of_family(ip, family)).map(str::to_owned).collect()
}

pub(crate) fn is_of_family(address: &str, family: &str) -> bool {
    address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == (family == "IPv6"))
}

fn endpoint(
    service: &Service,
    spec: &ServiceSpec,
    pod: &Pod,
    addresses: Vec<String>,
    facts: &NodeFacts,
) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pods::is_terminating(pod);
    let ready = spec.publish_not_ready_addresses == Some(true) || (serving && !terminating);
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name: pods::node(pod).map(str::to_owned),
        target_ref: Some(target_ref(pod)),
        zone: facts.zone.clone(),
        ..Endpoint::default()
    }
}

/// Who an address belongs to.
pub(crate) fn target_ref(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The name that a pod has under its governing Service.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    let governed = spec.subdomain.as_deref() == Some(meta::name(&service.metadata))
        && pod.metadata.namespace == service.metadata.namespace;
    governed.then(|| hostname.clone())
}

fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    let mut ports: Vec<Port> = spec.ports.iter().flatten().filter_map(|port| slice_port(port, pod)).collect();
    ports.sort();
    ports
}

fn slice_port(port: &ServicePort, pod: &Pod) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port).to_owned(),
        port: Some(target_port(port, pod)?),
        app_protocol: port.app_protocol.clone(),
    })
}

pub(crate) fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The port of a pod behind a Service's port; a name is looked up among the pod's containers, sidecars included.
pub(crate) fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut named = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let found = named
        .find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol(port));
    found.map(|p| p.container_port)
}

/// Whether a change of a pod can change endpoints, so that all others cost no more than this comparison.
pub(crate) fn is_relevant(old: &Pod, new: &Pod) -> bool {
    let facts = |pod: &Pod| (pods::is_ready(pod), pods::is_terminating(pod), pods::is_terminal(pod));
    facts(old) != facts(new)
        || old.metadata.labels != new.metadata.labels
        || pods::node(old) != pods::node(new)
        || pods::addresses(old) != pods::addresses(new)
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
