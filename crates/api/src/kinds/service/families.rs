//! The address families of a Service, in the light of what the cluster has: upstream's defaults, and the ways up to two
//! families and back down to one. A Service that only prefers two keeps what it has when the cluster changes.
//!
//! What cannot be had is an error here, before validation; afterwards `ipFamilies` says which addresses to give.

use k8s_openapi::api::core::v1::ServiceSpec;

use super::{SpecExt, validate};
use crate::addresses::{Cluster, Family};
use crate::field::{FieldError, Path};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Fills in families and policy; returns what cannot be had.
pub(super) fn settle(new: &mut ServiceSpec, old: Option<&ServiceSpec>, cluster: &Cluster) -> Vec<FieldError> {
    if !new.needs_cluster_ip() || old.is_some_and(|old| is_unchanged_preference(new, old)) {
        return Vec::new();
    }
    default_policy(new, old);
    let mut errors = Vec::new();
    let path = Path::new("spec");
    validate::addresses::validate(&path, new, &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    if let Some(old) = old {
        go_down(&path, new, old, &mut errors);
    }
    refuse_contradictions(&path, new, &mut errors);
    infer(&path, new, cluster, &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    if new.is_headless() && new.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
        settle_free(new, cluster);
        return errors;
    }
    settle_bound(&path, new, cluster, &mut errors);
    errors
}

fn policy(spec: &ServiceSpec) -> &str {
    spec.ip_family_policy.as_deref().unwrap_or_default()
}

fn families(spec: &ServiceSpec) -> &[String] {
    spec.ip_families.as_deref().unwrap_or_default()
}

fn ips(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}

/// The same preference for two families as before, with the same addresses: left alone, even where the cluster could
/// now do more, or less.
fn is_unchanged_preference(new: &ServiceSpec, old: &ServiceSpec) -> bool {
    new.kind() == old.kind()
        && policy(new) == PREFER
        && policy(old) == PREFER
        && ips(new) == ips(old)
        && families(new) == families(old)
}

fn default_policy(new: &mut ServiceSpec, old: Option<&ServiceSpec>) {
    if new.ip_family_policy.is_some() {
        return;
    }
    let before = old.and_then(|old| old.ip_family_policy.clone());
    let is_free = new.is_headless() && new.selector.as_ref().is_none_or(|selector| selector.is_empty());
    let usual = if is_free { REQUIRE } else { SINGLE };
    new.ip_family_policy = Some(before.unwrap_or_else(|| usual.to_owned()));
}

/// Asking for a single family is enough to give up the second; giving it up without asking is a mistake.
fn go_down(path: &Path<'_>, new: &mut ServiceSpec, old: &ServiceSpec, errors: &mut Vec<FieldError>) {
    if policy(new) == SINGLE {
        if ips(new) == ips(old)
            && let Some(list) = &mut new.cluster_ips
        {
            list.truncate(1);
        }
        if families(new) == families(old)
            && let Some(list) = &mut new.ip_families
        {
            list.truncate(1);
        }
        return;
    }
    let fewer = |new: &[String], old: &[String]| !new.is_empty() && new.len() < old.len();
    for (is_fewer, what) in [
        (fewer(ips(new), ips(old)), "secondary cluster IP"),
        (fewer(families(new), families(old)), "secondary IP family"),
    ] {
        if is_fewer {
            let detail = format!("must be 'SingleStack' to release the {what}");
            errors.push(FieldError::invalid(path.child("ipFamilyPolicy"), &new.ip_family_policy, detail));
        }
    }
}

fn refuse_contradictions(path: &Path<'_>, new: &ServiceSpec, errors: &mut Vec<FieldError>) {
    if policy(new) != SINGLE {
        return;
    }
    for (count, what) in [(ips(new).len(), "cluster IPs"), (families(new).len(), "IP families")] {
        if count == 2 {
            let detail =
                format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.push(FieldError::invalid(path.child("ipFamilyPolicy"), &new.ip_family_policy, detail));
        }
    }
}

/// Families that are not listed follow from the addresses that are.
fn infer(path: &Path<'_>, new: &mut ServiceSpec, cluster: &Cluster, errors: &mut Vec<FieldError>) {
    if new.is_headless() {
        return;
    }
    let listed = families(new).len();
    for (index, ip) in ips(new).to_vec().iter().enumerate().skip(listed) {
        let Ok(family) = ip.parse().map(Family::of) else { continue };
        if cluster.families().contains(&family) {
            new.ip_families.get_or_insert_default().push(family.name().to_owned());
        } else {
            let field = path.child("clusterIPs");
            let detail = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(field.index(index), &new.cluster_ips, detail));
        }
    }
}

/// A headless Service without selector gets no addresses and no endpoints of ours: it may name any families.
fn settle_free(new: &mut ServiceSpec, cluster: &Cluster) {
    let wants_two = policy(new) != SINGLE;
    fill(new, cluster, wants_two);
}

/// All others have what the cluster has.
fn settle_bound(path: &Path<'_>, new: &mut ServiceSpec, cluster: &Cluster, errors: &mut Vec<FieldError>) {
    if policy(new) == REQUIRE && !cluster.is_dual() {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(path.child("ipFamilyPolicy"), &new.ip_family_policy, detail));
    }
    let list = path.child("ipFamilies");
    for (index, name) in families(new).iter().enumerate() {
        if Family::named(name).is_none_or(|family| !cluster.families().contains(&family)) {
            errors.push(FieldError::invalid(list.index(index), name, "not configured on this cluster"));
        }
    }
    if errors.is_empty() {
        let wants_two = policy(new) != SINGLE && cluster.is_dual();
        fill(new, cluster, wants_two);
    }
}

/// The usual family where none is listed, and the other one where two are wanted.
fn fill(new: &mut ServiceSpec, cluster: &Cluster, wants_two: bool) {
    let usual = cluster.families().first().copied().unwrap_or(Family::V4);
    let list = new.ip_families.get_or_insert_default();
    if list.is_empty() {
        list.push(usual.name().to_owned());
    }
    if let ([only], true) = (list.as_slice(), wants_two) {
        let other = Family::named(only).unwrap_or(usual).other();
        list.push(other.name().to_owned());
    }
}
