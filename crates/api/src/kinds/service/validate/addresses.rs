//! A Service's own addresses: cluster IPs and their families. One IPv4 range is what the cluster has.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;

use crate::field::{FieldError, Path};
use crate::kinds::service::SpecExt;
use crate::rules;

pub(super) fn validate(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    if !spec.needs_cluster_ip() {
        for (field, is_set) in
            [("ipFamilies", spec.ip_families.is_some()), ("ipFamilyPolicy", spec.ip_family_policy.is_some())]
        {
            if is_set && spec.kind() == "ExternalName" {
                let detail = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden(path.child(field), detail));
            }
        }
        return;
    }
    let before = errors.len();
    cluster_ips(path, spec, errors);
    if errors.len() == before {
        families(path, spec, errors);
    }
}

fn cluster_ips(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let path = path.child("clusterIPs");
    let Some(ips) = spec.cluster_ips.as_ref().filter(|ips| !ips.is_empty()) else { return };
    let mut refuse = |detail: &str| errors.push(FieldError::invalid(path, ips, detail));
    match &spec.cluster_ip {
        None => refuse("must be empty when `clusterIP` is not specified"),
        Some(ip) if Some(ip) != ips.first() => refuse("first value must match `clusterIP`"),
        Some(_) => {}
    }
    if ips.len() > 1 && ips.iter().any(|ip| ip == "None") {
        refuse("'None' must be the first and only value");
        return;
    }
    if ips.len() > 2 {
        refuse("may only hold up to 2 values");
    }
    if ips[0] == "None" {
        return;
    }
    let parsed: Vec<Option<IpAddr>> =
        ips.iter().enumerate().map(|(i, ip)| rules::ip(&path.index(i), ip, errors)).collect();
    if let [Some(first), Some(second)] = parsed[..]
        && first.is_ipv4() == second.is_ipv4()
    {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, ips, detail));
    }
    if let Some(index) = parsed.iter().position(|ip| ip.is_some_and(|ip| ip.is_ipv6())) {
        let detail = "IPv6 is not configured on this cluster";
        errors.push(FieldError::invalid(path.index(index), ips, detail));
    }
}

fn families(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let list = path.child("ipFamilies");
    for (index, family) in families.iter().enumerate() {
        rules::one_of(&list.index(index), family, &["IPv4", "IPv6"], errors);
        if families[..index].contains(family) {
            errors.push(FieldError::duplicate(list.index(index), family));
        }
    }
    if families.len() > 2 {
        errors.push(FieldError::invalid(list, families, "may only hold up to 2 values"));
    }
    let policies = &["SingleStack", "PreferDualStack", "RequireDualStack"];
    if let Some(policy) = &spec.ip_family_policy {
        rules::one_of(&path.child("ipFamilyPolicy"), policy, policies, errors);
    }
    // Nothing is allocated for them, so they may name families that the cluster does not have.
    let is_free = spec.is_headless() && spec.selector.as_ref().is_none_or(|s| s.is_empty());
    if is_free {
        return;
    }
    if let Some(index) = families.iter().position(|f| f == "IPv6") {
        errors.push(FieldError::invalid(list.index(index), "IPv6", "not configured on this cluster"));
    }
    if spec.ip_family_policy.as_deref() == Some("RequireDualStack") {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(path.child("ipFamilyPolicy"), "RequireDualStack", detail));
    }
}

/// The first address, once given, stays; so does its family.
pub(super) fn validate_change(
    path: &Path<'_>,
    new: &ServiceSpec,
    old: &ServiceSpec,
    errors: &mut Vec<FieldError>,
) {
    let first = |list: &Option<Vec<String>>| list.as_ref().and_then(|list| list.first().cloned());
    let list = path.child("clusterIPs");
    let (had, has) = (first(&old.cluster_ips), first(&new.cluster_ips));
    let detail = "may not change once set";
    match (had, has) {
        (Some(had), Some(has)) if had != has => {
            errors.push(FieldError::invalid(list.index(0), &new.cluster_ips, detail));
        }
        (Some(_), None) => {
            let detail = "primary clusterIP can not be unset";
            errors.push(FieldError::invalid(list.index(0), "", detail));
        }
        _ => {}
    }
    let (had, has) = (first(&old.ip_families), first(&new.ip_families));
    if had.is_some() && had != has {
        let field = path.child("ipFamilies");
        errors.push(FieldError::invalid(field.index(0), &new.ip_families, detail));
    }
}
