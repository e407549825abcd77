//! What a write means in the light of what is stored: allocated values that the client left out stay, both spellings
//! of the cluster IP follow each other, and a change of type drops what the new type has no use for, unless the client
//! changed it in the same write.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

use super::SpecExt;

/// A new Service.
pub(super) fn settle_new(spec: &mut ServiceSpec) {
    if spec.cluster_ips.is_none() {
        spec.cluster_ips = spec.cluster_ip.clone().map(|ip| vec![ip]);
    }
    families(spec);
}

/// A changed Service.
pub(super) fn settle(new: &mut ServiceSpec, old: &ServiceSpec) {
    keep_allocated(new, old);
    sync_cluster_ips(new, old);
    drop_unused(new, old);
    families(new);
}

fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if new.needs_cluster_ip() && old.needs_cluster_ip() {
        if new.cluster_ip.is_none() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.is_none() && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if new.needs_node_ports() && old.needs_node_ports() {
        keep_node_ports(new, old);
    }
    if new.needs_health_check_port() && old.needs_health_check_port() && new.health_check_node_port.is_none()
    {
        new.health_check_node_port = old.health_check_node_port;
    }
}

fn ports(spec: &ServiceSpec) -> &[ServicePort] {
    spec.ports.as_deref().unwrap_or_default()
}

/// Ports are told apart by name; a number that the new Service uses elsewhere is not given twice.
fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let used =
        |spec: &ServiceSpec| -> BTreeSet<i32> { ports(spec).iter().filter_map(|p| p.node_port).collect() };
    let mut taken: BTreeSet<i32> = used(old).intersection(&used(new)).copied().collect();
    let held: BTreeMap<&Option<String>, i32> =
        ports(old).iter().filter_map(|p| Some((&p.name, p.node_port?))).collect();
    for port in new.ports.iter_mut().flatten().filter(|p| p.node_port.is_none()) {
        if let Some(number) = held.get(&port.name).filter(|number| taken.insert(**number)) {
            port.node_port = Some(*number);
        }
    }
}

fn sync_cluster_ips(new: &mut ServiceSpec, old: &ServiceSpec) {
    let same_list = new.cluster_ips == old.cluster_ips;
    if new.cluster_ip == old.cluster_ip || !same_list {
        if new.cluster_ips.is_none() {
            new.cluster_ips = new.cluster_ip.clone().map(|ip| vec![ip]);
        }
        return;
    }
    // Only the single field was changed: the list follows.
    new.cluster_ips = match (&new.cluster_ip, new.cluster_ips.take()) {
        (None, _) => None,
        (Some(ip), None) => Some(vec![ip.clone()]),
        (Some(ip), Some(mut list)) => {
            if let Some(first) = list.first_mut() {
                first.clone_from(ip);
            }
            Some(list)
        }
    };
}

fn drop_unused(new: &mut ServiceSpec, old: &ServiceSpec) {
    let lost = |needs: fn(&ServiceSpec) -> bool, new: &ServiceSpec| needs(old) && !needs(new);
    if lost(ServiceSpec::needs_cluster_ip, new) {
        if new.cluster_ip == old.cluster_ip && new.cluster_ips == old.cluster_ips {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        drop_if_same(&mut new.ip_families, &old.ip_families);
        drop_if_same(&mut new.ip_family_policy, &old.ip_family_policy);
        drop_if_same(&mut new.internal_traffic_policy, &old.internal_traffic_policy);
    }
    if lost(ServiceSpec::may_have_node_ports, new) && same_node_ports(new, old) {
        for port in new.ports.iter_mut().flatten() {
            port.node_port = None;
        }
    }
    if lost(ServiceSpec::needs_health_check_port, new) {
        drop_if_same(&mut new.health_check_node_port, &old.health_check_node_port);
    }
    if lost(|spec| spec.kind() == "LoadBalancer", new) {
        drop_if_same(&mut new.allocate_load_balancer_node_ports, &old.allocate_load_balancer_node_ports);
        drop_if_same(&mut new.load_balancer_class, &old.load_balancer_class);
    }
    if lost(ServiceSpec::is_external, new) {
        drop_if_same(&mut new.external_traffic_policy, &old.external_traffic_policy);
    }
}

fn drop_if_same<T: PartialEq>(new: &mut Option<T>, old: &Option<T>) {
    if new == old {
        *new = None;
    }
}

fn same_node_ports(new: &ServiceSpec, old: &ServiceSpec) -> bool {
    let numbers =
        |spec: &ServiceSpec| -> BTreeSet<i32> { ports(spec).iter().filter_map(|p| p.node_port).collect() };
    numbers(new) == numbers(old)
}

/// The address families. With one range there is little to choose: IPv4, and what the client asks for beyond it is
/// left for validation to refuse. A headless Service without selector may list both, since nothing is allocated.
fn families(spec: &mut ServiceSpec) {
    if !spec.needs_cluster_ip() {
        return;
    }
    let selectorless = spec.selector.as_ref().is_none_or(|s| s.is_empty());
    if spec.is_headless() && selectorless && spec.ip_families.is_none() && spec.ip_family_policy.is_none() {
        spec.ip_families = Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]);
        spec.ip_family_policy = Some("RequireDualStack".to_owned());
        return;
    }
    let first_is_v6 =
        spec.cluster_ips.iter().flatten().next().is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    spec.ip_families.get_or_insert_with(|| vec![if first_is_v6 { "IPv6" } else { "IPv4" }.to_owned()]);
    spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned());
}
