//! The rules of a Service's spec, in upstream's order and words.

pub(super) mod addresses;
mod external;
mod ports;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::SpecExt;
use crate::field::{FieldError, Path};
use crate::{names, rules};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// One day.
const AFFINITY_TIMEOUT_MAX: i32 = 86_400;

/// Everything wrong with a spec by itself.
pub(super) fn spec(spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    ports::validate(&path, spec, errors);
    by_type(&path, spec, errors);
    for (key, value) in spec.selector.iter().flatten() {
        let path = path.child("selector");
        errors.extend(names::qualified(key).into_iter().map(|m| FieldError::invalid(path, key, m)));
        errors.extend(names::label_value(value).into_iter().map(|m| FieldError::invalid(path, value, m)));
    }
    affinity(&path, spec, errors);
    addresses::validate(&path, spec, errors);
    external::validate(&path, spec, errors);
    internal_traffic_policy(&path, spec, errors);
    traffic_distribution(&path, spec, errors);
}

fn by_type(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    match spec.kind() {
        "ExternalName" => {
            if spec.cluster_ips.is_some() || spec.cluster_ip.is_some() {
                let detail = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden(path.child("clusterIPs"), detail));
            }
            // A trailing dot is allowed: it marks a full name.
            let name = spec.external_name.as_deref().unwrap_or_default();
            match name.strip_suffix('.').unwrap_or(name) {
                "" => errors.push(FieldError::required(path.child("externalName"), "")),
                trimmed => rules::subdomain(&path.child("externalName"), trimmed, errors),
            }
        }
        "NodePort" | "LoadBalancer" if spec.is_headless() => {
            let detail = format!("may not be set to 'None' for {} services", spec.kind());
            errors.push(FieldError::invalid(path.child("clusterIPs").index(0), "None", detail));
        }
        "" => errors.push(FieldError::required(path.child("type"), "")),
        kind => rules::one_of(&path.child("type"), kind, TYPES, errors),
    }
}

fn affinity(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    if affinity.is_empty() {
        errors.push(FieldError::required(path.child("sessionAffinity"), ""));
        return;
    }
    rules::one_of(&path.child("sessionAffinity"), affinity, &["ClientIP", "None"], errors);
    let path = path.child("sessionAffinityConfig");
    match (&spec.session_affinity_config, affinity) {
        (Some(_), "None") => {
            let detail = "must not be set when session affinity is None";
            errors.push(FieldError::forbidden(path, detail));
        }
        (config, "ClientIP") => {
            let timeout = config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
            let field = path.child("clientIP");
            let field = field.child("timeoutSeconds");
            match timeout {
                None => errors.push(FieldError::required(field, "")),
                Some(seconds) if seconds <= 0 || seconds > AFFINITY_TIMEOUT_MAX => {
                    let detail = "must be greater than 0 and less than 86400";
                    errors.push(FieldError::invalid(field, seconds, detail));
                }
                Some(_) => {}
            }
        }
        _ => {}
    }
}

fn internal_traffic_policy(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let field = path.child("internalTrafficPolicy");
    match spec.internal_traffic_policy.as_deref() {
        None if spec.needs_cluster_ip() => {
            errors.push(FieldError::required(field, ""));
        }
        None => {}
        Some(policy) => rules::one_of(&field, policy, &["Cluster", "Local"], errors),
    }
}

fn traffic_distribution(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    if let Some(wanted) = &spec.traffic_distribution {
        let known = &["PreferClose", "PreferSameZone", "PreferSameNode"];
        rules::one_of(&path.child("trafficDistribution"), wanted, known, errors);
    }
}

/// Everything wrong with a change.
pub(super) fn change(new: &ServiceSpec, old: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    // Addresses may come and go with the type, but not change under it.
    if new.needs_cluster_ip() && old.needs_cluster_ip() {
        addresses::validate_change(&path, new, old, errors);
    }
    if new.kind() == "LoadBalancer" && old.kind() == "LoadBalancer" {
        if new.load_balancer_class != old.load_balancer_class {
            let detail = "may not change once set";
            errors.push(FieldError::invalid(
                path.child("loadBalancerClass"),
                &new.load_balancer_class,
                detail,
            ));
        }
        let both = new.needs_health_check_port() && old.needs_health_check_port();
        if both && new.health_check_node_port != old.health_check_node_port {
            let field = path.child("healthCheckNodePort");
            errors.push(FieldError::forbidden(field, rules::IMMUTABLE));
        }
    }
}

/// Everything wrong with a status.
pub(super) fn status(service: &Service, errors: &mut Vec<FieldError>) {
    let Some(balancer) = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()) else { return };
    let (status, kind) = (Path::new("status"), service.spec.as_ref().map_or("ClusterIP", SpecExt::kind));
    let (path, list) = (status.child("loadBalancer"), balancer.ingress.as_deref().unwrap_or_default());
    let path = path.child("ingress");
    if kind != "LoadBalancer" && !list.is_empty() {
        let detail = "may only be used when `spec.type` is \"LoadBalancer\"";
        errors.push(FieldError::forbidden(path, detail));
        return;
    }
    for (index, ingress) in list.iter().enumerate() {
        let path = path.index(index);
        if let Some(ip) = &ingress.ip {
            rules::ip(&path.child("ip"), ip, errors);
        }
        match (&ingress.ip, &ingress.ip_mode) {
            (Some(_), None) => {
                errors.push(FieldError::required(path.child("ipMode"), "must be specified when `ip` is set"))
            }
            (None, Some(_)) => {
                errors.push(FieldError::forbidden(
                    path.child("ipMode"),
                    "may not be specified when `ip` is not set",
                ));
            }
            (Some(_), Some(mode)) => rules::one_of(&path.child("ipMode"), mode, &["VIP", "Proxy"], errors),
            (None, None) => {}
        }
        if let Some(hostname) = &ingress.hostname {
            rules::subdomain(&path.child("hostname"), hostname, errors);
            if hostname.parse::<std::net::IpAddr>().is_ok() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(FieldError::invalid(path.child("hostname"), hostname, detail));
            }
        }
    }
}
