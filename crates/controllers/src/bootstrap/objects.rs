//! The objects of [`super`], as plain values.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort as OldPort, EndpointSubset, Endpoints, Namespace, Service, ServicePort,
    ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use svcd_api::addresses::Family;
use svcd_api::{Json, registry};

use crate::endpointslice::MANAGED_BY;
use crate::endpointslice::desired::{Desired, Port, Shape};
use crate::endpointslice::pack::Template;
use crate::endpointslicemirroring::SKIP_MIRROR;
use crate::kit::meta;
use crate::kit::selector::Labels;
use crate::kit::world::SERVICE_NAME;

/// Who manages the slices of the DNS Service.
pub(crate) const DNS_MANAGER: &str = "dns.svcd.io";
const DNS_PORT: i32 = 53;

/// A node's DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: IpAddr,
    pub(crate) node: String,
    pub(crate) ready: bool,
}

fn named(namespace: &str, name: &str, labels: &[(&str, &str)]) -> ObjectMeta {
    let labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()).filter(|n| !n.is_empty()),
        labels: Some(labels).filter(|l| !l.is_empty()),
        ..ObjectMeta::default()
    }
}

fn family(address: IpAddr) -> String {
    Family::of(address).name().to_owned()
}

pub(crate) fn namespace(name: &str) -> Namespace {
    Namespace { metadata: named("", name, &[]), ..Namespace::default() }
}

pub(crate) fn service_range(ranges: &[IpNet]) -> ServiceCIDR {
    let kind = registry().all().find_map(|kind| kind.address_ranges());
    let kind = kind.expect("a kind of the registry holds ranges of addresses");
    ServiceCIDR::from_json(&kind.usual(ranges)).expect("what the kind itself writes can be read")
}

pub(crate) fn cidrs(range: &ServiceCIDR) -> &[String] {
    range.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default()
}

fn service(metadata: ObjectMeta, address: IpAddr, ports: Vec<ServicePort>) -> Service {
    let spec = ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        cluster_ip: Some(address.to_string()),
        cluster_ips: Some(vec![address.to_string()]),
        ip_families: Some(vec![family(address)]),
        ip_family_policy: Some("SingleStack".to_owned()),
        session_affinity: Some("None".to_owned()),
        ports: Some(ports),
        ..ServiceSpec::default()
    };
    Service { metadata, spec: Some(spec), ..Service::default() }
}

fn port(name: &str, protocol: &str, port: i32, target: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port,
        target_port: Some(IntOrString::Int(target)),
        ..ServicePort::default()
    }
}

pub(crate) fn api_service(address: IpAddr, target: u16) -> Service {
    let labels = [("component", "apiserver"), ("provider", "kubernetes")];
    service(
        named("default", "kubernetes", &labels),
        address,
        vec![port("https", "TCP", 443, i32::from(target))],
    )
}

pub(crate) fn api_slice(advertise: SocketAddr) -> EndpointSlice {
    EndpointSlice {
        metadata: named("default", "kubernetes", &[(SERVICE_NAME, "kubernetes")]),
        address_type: family(advertise.ip()),
        ports: Some(vec![EndpointPort {
            name: Some("https".to_owned()),
            port: Some(i32::from(advertise.port())),
            protocol: Some("TCP".to_owned()),
            app_protocol: None,
        }]),
        endpoints: Some(vec![Endpoint {
            addresses: vec![advertise.ip().to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
            ..Endpoint::default()
        }]),
    }
}

/// The held slice with the wanted content.
pub(crate) fn slice_like(held: &EndpointSlice, wanted: &EndpointSlice) -> EndpointSlice {
    let mut next = held.clone();
    next.metadata.labels.get_or_insert_default().extend(wanted.metadata.labels.clone().unwrap_or_default());
    next.ports.clone_from(&wanted.ports);
    next.endpoints.clone_from(&wanted.endpoints);
    next
}

pub(crate) fn api_endpoints(advertise: SocketAddr) -> Endpoints {
    let subset = EndpointSubset {
        addresses: Some(vec![old_address(advertise.ip(), None)]),
        not_ready_addresses: None,
        ports: Some(vec![old_port("https", "TCP", i32::from(advertise.port()))]),
    };
    Endpoints {
        metadata: named("default", "kubernetes", &[(SKIP_MIRROR, "true")]),
        subsets: Some(vec![subset]),
    }
}

fn old_address(ip: IpAddr, node: Option<String>) -> EndpointAddress {
    EndpointAddress { ip: ip.to_string(), node_name: node, ..EndpointAddress::default() }
}

fn old_port(name: &str, protocol: &str, port: i32) -> OldPort {
    OldPort { name: Some(name.to_owned()), port, protocol: Some(protocol.to_owned()), app_protocol: None }
}

pub(crate) fn dns_service(address: IpAddr) -> Service {
    let labels = [
        ("k8s-app", "kube-dns"),
        ("kubernetes.io/cluster-service", "true"),
        // What the usual instructions look for; the answers are those of svcd's own DNS.
        ("kubernetes.io/name", "CoreDNS"),
    ];
    let ports = vec![port("dns", "UDP", DNS_PORT, DNS_PORT), port("dns-tcp", "TCP", DNS_PORT, DNS_PORT)];
    service(named("kube-system", "kube-dns", &labels), address, ports)
}

pub(crate) fn dns_template(service: &Service) -> Template {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), "kube-dns".to_owned());
    labels.insert(MANAGED_BY.to_owned(), DNS_MANAGER.to_owned());
    Template {
        namespace: "kube-system".to_owned(),
        name: "kube-dns".to_owned(),
        labels,
        annotations: Labels::new(),
        owner: meta::controlled_by(service),
        families: service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default(),
    }
}

/// One endpoint a node.
pub(crate) fn dns_slices(targets: &[Target]) -> Desired {
    let port = |name: &str, protocol: &str| Port {
        name: name.to_owned(),
        protocol: protocol.to_owned(),
        port: Some(DNS_PORT),
        app_protocol: None,
    };
    let mut desired = Desired::new();
    for target in targets {
        let ports = vec![port("dns", "UDP"), port("dns-tcp", "TCP")];
        let shape = Shape { address_type: family(target.address), ports };
        desired.entry(shape).or_default().push(Endpoint {
            addresses: vec![target.address.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(target.ready),
                serving: Some(target.ready),
                terminating: Some(false),
            }),
            node_name: Some(target.node.clone()),
            ..Endpoint::default()
        });
    }
    desired
}

pub(crate) fn dns_endpoints(targets: &[Target]) -> Endpoints {
    let addresses = |ready: bool| -> Option<Vec<EndpointAddress>> {
        let matching = targets.iter().filter(|target| target.ready == ready);
        let list: Vec<_> = matching.map(|t| old_address(t.address, Some(t.node.clone()))).collect();
        Some(list).filter(|list| !list.is_empty())
    };
    let subset = EndpointSubset {
        addresses: addresses(true),
        not_ready_addresses: addresses(false),
        ports: Some(vec![old_port("dns", "UDP", DNS_PORT), old_port("dns-tcp", "TCP", DNS_PORT)]),
    };
    let labels = [("k8s-app", "kube-dns"), ("kubernetes.io/cluster-service", "true"), (SKIP_MIRROR, "true")];
    let subsets = if targets.is_empty() { Vec::new() } else { vec![subset] };
    Endpoints { metadata: named("kube-system", "kube-dns", &labels), subsets: Some(subsets) }
}

pub(crate) fn cluster_ip(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.cluster_ip.as_deref()
}

/// The held Service with ports, labels and selector as they must be, if they are not.
pub(crate) fn repaired(held: &Service, wanted: &Service) -> Option<Service> {
    let mut next = held.clone();
    next.metadata.labels.get_or_insert_default().extend(wanted.metadata.labels.clone().unwrap_or_default());
    let spec = next.spec.get_or_insert_default();
    let ports = wanted.spec.as_ref().and_then(|spec| spec.ports.clone()).unwrap_or_default();
    let key = |p: &ServicePort| (p.name.clone(), p.protocol.clone(), p.port, p.target_port.clone());
    if !spec.ports.iter().flatten().map(key).eq(ports.iter().map(key)) {
        spec.ports = Some(ports);
    }
    if spec.selector.as_ref().is_some_and(|selector| !selector.is_empty()) {
        spec.selector = None;
    }
    (next != *held).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(n: u8, ready: bool) -> Target {
        Target { address: IpAddr::from([10, 244, n, 1]), node: format!("node{n}"), ready }
    }

    #[test]
    fn every_node_answers_dns() {
        let slices = dns_slices(&[target(1, true), target(2, false)]);
        let (shape, endpoints) = slices.first_key_value().unwrap();
        assert_eq!(shape.ports.len(), 2);
        let seen: Vec<_> = endpoints
            .iter()
            .map(|e| (e.addresses[0].as_str(), e.node_name.as_deref(), e.conditions.as_ref().unwrap().ready))
            .collect();
        assert_eq!(
            seen,
            [("10.244.1.1", Some("node1"), Some(true)), ("10.244.2.1", Some("node2"), Some(false))]
        );
        let subsets = dns_endpoints(&[target(1, true), target(2, false)]).subsets.unwrap();
        assert_eq!(subsets[0].addresses.as_ref().unwrap()[0].ip, "10.244.1.1");
        assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap()[0].ip, "10.244.2.1");
        assert_eq!(dns_endpoints(&[]).subsets, Some(Vec::new()));
    }

    #[test]
    fn a_service_that_was_tampered_with_is_repaired_and_defaults_are_left_alone() {
        let wanted = api_service(IpAddr::from([10, 96, 0, 1]), 6443);
        let mut held = wanted.clone();
        held.spec.as_mut().unwrap().internal_traffic_policy = Some("Cluster".to_owned());
        assert_eq!(repaired(&held, &wanted), None);
        let good = held.clone();
        held.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].port = 444;
        held.spec.as_mut().unwrap().selector = Some(Labels::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!(repaired(&held, &wanted), Some(good));
    }
}
