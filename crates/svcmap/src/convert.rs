//! From Kubernetes objects to plain values, with defaults as the API defines them for absent fields.
//!
//! A field that makes an object meaningless is an error of the whole object; a single bad address among others is
//! logged and left out (addresses with leading zeros, of the wrong family, host names).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{Endpoint, Protocol, Service, ServiceKind, ServiceName, ServicePort, TrafficPolicy};

/// The label that says whose endpoints a slice holds.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// `sessionAffinityConfig.clientIP.timeoutSeconds` when absent.
const AFFINITY_SECONDS: i32 = 10_800;

/// Why an object cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unusable {
    /// A field without which the object means nothing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field whose value cannot be used.
    #[error("{field} cannot be used: {value:?}")]
    Field {
        /// Its path.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

/// One EndpointSlice of a Service: its endpoints at each of its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) service: ServiceName,
    /// Name, protocol and number of each port.
    pub(crate) ports: Vec<(Arc<str>, Protocol, u16)>,
    /// `port` is 0 here; it comes from `ports`.
    pub(crate) endpoints: Vec<Endpoint>,
}

impl ServiceName {
    /// The name of a Service.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// A Service's plain value.
pub(crate) fn service(object: &core::Service) -> Result<Service, Unusable> {
    let name = object_name(&object.metadata)?;
    let spec = object.spec.as_ref().ok_or(Unusable::Missing("spec"))?;
    let kind = service_kind(spec)?;
    let named = matches!(kind, ServiceKind::Headless | ServiceKind::ExternalName(_));
    let cluster_ips = if named { Vec::new() } else { addresses(&name, "clusterIPs", cluster_ips(spec)) };
    Ok(Service {
        kind,
        cluster_ips,
        ports: spec.ports.iter().flatten().map(service_port).collect::<Result<_, _>>()?,
        external_ips: addresses(&name, "externalIPs", spec.external_ips.iter().flatten().map(String::as_str)),
        load_balancer_ips: addresses(&name, "status.loadBalancer.ingress", balancer_ips(object)),
        source_ranges: source_ranges(spec)?,
        external_policy: policy("externalTrafficPolicy", spec.external_traffic_policy.as_deref())?,
        internal_policy: policy("internalTrafficPolicy", spec.internal_traffic_policy.as_deref())?,
        affinity: affinity(spec)?,
        health_check_node_port: optional_port("healthCheckNodePort", spec.health_check_node_port)?,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        name,
    })
}

/// An EndpointSlice's plain value; `None` for one that belongs to no Service or holds host names.
pub(crate) fn slice(object: &discovery::EndpointSlice) -> Result<Option<Slice>, Unusable> {
    let name = object_name(&object.metadata)?;
    let owner = object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
    let Some(owner) = owner.filter(|owner| !owner.is_empty()) else { return Ok(None) };
    let v4 = match object.address_type.as_str() {
        "IPv4" => true,
        "IPv6" => false,
        "FQDN" => return Ok(None),
        other => return Err(bad("addressType", other)),
    };
    let mut ports = Vec::new();
    for port in object.ports.iter().flatten() {
        // Without a number it stands for "all ports", which nobody can forward to.
        let Some(number) = port.port else { continue };
        let protocol = protocol("ports[].protocol", port.protocol.as_deref())?;
        ports.push((
            port.name.as_deref().unwrap_or_default().into(),
            protocol,
            self::port("ports[].port", number)?,
        ));
    }
    let mut shared = Shared::default();
    let endpoints = object.endpoints.iter().flatten();
    let endpoints = endpoints.filter_map(|from| endpoint(&name, v4, from, &mut shared)).collect();
    let service = ServiceName { namespace: name.namespace, name: owner.as_str().into() };
    Ok(Some(Slice { service, ports, endpoints }))
}

pub(crate) fn object_name(metadata: &ObjectMeta) -> Result<ServiceName, Unusable> {
    let name = metadata.name.as_deref().ok_or(Unusable::Missing("metadata.name"))?;
    let namespace = metadata.namespace.as_deref().ok_or(Unusable::Missing("metadata.namespace"))?;
    Ok(ServiceName::new(namespace, name))
}

fn bad(field: &'static str, value: impl ToString) -> Unusable {
    Unusable::Field { field, value: value.to_string() }
}

fn service_kind(spec: &core::ServiceSpec) -> Result<ServiceKind, Unusable> {
    let headless = spec.cluster_ip.as_deref() == Some("None");
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ExternalName" => {
            let target = spec.external_name.as_deref().filter(|name| !name.is_empty());
            Ok(ServiceKind::ExternalName(target.ok_or(Unusable::Missing("externalName"))?.into()))
        }
        "ClusterIP" if headless => Ok(ServiceKind::Headless),
        "ClusterIP" => Ok(ServiceKind::ClusterIp),
        "NodePort" => Ok(ServiceKind::NodePort),
        "LoadBalancer" => Ok(ServiceKind::LoadBalancer),
        other => Err(bad("type", other)),
    }
}

fn cluster_ips(spec: &core::ServiceSpec) -> impl Iterator<Item = &str> {
    let list = spec.cluster_ips.as_deref().unwrap_or_default();
    // Only servers older than dual-stack leave the list out.
    let single = spec.cluster_ip.as_deref().filter(|ip| list.is_empty() && !ip.is_empty());
    list.iter().map(String::as_str).chain(single)
}

/// Addresses whose `ipMode` is VIP: those of mode Proxy are answered by the load balancer alone.
fn balancer_ips(object: &core::Service) -> impl Iterator<Item = &str> {
    let ingress =
        object.status.iter().flat_map(|status| &status.load_balancer).flat_map(|lb| &lb.ingress).flatten();
    ingress
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.as_deref())
}

fn addresses<'a>(name: &ServiceName, field: &str, texts: impl Iterator<Item = &'a str>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(address) if !found.contains(&address) => found.push(address),
            Ok(_) => {}
            Err(error) => {
                let ServiceName { namespace, name } = name;
                tracing::warn!(kind = "Service", %namespace, %name, field, text, %error, "an address is left out");
            }
        }
    }
    found
}

fn service_port(from: &core::ServicePort) -> Result<ServicePort, Unusable> {
    Ok(ServicePort {
        name: from.name.as_deref().unwrap_or_default().into(),
        protocol: protocol("ports[].protocol", from.protocol.as_deref())?,
        port: port("ports[].port", from.port)?,
        node_port: optional_port("ports[].nodePort", from.node_port)?,
    })
}

/// All or nothing: a list that lost entries would let in, or keep out, other clients than it says.
fn source_ranges(spec: &core::ServiceSpec) -> Result<Vec<ipnet::IpNet>, Unusable> {
    let texts = spec.load_balancer_source_ranges.iter().flatten().map(|text| text.trim());
    let range = |text: &str| text.parse::<ipnet::IpNet>().map_err(|_| bad("loadBalancerSourceRanges", text));
    texts.map(|text| range(text).map(|range| range.trunc())).collect()
}

fn affinity(spec: &core::ServiceSpec) -> Result<Option<Duration>, Unusable> {
    match spec.session_affinity.as_deref().unwrap_or("None") {
        "" | "None" => Ok(None),
        "ClientIP" => {
            let client = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            let seconds = client.and_then(|client| client.timeout_seconds).unwrap_or(AFFINITY_SECONDS);
            let seconds = u64::try_from(seconds).map_err(|_| bad("clientIP.timeoutSeconds", seconds))?;
            Ok(Some(Duration::from_secs(seconds)))
        }
        other => Err(bad("sessionAffinity", other)),
    }
}

fn policy(field: &'static str, text: Option<&str>) -> Result<TrafficPolicy, Unusable> {
    match text.unwrap_or_default() {
        "" | "Cluster" => Ok(TrafficPolicy::Cluster),
        "Local" => Ok(TrafficPolicy::Local),
        other => Err(bad(field, other)),
    }
}

fn protocol(field: &'static str, text: Option<&str>) -> Result<Protocol, Unusable> {
    match text.unwrap_or("TCP") {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        other => Err(bad(field, other)),
    }
}

fn port(field: &'static str, number: i32) -> Result<u16, Unusable> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| bad(field, number))
}

fn optional_port(field: &'static str, number: Option<i32>) -> Result<Option<u16>, Unusable> {
    number.filter(|number| *number != 0).map(|number| port(field, number)).transpose()
}

fn endpoint(
    slice: &ServiceName,
    v4: bool,
    from: &discovery::Endpoint,
    shared: &mut Shared,
) -> Option<Endpoint> {
    // All addresses of one endpoint mean the same backend; only the first is used, as everywhere.
    let text = from.addresses.first()?;
    let address = match text.parse::<IpAddr>() {
        Ok(address) if address.is_ipv4() == v4 => address,
        _ => {
            let ServiceName { namespace, name } = slice;
            tracing::warn!(kind = "EndpointSlice", %namespace, %name, text, "an address is left out");
            return None;
        }
    };
    let conditions = from.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let hints = from.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_ref()).into_iter().flatten();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref()).into_iter().flatten();
    Some(Endpoint {
        address,
        port: 0,
        ready,
        serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(ready),
        terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or_default(),
        node: from.node_name.as_deref().map(|name| shared.name(name)),
        hostname: from.hostname.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
        zone: from.zone.as_deref().map(|name| shared.name(name)),
        hint_zones: zones.map(|zone| shared.name(&zone.name)).collect(),
        hint_nodes: nodes.map(|node| shared.name(&node.name)).collect(),
    })
}

/// Node and zone names repeat in every endpoint: one allocation for each and slice.
#[derive(Default)]
struct Shared(BTreeSet<Arc<str>>);

impl Shared {
    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(name) = self.0.get(text) {
            return Arc::clone(name);
        }
        let name: Arc<str> = text.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}
