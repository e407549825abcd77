//! Slices for Endpoints that people or programs wrote by hand, for Services without a selector.
//!
//! Refuses: Endpoints that say `endpointslice.kubernetes.io/skip-mirror: "true"`, and those that serve leader election.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};

use crate::Error;
use crate::endpointslice::desired::{Desired, Port, Shape, is_of_family};
use crate::endpointslice::pack::{Plan, Template, plan};
use crate::endpointslice::{MANAGED_BY, on_services, write};
use crate::kit::drive::{Again, drive};
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::store::Key;
use crate::kit::world::{SERVICE_NAME, Task, World, selector_of};

/// Endpoints and slices with this label set to `true` are left alone.
pub(crate) const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const OURS: &str = "endpointslicemirroring-controller.k8s.io";
/// Addresses mirrored of one subset, upstream's default.
const PER_SUBSET: usize = 1000;

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    on_services(world, &queue);
    let changed = Arc::clone(&queue);
    world.endpoints.listen(move |change| changed.add(change.key()));
    let slices = Arc::clone(&queue);
    world.slices.listen(move |change| {
        let meta = &change.any().metadata;
        if !change.by_us
            && meta::label(meta, MANAGED_BY) == Some(OURS)
            && let Some(service) = meta::label(meta, SERVICE_NAME)
        {
            slices.add(Key::new(meta::namespace(meta), service));
        }
    });
    let shell = Arc::clone(world);
    let work = drive("endpointslicemirroring", queue, 4, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("endpointslicemirroring", world.when_ready(work))
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let cached = world.slices_of(&key.namespace, &key.name);
    let existing = ours(cached.iter().map(|slice| slice.as_ref().clone()));
    match write::execute(world, wanted(world, key, existing)).await {
        Err(error) if error.is_stale() => {}
        result => return result.map(|()| None),
    }
    let existing = ours(write::fresh(world, key).await?.into_iter());
    write::execute(world, wanted(world, key, existing)).await?;
    Ok(None)
}

fn ours(slices: impl Iterator<Item = EndpointSlice>) -> Vec<EndpointSlice> {
    slices.filter(|slice| meta::label(&slice.metadata, MANAGED_BY) == Some(OURS)).collect()
}

fn wanted(world: &World, key: &Key, existing: Vec<EndpointSlice>) -> Plan {
    let service = world.services.get(key);
    let endpoints = world.endpoints.get(key).filter(|e| is_mirrored(e, service.as_deref()));
    match endpoints {
        Some(endpoints) => plan(&template(&endpoints), desired(&endpoints), &existing),
        None => Plan { delete: existing, ..Plan::default() },
    }
}

fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let meta = &endpoints.metadata;
    service.is_some_and(|service| selector_of(service).is_none())
        && !meta::is_deleted(meta)
        && meta::label(meta, SKIP_MIRROR) != Some("true")
        && meta::annotation(meta, LEADER).is_none()
}

fn desired(endpoints: &Endpoints) -> Desired {
    let mut desired = Desired::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready).take(PER_SUBSET) {
            let Some(family) = ["IPv4", "IPv6"].into_iter().find(|f| is_of_family(&address.ip, f)) else {
                continue;
            };
            let shape = Shape { address_type: family.to_owned(), ports: ports(subset) };
            let endpoints = desired.entry(shape).or_default();
            if !endpoints.iter().any(|e| e.addresses.first() == Some(&address.ip)) {
                endpoints.push(endpoint(address, ready));
            }
        }
    }
    desired
}

fn ports(subset: &EndpointSubset) -> Vec<Port> {
    let port = |p: &k8s_openapi::api::core::v1::EndpointPort| Port {
        name: p.name.clone().unwrap_or_default(),
        protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port: Some(p.port),
        app_protocol: p.app_protocol.clone(),
    };
    let mut ports: Vec<Port> = subset.ports.iter().flatten().map(port).collect();
    ports.sort();
    ports
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn template(endpoints: &Endpoints) -> Template {
    let name = meta::name(&endpoints.metadata).to_owned();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), OURS.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key != LAST_APPLIED && key != TRIGGER_TIME);
    Template {
        namespace: meta::namespace(&endpoints.metadata).to_owned(),
        name,
        labels,
        annotations,
        owner: meta::controlled_by(endpoints),
        families: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{EndpointPort, ServiceSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use std::collections::BTreeMap;

    fn subset(ready: &[&str], not_ready: &[&str], port: i32) -> EndpointSubset {
        let list = |ips: &[&str]| {
            Some(
                ips.iter()
                    .map(|ip| EndpointAddress { ip: (*ip).to_owned(), ..EndpointAddress::default() })
                    .collect(),
            )
        };
        EndpointSubset {
            addresses: list(ready),
            not_ready_addresses: list(not_ready),
            ports: Some(vec![EndpointPort { port, ..EndpointPort::default() }]),
        }
    }

    fn endpoints(subsets: Vec<EndpointSubset>) -> Endpoints {
        let metadata = ObjectMeta {
            name: Some("db".to_owned()),
            namespace: Some("ns".to_owned()),
            uid: Some("u".to_owned()),
            ..ObjectMeta::default()
        };
        Endpoints { metadata, subsets: Some(subsets) }
    }

    #[test]
    fn subsets_become_slices_by_family_and_ports() {
        let endpoints = endpoints(vec![
            subset(&["10.0.0.1", "fd00::1"], &["10.0.0.2"], 80),
            subset(&["10.0.0.1"], &[], 81),
            subset(&["10.0.0.1", "not an address"], &[], 80),
        ]);
        let plan = plan(&template(&endpoints), desired(&endpoints), &[]);
        let mut seen: Vec<_> = plan
            .create
            .iter()
            .map(|s| {
                let endpoints = s.endpoints.as_ref().unwrap();
                let ready = |e: &Endpoint| e.conditions.as_ref().unwrap().ready.unwrap();
                let list: Vec<_> = endpoints.iter().map(|e| (e.addresses[0].clone(), ready(e))).collect();
                (s.address_type.clone(), s.ports.as_ref().unwrap()[0].port.unwrap(), list)
            })
            .collect();
        seen.sort();
        let v4 =
            |list: &[(&str, bool)]| list.iter().map(|(ip, r)| ((*ip).to_owned(), *r)).collect::<Vec<_>>();
        assert_eq!(
            seen,
            [
                ("IPv4".to_owned(), 80, v4(&[("10.0.0.1", true), ("10.0.0.2", false)])),
                ("IPv4".to_owned(), 81, v4(&[("10.0.0.1", true)])),
                ("IPv6".to_owned(), 80, v4(&[("fd00::1", true)])),
            ]
        );
    }

    #[test]
    fn what_is_mirrored() {
        let plain = Service { spec: Some(ServiceSpec::default()), ..Service::default() };
        let selecting = Service {
            spec: Some(ServiceSpec {
                selector: Some(BTreeMap::from([("a".to_owned(), "b".to_owned())])),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        };
        let by_hand = endpoints(vec![]);
        let mut skipped = endpoints(vec![]);
        skipped.metadata.labels = Some(BTreeMap::from([(SKIP_MIRROR.to_owned(), "true".to_owned())]));
        let mut leader = endpoints(vec![]);
        leader.metadata.annotations = Some(BTreeMap::from([(LEADER.to_owned(), "{}".to_owned())]));
        assert!(is_mirrored(&by_hand, Some(&plain)));
        assert!(!is_mirrored(&by_hand, Some(&selecting)));
        assert!(!is_mirrored(&by_hand, None));
        assert!(!is_mirrored(&skipped, Some(&plain)));
        assert!(!is_mirrored(&leader, Some(&plain)));
    }
}
