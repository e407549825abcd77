//! The older Endpoints objects of Services that select pods, for those who still read them.
//!
//! Promises: upstream's packing (ports that are served by the same addresses share a subset), and its limit of 1000
//! addresses. Refuses: to touch the Endpoints of Services without a selector.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Error;
use crate::endpointslice::desired::{self, families, is_headless, is_of_family, protocol, target_port};
use crate::endpointslice::{HEADLESS, on_pods, on_services};
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::selector::Labels;
use crate::kit::store::Key;
use crate::kit::world::{Task, World, selector_of};
use crate::kit::{meta, pods};

const LIMIT: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OURS: &str = "endpoint-controller";

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    on_services(world, &queue);
    on_pods(world, &queue, desired::is_relevant);
    let changed = Arc::clone(&queue);
    world.endpoints.listen(move |change| {
        if !change.by_us {
            changed.add(change.key());
        }
    });
    let shell = Arc::clone(world);
    let work = drive("endpoints", queue, 8, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("endpoints", world.when_ready(work))
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let current = world.endpoints.get(key);
    let Some(service) = world.services.get(key) else {
        // As upstream: Endpoints that we wrote go with their Service; others were never ours.
        if let Some(gone) = current.filter(|e| meta::label(&e.metadata, MANAGED_BY) == Some(OURS)) {
            delete(world, key, &gone).await?;
        }
        return Ok(None);
    };
    let Some(selector) = selector_of(&service) else { return Ok(None) };
    let pods = world.selected_pods(&key.namespace, selector);
    let wanted = endpoints(&service, pods.iter().map(AsRef::as_ref));
    write(world, key, wanted, current.as_deref()).await?;
    Ok(None)
}

async fn delete(world: &World, key: &Key, gone: &Endpoints) -> Result<(), Error> {
    let api = world.namespaced::<Endpoints>(&key.namespace);
    let deleted = api.delete(&key.name, &meta::only_this(&gone.metadata)).await;
    unless_gone(deleted.map(|_| ()).doing(|| format!("delete Endpoints {key}")))?;
    world.endpoints.bury(key, meta::uid(&gone.metadata));
    Ok(())
}

/// Writes the object if it is not so already.
pub(crate) async fn write(
    world: &World,
    key: &Key,
    wanted: Endpoints,
    current: Option<&Endpoints>,
) -> Result<(), Error> {
    let api = world.namespaced::<Endpoints>(&key.namespace);
    let Some(current) = current else {
        let created = api.create(&wanted).await;
        match created.doing(|| format!("create Endpoints {key}")) {
            Ok(created) => world.endpoints.wrote(created),
            Err(error) if error.is_namespace_terminating() => {}
            Err(error) => return Err(error),
        }
        return Ok(());
    };
    let mut next = current.clone();
    next.subsets = wanted.subsets;
    next.metadata.labels = wanted.metadata.labels;
    let annotations = next.metadata.annotations.get_or_insert_default();
    annotations.remove(OVER_CAPACITY);
    annotations.extend(wanted.metadata.annotations.unwrap_or_default());
    if annotations.is_empty() {
        next.metadata.annotations = None;
    }
    if same(&next, current) {
        return Ok(());
    }
    let replaced = api.replace(&key.name, &next).await;
    world.endpoints.wrote(replaced.doing(|| format!("update Endpoints {key}"))?);
    Ok(())
}

fn same(a: &Endpoints, b: &Endpoints) -> bool {
    let filled =
        |m: &ObjectMeta| (m.labels.clone().unwrap_or_default(), m.annotations.clone().unwrap_or_default());
    a.subsets.as_deref().unwrap_or_default() == b.subsets.as_deref().unwrap_or_default()
        && filled(&a.metadata) == filled(&b.metadata)
}

/// The Endpoints of a Service.
fn endpoints<'a>(service: &Service, pods: impl Iterator<Item = &'a Pod>) -> Endpoints {
    let spec = service.spec.clone().unwrap_or_default();
    let mut by_port = ByPort::new();
    for pod in pods {
        collect(service, &spec, pod, &mut by_port);
    }
    let (subsets, truncated) = truncate(repack(by_port));
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.to_owned(), OURS.to_owned());
    if is_headless(&spec) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let noted = truncated.then(|| Labels::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())]));
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: noted,
            ..ObjectMeta::default()
        },
        subsets: Some(subsets),
    }
}

/// A port as it can be sorted: name, number, protocol, application protocol.
type PortKey = (String, i32, String, Option<String>);
/// The addresses behind each port; `None` for a headless Service without ports. An address is ready or not.
type ByPort = BTreeMap<Option<PortKey>, BTreeMap<AddressKey, (EndpointAddress, bool)>>;
/// An address and the UID behind it.
type AddressKey = (Vec<u8>, String);

fn collect(service: &Service, spec: &ServiceSpec, pod: &Pod, by_port: &mut ByPort) {
    let tolerant = spec.publish_not_ready_addresses == Some(true);
    if pods::is_terminal(pod) || (pods::is_terminating(pod) && !tolerant) {
        return;
    }
    let Some(address) = address(service, spec, pod) else { return };
    let ready = tolerant || pods::is_ready(pod);
    let key = (sortable(&address.ip), meta::uid(&pod.metadata).to_owned());
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && is_headless(spec) {
        by_port.entry(None).or_default().insert(key, (address, ready));
        return;
    }
    for port in ports {
        let Some(number) = target_port(port, pod) else { continue };
        let name = port.name.clone().unwrap_or_default();
        let port = (name, number, protocol(port).to_owned(), port.app_protocol.clone());
        by_port.entry(Some(port)).or_default().insert(key.clone(), (address.clone(), ready));
    }
}

/// Endpoints know one family only: the Service's first.
fn address(service: &Service, spec: &ServiceSpec, pod: &Pod) -> Option<EndpointAddress> {
    let family = families(spec).into_iter().next()?;
    let ip = pods::addresses(pod).into_iter().find(|ip| is_of_family(ip, &family))?;
    Some(EndpointAddress {
        ip: ip.to_owned(),
        hostname: desired::hostname(service, pod),
        node_name: pods::node(pod).map(str::to_owned),
        target_ref: Some(desired::target_ref(pod)),
    })
}

fn sortable(ip: &str) -> Vec<u8> {
    match ip.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => ip.octets().to_vec(),
        Ok(std::net::IpAddr::V6(ip)) => ip.octets().to_vec(),
        Err(_) => ip.as_bytes().to_vec(),
    }
}

/// Ports that the same addresses serve go into one subset.
fn repack(by_port: ByPort) -> Vec<EndpointSubset> {
    type Shared = (Vec<EndpointAddress>, Vec<Option<PortKey>>);
    let mut by_addresses: BTreeMap<Vec<(AddressKey, bool)>, Shared> = BTreeMap::new();
    for (port, addresses) in by_port {
        let key: Vec<_> = addresses.iter().map(|(key, (_, ready))| (key.clone(), *ready)).collect();
        let values = || addresses.into_values().map(|(address, _)| address).collect();
        by_addresses.entry(key).or_insert_with(|| (values(), Vec::new())).1.push(port);
    }
    by_addresses.into_iter().map(|(key, (addresses, ports))| subset(&key, addresses, ports)).collect()
}

fn subset(
    key: &[(AddressKey, bool)],
    addresses: Vec<EndpointAddress>,
    ports: Vec<Option<PortKey>>,
) -> EndpointSubset {
    let (ready, not_ready): (Vec<_>, Vec<_>) =
        addresses.into_iter().zip(key).partition(|(_, (_, ready))| *ready);
    let only = |list: Vec<(EndpointAddress, _)>| -> Option<Vec<EndpointAddress>> {
        let addresses: Vec<_> = list.into_iter().map(|(address, _)| address).collect();
        Some(addresses).filter(|a| !a.is_empty())
    };
    let ports: Vec<EndpointPort> = ports.into_iter().flatten().map(port).collect();
    EndpointSubset {
        addresses: only(ready),
        not_ready_addresses: only(not_ready),
        ports: Some(ports).filter(|p| !p.is_empty()),
    }
}

fn port((name, port, protocol, app_protocol): PortKey) -> EndpointPort {
    EndpointPort { name: Some(name).filter(|n| !n.is_empty()), port, protocol: Some(protocol), app_protocol }
}

/// At most [`LIMIT`] distinct addresses; ready ones are kept first.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let count = |subset: &EndpointSubset| {
        subset.addresses.as_ref().map_or(0, Vec::len)
            + subset.not_ready_addresses.as_ref().map_or(0, Vec::len)
    };
    if subsets.iter().map(count).sum::<usize>() <= LIMIT {
        return (subsets, false);
    }
    let mut kept: BTreeSet<String> = BTreeSet::new();
    let mut keep = |list: &mut Option<Vec<EndpointAddress>>| {
        let Some(addresses) = list else { return };
        addresses.retain(|address| {
            kept.contains(&address.ip) || (kept.len() < LIMIT && kept.insert(address.ip.clone()))
        });
        if addresses.is_empty() {
            *list = None;
        }
    };
    subsets.iter_mut().for_each(|subset| keep(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| keep(&mut subset.not_ready_addresses));
    let before = subsets.len();
    subsets.retain(|subset| count(subset) > 0);
    let truncated = kept.len() == LIMIT || subsets.len() < before;
    (subsets, truncated)
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
