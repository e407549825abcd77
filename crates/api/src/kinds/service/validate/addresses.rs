//! A Service's own addresses and their families: what may stand beside each other, and what may change.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;

use crate::addresses::Family;
use crate::field::{FieldError, Path};
use crate::kinds::service::SpecExt;
use crate::rules;

const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
const ONCE_SET: &str = "may not change once set";

/// What is wrong with the addresses by themselves.
pub(in crate::kinds::service) fn validate(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    if !spec.needs_cluster_ip() {
        unset(path, spec, errors);
        return;
    }
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    singular(&path.child("clusterIPs"), spec, ips, errors);
    families(path, spec, errors);
    let before = errors.len();
    let parsed = each(&path.child("clusterIPs"), ips, errors);
    let is_clean = errors.len() == before;
    if ips.len() > 2 {
        errors.push(FieldError::invalid(path.child("clusterIPs"), ips, "may only hold up to 2 values"));
    }
    if is_clean {
        together(&path.child("clusterIPs"), spec, (ips, &parsed), errors);
    }
}

/// An external name has no addresses.
fn unset(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let fields =
        [("ipFamilies", spec.ip_families.is_some()), ("ipFamilyPolicy", spec.ip_family_policy.is_some())];
    for (field, _) in fields.into_iter().filter(|(_, is_set)| *is_set && spec.kind() == "ExternalName") {
        let detail = "may not be set for ExternalName services";
        errors.push(FieldError::forbidden(path.child(field), detail));
    }
}

/// The single field and the list speak of the same address.
fn singular(path: &Path<'_>, spec: &ServiceSpec, ips: &[String], errors: &mut Vec<FieldError>) {
    match (spec.cluster_ip.as_ref(), ips.first()) {
        (Some(_), None) => errors.push(FieldError::required(path, "")),
        (Some(ip), Some(first)) if ip != first => {
            errors.push(FieldError::invalid(path, ips, "first value must match `clusterIP`"));
        }
        (None, Some(_)) => {
            errors.push(FieldError::invalid(path, ips, "must be empty when `clusterIP` is not specified"));
        }
        _ => {}
    }
}

fn families(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let list = path.child("ipFamilies");
    for (index, family) in families.iter().enumerate() {
        rules::one_of(&list.index(index), family, FAMILIES, errors);
        if families[..index].contains(family) {
            errors.push(FieldError::duplicate(list.index(index), family));
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        rules::one_of(&path.child("ipFamilyPolicy"), policy, POLICIES, errors);
    }
}

/// The addresses of a list; `None` alone is no address, and no mistake.
fn each(path: &Path<'_>, ips: &[String], errors: &mut Vec<FieldError>) -> Vec<Option<IpAddr>> {
    let mut parsed = Vec::with_capacity(ips.len());
    for (index, ip) in ips.iter().enumerate() {
        if index == 0 && ip == "None" {
            if ips.len() > 1 {
                let detail = "'None' must be the first and only value";
                errors.push(FieldError::invalid(path, ips, detail));
            }
            parsed.push(None);
        } else {
            parsed.push(rules::ip(&path.index(index), ip, errors));
        }
    }
    parsed
}

/// One address of each family, in the order of the families.
fn together(
    path: &Path<'_>,
    spec: &ServiceSpec,
    (ips, parsed): (&[String], &[Option<IpAddr>]),
    errors: &mut Vec<FieldError>,
) {
    let of: Vec<Option<Family>> = parsed.iter().map(|ip| ip.map(Family::of)).collect();
    if of.len() > 1 && (of.len() > 2 || of[0] == of[1]) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, ips, detail));
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    for (index, (is, name)) in of.iter().zip(families).enumerate() {
        if let (Some(is), Some(wanted)) = (is, Family::named(name))
            && *is != wanted
        {
            let detail = format!("expected an {wanted} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(path.index(index), &ips[index], detail));
        }
    }
}

/// What is wrong with a change: the first address and its family stay for good, the second may come and go. That it goes only
/// with a policy that says so has been seen to before (`families`).
pub(super) fn validate_change(
    path: &Path<'_>,
    new: &ServiceSpec,
    old: &ServiceSpec,
    errors: &mut Vec<FieldError>,
) {
    if !(new.is_headless() && old.is_headless()) {
        changed_ips(path, new, old, errors);
    }
    if !new.is_headless() && !old.is_headless() {
        changed_families(path, new, old, errors);
    }
}

fn changed_ips(path: &Path<'_>, new: &ServiceSpec, old: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let (had, has) =
        (old.cluster_ips.as_deref().unwrap_or_default(), new.cluster_ips.as_deref().unwrap_or_default());
    let list = path.child("clusterIPs");
    if has.is_empty() && !had.is_empty() {
        errors.push(FieldError::invalid(list.index(0), has, "primary clusterIP can not be unset"));
    }
    // Where the number changes, only what stays is held against what was.
    let compared = if had.len() == has.len() { had.len() } else { 1 };
    for (index, _) in had.iter().zip(has).take(compared).enumerate().filter(|(_, (had, has))| had != has) {
        errors.push(FieldError::invalid(list.index(index), has, ONCE_SET));
    }
}

fn changed_families(path: &Path<'_>, new: &ServiceSpec, old: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let (had, has) =
        (old.ip_families.as_deref().unwrap_or_default(), new.ip_families.as_deref().unwrap_or_default());
    let first = path.child("ipFamilies");
    let first = first.index(0);
    if has.is_empty() && !had.is_empty() {
        errors.push(FieldError::invalid(first, has, "primary ipFamily can not be unset"));
    }
    let compared = if had.len() == has.len() { had.len() } else { 1 };
    for _ in had.iter().zip(has).take(compared).filter(|(had, has)| had != has) {
        errors.push(FieldError::invalid(first, has, ONCE_SET));
    }
}
