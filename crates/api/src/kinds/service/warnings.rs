//! What the author of a Service is warned of: fields that do nothing together with others, and what is on its way out.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::SpecExt;
use crate::field::Path;
use crate::warnings;

const OLD_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

pub(super) fn of(service: &Service) -> Vec<String> {
    let mut said = Vec::new();
    if service.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(OLD_HINTS)) {
        said.push(format!(
            "annotation {OLD_HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let Some(spec) = &service.spec else { return said };
    let external_ips = spec.external_ips.as_deref().unwrap_or_default();
    let headless = spec.kind() == "ClusterIP" && spec.is_headless();
    if headless {
        said.extend(ignored_without_an_address(spec));
    }
    said.extend(addresses(spec));
    let is_name = spec.kind() == "ExternalName";
    if !external_ips.is_empty() && !headless && !is_name {
        said.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    if !external_ips.is_empty() && is_name {
        said.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_name && spec.external_name.is_some() {
        said.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.traffic_distribution.as_deref() == Some("PreferClose") {
        said.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
    said
}

fn ignored_without_an_address(spec: &ServiceSpec) -> impl Iterator<Item = String> {
    let affinity = spec.session_affinity.as_deref().is_some_and(|affinity| affinity != "None");
    [
        ("loadBalancerIP", spec.load_balancer_ip.is_some()),
        ("externalIPs", spec.external_ips.is_some()),
        ("SessionAffinity", affinity),
    ]
    .into_iter()
    .filter(|(_, is_set)| *is_set)
    .map(|(field, _)| format!("spec.{field} is ignored for headless services"))
}

fn addresses(spec: &ServiceSpec) -> Vec<String> {
    let (path, mut said) = (Path::new("spec"), Vec::new());
    let own = spec.cluster_ips.iter().flatten().filter(|ip| *ip != "None");
    for (index, ip) in own.enumerate() {
        said.extend(warnings::ip(&path.child("clusterIPs").index(index), ip));
    }
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        said.extend(warnings::ip(&path.child("externalIPs").index(index), ip));
    }
    if let Some(ip) = &spec.load_balancer_ip {
        said.extend(warnings::ip(&path.child("loadBalancerIP"), ip));
    }
    for (index, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        said.extend(warnings::cidr(&path.child("loadBalancerSourceRanges").index(index), range.trim()));
    }
    said
}
