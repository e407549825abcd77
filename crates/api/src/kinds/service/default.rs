//! What a Service gets when the client says nothing, independent of any stored object.

use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::SpecExt;

/// Three hours.
const AFFINITY_TIMEOUT: i32 = 10_800;

pub(super) fn apply(service: &mut Service) {
    let spec = service.spec.get_or_insert_default();
    spec.session_affinity.get_or_insert_with(|| "None".to_owned());
    spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
    affinity(spec);
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if spec.is_external() {
        spec.external_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if spec.needs_cluster_ip() {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if spec.kind() == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
    load_balancer_ip_mode(service);
}

fn affinity(spec: &mut ServiceSpec) {
    match spec.session_affinity.as_deref() {
        Some("None") => spec.session_affinity_config = None,
        Some("ClientIP") => {
            let config: &mut SessionAffinityConfig = spec.session_affinity_config.get_or_insert_default();
            let client: &mut ClientIPConfig = config.client_ip.get_or_insert_default();
            client.timeout_seconds.get_or_insert(AFFINITY_TIMEOUT);
        }
        _ => {}
    }
}

fn load_balancer_ip_mode(service: &mut Service) {
    let status = service.status.as_mut().and_then(|s| s.load_balancer.as_mut());
    for ingress in status.into_iter().flat_map(|s| s.ingress.iter_mut().flatten()) {
        if ingress.ip.is_some() {
            ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
        }
    }
}
