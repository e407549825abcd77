//! What a cluster has from its first moment: namespaces, the range of service addresses, the API server's own Service, and
//! the DNS Service.
//!
//! Promises: each of them comes back when it is deleted or changed. The DNS is answered on every node at the first
//! address of its pod range, so that `kube-system/kube-dns` has one endpoint a node and no selector.

mod objects;

use std::fmt::Display;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::DeleteParams;
use svcd_api::addresses::{self, Family};
use svcd_client::Objects;

use self::objects::Target;
use crate::Error;
use crate::endpoints;
use crate::endpointslice::{MANAGED_BY, pack, write};
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::store::{Change, Key};
use crate::kit::world::{Task, World};
use crate::kit::{meta, nodes};
use crate::nodeipam;

/// What is kept up, one key each.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Namespace(&'static str),
    ServiceRange,
    ApiServer,
    Dns,
}

impl Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::ServiceRange => f.write_str("the range of service addresses"),
            Self::ApiServer => f.write_str("default/kubernetes"),
            Self::Dns => f.write_str("kube-system/kube-dns"),
        }
    }
}

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    listen(world, &queue);
    NAMESPACES.iter().for_each(|name| queue.add(Part::Namespace(name)));
    queue.add(Part::ServiceRange);
    queue.add(Part::ApiServer);
    queue.add(Part::Dns);
    let shell = Arc::clone(world);
    let work = drive("bootstrap", queue, 4, move |part| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, part).await.map(|()| None::<std::time::Duration> as Again) }
    });
    ("bootstrap", world.when_ready(work))
}

fn listen(world: &Arc<World>, queue: &Arc<Queue<Part>>) {
    let namespaces = Arc::clone(queue);
    world.namespaces.listen(move |change| {
        let name = meta::name(&change.any().metadata);
        NAMESPACES
            .iter()
            .filter(|known| **known == name)
            .for_each(|name| namespaces.add(Part::Namespace(name)));
        namespaces.add(Part::ApiServer);
        namespaces.add(Part::Dns);
    });
    let ranges = Arc::clone(queue);
    world.service_ranges.listen(move |_| {
        // A Service whose address is not to be had waits for a range.
        [Part::ServiceRange, Part::ApiServer, Part::Dns].into_iter().for_each(|part| ranges.add(part));
    });
    let services = Arc::clone(queue);
    world
        .services
        .listen(move |change| part_of(&change.key()).into_iter().for_each(|part| services.add(part)));
    let endpoints = Arc::clone(queue);
    world
        .endpoints
        .listen(move |change| part_of(&change.key()).into_iter().for_each(|part| endpoints.add(part)));
    let slices = Arc::clone(queue);
    world.slices.listen(move |change| {
        let meta = &change.any().metadata;
        let service = meta::label(meta, crate::kit::world::SERVICE_NAME).unwrap_or_default();
        part_of(&Key::new(meta::namespace(meta), service)).into_iter().for_each(|part| slices.add(part));
    });
    let (nodes, family) = (Arc::clone(queue), Family::of(world.config.dns_address));
    world.nodes.listen(move |change: &Change<'_, Node>| {
        let target = |node| target(node, family);
        if change.old.map(target) != change.new.map(target) {
            nodes.add(Part::Dns);
        }
    });
}

fn part_of(key: &Key) -> Option<Part> {
    match (key.namespace.as_str(), key.name.as_str()) {
        ("default", "kubernetes") => Some(Part::ApiServer),
        ("kube-system", "kube-dns") => Some(Part::Dns),
        _ => None,
    }
}

/// Where a node answers DNS, and whether it can be asked.
fn target(node: &Node, family: Family) -> Option<Target> {
    let ranges = nodeipam::ranges(node);
    let range = ranges.iter().find(|range| Family::of(range.addr()) == family)?;
    let address = addresses::nth(range, 1)?;
    Some(Target { address, node: meta::name(&node.metadata).to_owned(), ready: nodes::is_ready(node) })
}

async fn reconcile(world: &World, part: Part) -> Result<(), Error> {
    match part {
        Part::Namespace(name) => namespace(world, name).await,
        Part::ServiceRange => service_range(world).await,
        Part::ApiServer => api_server(world).await,
        Part::Dns => dns(world).await,
    }
}

async fn namespace(world: &World, name: &str) -> Result<(), Error> {
    if world.namespaces.get(&Key::new("", name)).is_some() {
        return Ok(());
    }
    let api: Objects<Namespace> = Objects::all(world.client.clone());
    let created = api.create(&objects::namespace(name)).await;
    match created.doing(|| format!("create namespace {name}")) {
        Ok(created) => world.namespaces.wrote(created),
        Err(error) if error.is_already_exists() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The range that the cluster is configured with. It is made anew when it is gone, and gets a second family; anything
/// else that the configuration says otherwise is told, and left to people.
async fn service_range(world: &World) -> Result<(), Error> {
    let api: Objects<ServiceCIDR> = Objects::all(world.client.clone());
    let wanted = objects::service_range(&world.config.service_ranges);
    let key = Key::of(&wanted.metadata);
    let doing = || format!("write ServiceCIDR {key}");
    let Some(held) = world.service_ranges.get(&key) else {
        match api.create(&wanted).await.doing(doing) {
            Ok(created) => world.service_ranges.wrote(created),
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        return Ok(());
    };
    let (has, wants) = (objects::cidrs(&held), objects::cidrs(&wanted));
    if has == wants || meta::is_deleted(&held.metadata) {
        return Ok(());
    }
    if has.len() < wants.len() && wants.starts_with(has) {
        let mut next = held.as_ref().clone();
        next.spec.clone_from(&wanted.spec);
        let replaced = api.replace(&key.name, &next).await;
        world.service_ranges.wrote(replaced.doing(doing)?);
        return Ok(());
    }
    let message = format!(
        "the ServiceCIDR {key} has {}, and the configuration says {}; Services get the former. Delete it once another \
         ServiceCIDR holds their addresses, or change the configuration",
        has.join(","),
        wants.join(",")
    );
    tracing::warn!("{message}");
    let reason = "KubernetesDefaultServiceCIDRInconsistent";
    world.events.warning("kubernetes-service-cidr-controller", held.as_ref(), reason, message);
    Ok(())
}

/// Whether a Service could have an address now.
fn is_to_be_had(world: &World, address: Option<&str>) -> bool {
    let Some(address) = address.and_then(|address| address.parse().ok()) else { return false };
    let ranges = world.service_ranges.all();
    let open = ranges.iter().filter(|range| !meta::is_deleted(&range.metadata));
    let mut cidrs = open.flat_map(|range| objects::cidrs(range));
    cidrs.any(|cidr| cidr.parse().is_ok_and(|range| addresses::holds(&range, address)))
}

/// Whether the namespace can take objects; if not, its coming up will bring us back.
fn is_open(world: &World, name: &str) -> bool {
    world.namespaces.get(&Key::new("", name)).is_some_and(|namespace| !meta::is_deleted(&namespace.metadata))
}

async fn api_server(world: &World) -> Result<(), Error> {
    if !is_open(world, "default") {
        return Ok(());
    }
    let (config, key) = (&world.config, Key::new("default", "kubernetes"));
    service(world, &key, objects::api_service(config.kubernetes_address()?, config.advertise.port())).await?;
    // Nobody else reaches a server on loopback, and the API refuses such endpoints.
    if config.advertise.ip().is_loopback() {
        return Ok(());
    }
    let wanted = objects::api_slice(config.advertise);
    let held = world.slices.get(&key);
    let api = world.namespaced::<EndpointSlice>(&key.namespace);
    let doing = || format!("write EndpointSlice {key}");
    match held {
        None => {
            let created = api.create(&wanted).await;
            world.slices.wrote(created.doing(doing)?);
        }
        Some(held) if held.address_type != wanted.address_type => {
            let deleted = api.delete(&key.name, &meta::only_this(&held.metadata)).await;
            unless_gone(deleted.map(|_| ()).doing(doing))?;
            world.slices.bury(&key, meta::uid(&held.metadata));
        }
        Some(held) => {
            let next = objects::slice_like(&held, &wanted);
            if next != *held {
                let replaced = api.replace(&key.name, &next).await;
                world.slices.wrote(replaced.doing(doing)?);
            }
        }
    }
    let wanted = objects::api_endpoints(config.advertise);
    endpoints::write(world, &key, wanted, world.endpoints.get(&key).as_deref()).await
}

async fn dns(world: &World) -> Result<(), Error> {
    if !is_open(world, "kube-system") {
        return Ok(());
    }
    let key = Key::new("kube-system", "kube-dns");
    service(world, &key, objects::dns_service(world.config.dns_address)).await?;
    let Some(held) = world.services.get(&key) else { return Ok(()) };
    let family = Family::of(world.config.dns_address);
    let targets: Vec<Target> = world.nodes.all().iter().filter_map(|node| target(node, family)).collect();
    let existing = world.slices_of(&key.namespace, &key.name);
    let ours = existing.iter().filter(|s| meta::label(&s.metadata, MANAGED_BY) == Some(objects::DNS_MANAGER));
    let ours: Vec<EndpointSlice> = ours.map(|slice| slice.as_ref().clone()).collect();
    let plan = pack::plan(&objects::dns_template(&held), objects::dns_slices(&targets), &ours);
    write::execute(world, plan).await?;
    let wanted = objects::dns_endpoints(&targets);
    endpoints::write(world, &key, wanted, world.endpoints.get(&key).as_deref()).await
}

/// Keeps a Service as it must be. One with another address is replaced: addresses cannot be changed. That waits until the
/// other address is to be had.
async fn service(world: &World, key: &Key, wanted: Service) -> Result<(), Error> {
    let api = world.namespaced::<Service>(&key.namespace);
    let doing = || format!("write Service {key}");
    let Some(held) = world.services.get(key) else {
        // The range is made in the same moment; its coming brings us back.
        if is_to_be_had(world, objects::cluster_ip(&wanted)) {
            let created = api.create(&wanted).await;
            world.services.wrote(created.doing(doing)?);
        }
        return Ok(());
    };
    let moves = objects::cluster_ip(&held) != objects::cluster_ip(&wanted);
    if moves && is_to_be_had(world, objects::cluster_ip(&wanted)) {
        tracing::warn!(service = %key, "has another address than the cluster's configuration; it is replaced");
        unless_gone(api.delete(&key.name, &DeleteParams::default()).await.map(|_| ()).doing(doing))?;
        world.services.bury(key, meta::uid(&held.metadata));
        world.services.wrote(api.create(&wanted).await.doing(doing)?);
        return Ok(());
    }
    if let Some(next) = objects::repaired(&held, &wanted) {
        world.services.wrote(api.replace(&key.name, &next).await.doing(doing)?);
    }
    Ok(())
}
