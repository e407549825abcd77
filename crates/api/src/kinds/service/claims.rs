//! What a Service wants for itself: an address from the service range and ports from the node-port range. Values that
//! it has already are claimed by value, so that a write keeps them; what is no longer claimed is free again.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;

use super::SpecExt;
use crate::field::Path;
use crate::kind::{Claim, Grant};

pub(super) fn of(spec: &ServiceSpec) -> Vec<Claim> {
    let mut claims = Vec::new();
    if spec.needs_cluster_ip() && !spec.is_headless() {
        let asked = spec.cluster_ips.iter().flatten().next().or(spec.cluster_ip.as_ref());
        claims.push(Claim::ServiceIp {
            exact: asked.and_then(|ip| ip.parse::<IpAddr>().ok()),
            field: "spec.clusterIPs".to_owned(),
        });
    }
    let (path, ports) = (Path::new("spec"), spec.ports.as_deref().unwrap_or_default());
    for (index, port) in ports.iter().enumerate() {
        let asked = port.node_port.and_then(|n| u16::try_from(n).ok());
        if wants_node_port(spec, asked) {
            claims.push(Claim::NodePort {
                exact: asked,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                field: path.child("ports").index(index).child("nodePort").to_string(),
                group: ports.iter().position(|p| p.port == port.port).unwrap_or(index),
            });
        }
    }
    if spec.needs_health_check_port() {
        claims.push(Claim::NodePort {
            exact: spec.health_check_node_port.and_then(|n| u16::try_from(n).ok()),
            protocol: "TCP".to_owned(),
            field: "spec.healthCheckNodePort".to_owned(),
            group: ports.len(),
        });
    }
    claims
}

/// A load balancer without allocation still holds the node ports that were asked for by number.
fn wants_node_port(spec: &ServiceSpec, asked: Option<u16>) -> bool {
    spec.needs_node_ports() || (spec.may_have_node_ports() && asked.is_some())
}

/// Writes what was granted, in the order of the claims.
pub(super) fn grant(spec: &mut ServiceSpec, grants: &[Grant]) {
    let mut grants = grants.iter();
    if spec.needs_cluster_ip()
        && !spec.is_headless()
        && let Some(Grant::ServiceIp(ip)) = grants.next()
    {
        spec.cluster_ip = Some(ip.to_string());
        spec.cluster_ips = Some(vec![ip.to_string()]);
    }
    let claims: Vec<bool> = spec
        .ports
        .iter()
        .flatten()
        .map(|p| wants_node_port(spec, p.node_port.and_then(|n| u16::try_from(n).ok())))
        .collect();
    for (port, claimed) in spec.ports.iter_mut().flatten().zip(claims) {
        if claimed && let Some(Grant::NodePort(number)) = grants.next() {
            port.node_port = Some(i32::from(*number));
        }
    }
    if spec.needs_health_check_port()
        && let Some(Grant::NodePort(number)) = grants.next()
    {
        spec.health_check_node_port = Some(i32::from(*number));
    }
}
