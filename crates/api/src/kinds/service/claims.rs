//! What a Service wants for itself: an address of each of its families and ports from the node-port range. Values that
//! it has already are claimed by value, so that a write keeps them; what is no longer claimed is free again.

use k8s_openapi::api::core::v1::ServiceSpec;

use super::SpecExt;
use crate::addresses::Family;
use crate::field::Path;
use crate::kind::{Claim, Grant};

pub(super) fn of(spec: &ServiceSpec) -> Vec<Claim> {
    let mut claims = addresses(spec);
    let (path, ports) = (Path::new("spec"), spec.ports.as_deref().unwrap_or_default());
    for (index, port) in ports.iter().enumerate() {
        let asked = number(port.node_port);
        if wants_node_port(spec, asked) {
            claims.push(Claim::NodePort {
                exact: asked,
                field: path.child("ports").index(index).child("nodePort").to_string(),
                group: ports.iter().position(|p| p.port == port.port).unwrap_or(index),
            });
        }
    }
    if spec.needs_health_check_port() {
        claims.push(Claim::NodePort {
            exact: number(spec.health_check_node_port),
            field: "spec.healthCheckNodePort".to_owned(),
            group: ports.len(),
        });
    }
    claims
}

fn number(port: Option<i32>) -> Option<u16> {
    port.and_then(|number| u16::try_from(number).ok())
}

/// One address for each family, in their order.
fn addresses(spec: &ServiceSpec) -> Vec<Claim> {
    if !wants_addresses(spec) {
        return Vec::new();
    }
    let families = spec.ip_families.iter().flatten().filter_map(|name| Family::named(name));
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    let claim = |(index, family): (usize, Family)| Claim::ServiceIp {
        exact: ips.get(index).and_then(|ip| ip.parse().ok()),
        family,
        field: "spec.clusterIPs".to_owned(),
    };
    families.enumerate().map(claim).collect()
}

fn wants_addresses(spec: &ServiceSpec) -> bool {
    spec.needs_cluster_ip() && !spec.is_headless()
}

/// A load balancer without allocation still holds the node ports that were asked for by number.
fn wants_node_port(spec: &ServiceSpec, asked: Option<u16>) -> bool {
    spec.needs_node_ports() || (spec.may_have_node_ports() && asked.is_some())
}

/// Writes what was granted, in the order of the claims. An address that was asked for stays as it was spelled.
pub(super) fn grant(spec: &mut ServiceSpec, grants: &[Grant]) {
    let mut ports = grants.iter().filter_map(|grant| match grant {
        Grant::NodePort(number) => Some(i32::from(*number)),
        Grant::ServiceIp(_) => None,
    });
    let granted = grants.iter().filter_map(|grant| match grant {
        Grant::ServiceIp(ip) => Some(ip.to_string()),
        Grant::NodePort(_) => None,
    });
    if wants_addresses(spec) {
        let ips = spec.cluster_ips.get_or_insert_default();
        let had = ips.len();
        ips.extend(granted.skip(had));
        spec.cluster_ip = ips.first().cloned();
    }
    let claimed: Vec<bool> =
        spec.ports.iter().flatten().map(|p| wants_node_port(spec, number(p.node_port))).collect();
    let wanting = spec.ports.iter_mut().flatten().zip(claimed).filter(|(_, claimed)| *claimed);
    for (port, _) in wanting {
        port.node_port = ports.next().or(port.node_port);
    }
    if spec.needs_health_check_port() {
        spec.health_check_node_port = ports.next().or(spec.health_check_node_port);
    }
}
