//! A pod's spec, wherever it stands: in a Pod, or in the template of what makes pods.

mod container;
mod default;
mod probe;
mod scheduling;
mod volume;
pub(crate) mod warn;

pub(crate) use default::{apply as default, requests as default_requests};

use k8s_openapi::api::core::v1::PodSpec;

use crate::field::{FieldError, Path};
use crate::{metadata, rules};

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

/// Everything wrong with a pod's spec.
pub(crate) fn validate(path: &Path<'_>, spec: &PodSpec, errors: &mut Vec<FieldError>) {
    let volumes =
        volume::validate(&path.child("volumes"), spec.volumes.as_deref().unwrap_or_default(), errors);
    container::validate_all(path, spec, &volumes, errors);
    match spec.restart_policy.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required(path.child("restartPolicy"), "")),
        policy => rules::one_of(&path.child("restartPolicy"), policy, RESTART_POLICIES, errors),
    }
    dns(path, spec, errors);
    metadata::labels(&path.child("nodeSelector"), spec.node_selector.as_ref(), errors);
    names(path, spec, errors);
    limits_in_time(path, spec, errors);
    let hosts = path.child("hostAliases");
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = hosts.index(index);
        rules::ip(&path.child("ip"), &alias.ip, errors);
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            rules::subdomain(&path.child("hostnames").index(index), name, errors);
        }
    }
    scheduling::validate(path, spec, errors);
}

fn dns(path: &Path<'_>, spec: &PodSpec, errors: &mut Vec<FieldError>) {
    let policy = spec.dns_policy.as_deref().unwrap_or_default();
    if policy.is_empty() {
        errors.push(FieldError::required(path.child("dnsPolicy"), ""));
    } else {
        rules::one_of(&path.child("dnsPolicy"), policy, DNS_POLICIES, errors);
    }
    let path = path.child("dnsConfig");
    let servers_path = path.child("nameservers");
    let servers = spec.dns_config.as_ref().and_then(|c| c.nameservers.as_deref()).unwrap_or_default();
    if policy == "None" && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(servers_path, detail));
    }
    if servers.len() > 3 {
        errors.push(FieldError::invalid(servers_path, servers, "must not have more than 3 nameservers"));
    }
    for (index, server) in servers.iter().enumerate() {
        rules::ip(&servers_path.index(index), server, errors);
    }
    let searches = spec.dns_config.as_ref().and_then(|c| c.searches.as_deref()).unwrap_or_default();
    if searches.len() > 32 {
        let detail = "must not have more than 32 search paths";
        errors.push(FieldError::invalid(path.child("searches"), searches, detail));
    }
}

fn names(path: &Path<'_>, spec: &PodSpec, errors: &mut Vec<FieldError>) {
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name {
            rules::label(&path.child(field), name, errors);
        }
    }
    for (field, name) in [
        ("nodeName", &spec.node_name),
        ("serviceAccountName", &spec.service_account_name),
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ] {
        if let Some(name) = name {
            rules::subdomain(&path.child(field), name, errors);
        }
    }
    let secrets = path.child("imagePullSecrets");
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if secret.name.is_empty() {
            errors.push(FieldError::required(secrets.index(index).child("name"), ""));
        }
    }
}

fn limits_in_time(path: &Path<'_>, spec: &PodSpec, errors: &mut Vec<FieldError>) {
    let grace = spec.termination_grace_period_seconds;
    rules::not_negative(&path.child("terminationGracePeriodSeconds"), grace, errors);
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let detail = format!("must be between 1 and {}, inclusive", i32::MAX);
        errors.push(FieldError::invalid(path.child("activeDeadlineSeconds"), seconds, detail));
    }
}
