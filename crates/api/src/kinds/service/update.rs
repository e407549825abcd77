//! What a write means in the light of what is stored: allocated values that the client left out stay, both spellings
//! of the cluster IP follow each other, and a change of type drops what the new type has no use for, unless the client
//! changed it in the same write.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::SpecExt;

/// A new Service.
pub(super) fn settle_new(spec: &mut ServiceSpec) {
    drop_empty(spec);
    if spec.cluster_ips.is_none() {
        spec.cluster_ips = spec.cluster_ip.clone().map(|ip| vec![ip]);
    }
}

/// A changed Service.
pub(super) fn settle(new: &mut ServiceSpec, old: &ServiceSpec) {
    drop_empty(new);
    keep_allocated(new, old);
    sync_cluster_ips(new, old);
    drop_unused(new, old);
}

/// The addresses that a load balancer had are no longer true of another type.
pub(super) fn settle_status(service: &mut Service) {
    let is_balancer = service.spec.as_ref().is_some_and(|spec| spec.kind() == "LoadBalancer");
    if !is_balancer && let Some(status) = &mut service.status {
        status.load_balancer = Some(Default::default());
    }
}

/// An empty text or list says as little as an absent one.
fn drop_empty(spec: &mut ServiceSpec) {
    spec.cluster_ip.take_if(|ip| ip.is_empty());
    spec.cluster_ips.take_if(|ips| ips.is_empty());
    spec.ip_families.take_if(|families| families.is_empty());
    for port in spec.ports.iter_mut().flatten() {
        port.node_port.take_if(|number| *number == 0);
    }
    spec.health_check_node_port.take_if(|number| *number == 0);
}

fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if new.needs_cluster_ip() && old.needs_cluster_ip() {
        if new.cluster_ip.is_none() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.is_none() {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if new.may_have_node_ports() && old.may_have_node_ports() {
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

fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    ports(spec).iter().filter_map(|p| p.node_port).collect()
}

/// Ports are told apart by name; a number that the new Service uses elsewhere is not given twice.
fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let mut taken: BTreeSet<i32> = node_ports(old).intersection(&node_ports(new)).copied().collect();
    let held: BTreeMap<&Option<String>, i32> =
        ports(old).iter().filter_map(|p| Some((&p.name, p.node_port?))).collect();
    for port in new.ports.iter_mut().flatten().filter(|p| p.node_port.is_none()) {
        if let Some(number) = held.get(&port.name).filter(|number| taken.insert(**number)) {
            port.node_port = Some(*number);
        }
    }
}

/// Only the single field was changed: the list follows.
fn sync_cluster_ips(new: &mut ServiceSpec, old: &ServiceSpec) {
    if new.cluster_ip != old.cluster_ip && new.cluster_ips == old.cluster_ips {
        new.cluster_ips = new.cluster_ip.clone().map(|ip| vec![ip]);
    }
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
    if lost(ServiceSpec::may_have_node_ports, new) && node_ports(old).is_superset(&node_ports(new)) {
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
