//! Services as `kubectl get` shows them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use serde_json::{Value, json};

use super::SpecExt;
use crate::kind::Column;
use crate::table;

pub(super) const COLUMNS: &[Column] = &[
    table::NAME,
    table::text(
        "Type",
        "type determines how the Service is exposed. Defaults to ClusterIP. Valid options are ExternalName, ClusterIP, NodePort, and LoadBalancer.",
    ),
    table::text("Cluster-IP", "clusterIP is the IP address of the service and is usually assigned randomly."),
    table::text(
        "External-IP",
        "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.",
    ),
    table::text("Port(s)", "The list of ports that are exposed by this service."),
    table::AGE,
    table::wide(
        "Selector",
        "Route service traffic to pods with label keys and values matching this selector.",
    ),
];

pub(super) fn cells(service: &Service, now: Timestamp) -> Vec<Value> {
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let cluster_ip = spec.cluster_ips.iter().flatten().next().or(spec.cluster_ip.as_ref());
    vec![
        table::name(&service.metadata),
        json!(spec.kind()),
        json!(cluster_ip.map_or(table::NONE, String::as_str)),
        json!(external(service, spec)),
        json!(table::or_none(ports(spec.ports.as_deref().unwrap_or_default()))),
        table::age(&service.metadata, now),
        json!(table::labels(spec.selector.as_ref())),
    ]
}

fn external(service: &Service, spec: &ServiceSpec) -> String {
    let configured = spec.external_ips.as_deref().unwrap_or_default();
    match spec.kind() {
        "ExternalName" => spec.external_name.clone().unwrap_or_default(),
        "LoadBalancer" => {
            let mut all = ingress(service);
            all.extend(configured.iter().cloned());
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => table::or_none(configured.join(",")),
    }
}

/// The load balancer's addresses or names, sorted.
fn ingress(service: &Service) -> Vec<String> {
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let mut list: Vec<String> = status
        .into_iter()
        .flat_map(|s| s.ingress.iter().flatten())
        .filter_map(|i| i.ip.clone().or_else(|| i.hostname.clone()))
        .collect();
    list.sort();
    list.dedup();
    list
}

/// `80/TCP,443:30443/TCP`
fn ports(ports: &[ServicePort]) -> String {
    let one = |p: &ServicePort| {
        let protocol = p.protocol.as_deref().unwrap_or("TCP");
        match p.node_port {
            Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", p.port),
            _ => format!("{}/{protocol}", p.port),
        }
    };
    ports.iter().map(one).collect::<Vec<_>>().join(",")
}
