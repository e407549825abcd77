//! How a Service is reached from outside: external addresses, traffic policy, load balancers.

use k8s_openapi::api::core::v1::ServiceSpec;

use crate::field::{FieldError, Path};
use crate::kinds::service::SpecExt;
use crate::{names, rules};

const BALANCERS_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn validate(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let list = path.child("externalIPs");
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        rules::endpoint_ip(&list.index(index), ip, errors);
    }
    external_traffic_policy(path, spec, errors);
    health_check_port(path, spec, errors);
    load_balancer(path, spec, errors);
}

fn external_traffic_policy(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let field = path.child("externalTrafficPolicy");
    match spec.external_traffic_policy.as_deref() {
        Some(policy) if !spec.is_external() => {
            let detail = "may only be set for externally-accessible services";
            errors.push(FieldError::invalid(field, policy, detail));
        }
        Some(policy) => rules::one_of(&field, policy, &["Cluster", "Local"], errors),
        None if spec.is_external() => errors.push(FieldError::required(field, "")),
        None => {}
    }
}

fn health_check_port(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let Some(port) = spec.health_check_node_port else { return };
    let field = path.child("healthCheckNodePort");
    if spec.needs_health_check_port() {
        rules::port(&field, port, errors);
        if spec.ports.iter().flatten().any(|one| one.node_port == Some(port)) {
            errors.push(FieldError::invalid(field, port, "provided port is already allocated"));
        }
    } else {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(field, port, detail));
    }
}

fn load_balancer(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let is_balancer = spec.kind() == "LoadBalancer";
    if let Some(ranges) = &spec.load_balancer_source_ranges {
        // The capital is upstream's.
        let field = path.child("LoadBalancerSourceRanges");
        if !is_balancer {
            errors.push(FieldError::forbidden(field, BALANCERS_ONLY));
        }
        for (index, range) in ranges.iter().enumerate() {
            rules::cidr(&field.index(index), range.trim(), errors);
        }
    }
    if spec.allocate_load_balancer_node_ports.is_some() && !is_balancer {
        errors.push(FieldError::forbidden(path.child("allocateLoadBalancerNodePorts"), BALANCERS_ONLY));
    }
    if let Some(class) = &spec.load_balancer_class {
        let field = path.child("loadBalancerClass");
        if !is_balancer {
            errors.push(FieldError::forbidden(field, BALANCERS_ONLY));
        }
        let messages = names::qualified(class);
        errors.extend(messages.into_iter().map(|m| FieldError::invalid(field, class, m)));
    }
}
