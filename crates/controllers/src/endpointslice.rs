//! EndpointSlices of Services that select pods.
//!
//! Promises: a pod's change reaches its Services' slices with nothing but the write in between; a slice is rewritten
//! only when what it says has changed. Refuses: to touch slices that others manage, and Services without a selector.

pub(crate) mod desired;
pub(crate) mod pack;
pub(crate) mod write;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use self::desired::NodeFacts;
use self::pack::Template;
use crate::Error;
use crate::kit::drive::{Again, drive};
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::selector::Labels;
use crate::kit::store::{Change, Key};
use crate::kit::world::{SERVICE_NAME, Task, World, selector_of};

/// The label that says who writes a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The label of slices and Endpoints of headless Services.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
const OURS: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Starts listening; the returned task does the work.
pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    listen(world, &queue);
    let shell = Arc::clone(world);
    let work = drive("endpointslice", queue, 16, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("endpointslice", world.when_ready(work))
}

fn listen(world: &Arc<World>, queue: &Arc<Queue<Key>>) {
    on_services(world, queue);
    on_pods(world, queue, desired::is_relevant);
    on_nodes(world, queue);
    let slices = Arc::clone(queue);
    world.slices.listen(move |change| {
        let meta = &change.any().metadata;
        // What we wrote ourselves is what was wanted.
        if !change.by_us
            && meta::label(meta, MANAGED_BY) == Some(OURS)
            && let Some(service) = meta::label(meta, SERVICE_NAME)
        {
            slices.add(Key::new(meta::namespace(meta), service));
        }
    });
}

/// Queues every Service that changes.
pub(crate) fn on_services(world: &Arc<World>, queue: &Arc<Queue<Key>>) {
    let queue = Arc::clone(queue);
    world.services.listen(move |change| queue.add(change.key()));
}

/// Queues the Services that select a pod which changes in a way that counts.
pub(crate) fn on_pods(world: &Arc<World>, queue: &Arc<Queue<Key>>, relevant: fn(&Pod, &Pod) -> bool) {
    let (weak, queue) = (Arc::downgrade(world), Arc::clone(queue));
    world.pods.listen(move |change: &Change<'_, Pod>| {
        let Some(world) = weak.upgrade() else { return };
        if let (Some(old), Some(new)) = (change.old, change.new)
            && !relevant(old, new)
        {
            return;
        }
        let mut seen: Option<&Option<Labels>> = None;
        for pod in [change.new, change.old].into_iter().flatten() {
            if seen.replace(&pod.metadata.labels) == Some(&pod.metadata.labels) {
                continue; // The same labels select the same Services.
            }
            let namespace = meta::namespace(&pod.metadata);
            for service in world.selecting_services(namespace, pod.metadata.labels.as_ref()) {
                queue.add(Key::of(&service.metadata));
            }
        }
    });
}

/// Queues the Services of all pods of a node that comes, goes or moves to another zone.
fn on_nodes(world: &Arc<World>, queue: &Arc<Queue<Key>>) {
    let (weak, queue) = (Arc::downgrade(world), Arc::clone(queue));
    world.nodes.listen(move |change: &Change<'_, Node>| {
        let Some(world) = weak.upgrade() else { return };
        if change.old.map(facts) == change.new.map(facts) {
            return;
        }
        for pod in world.pods_on(meta::name(&change.any().metadata)) {
            let namespace = meta::namespace(&pod.metadata);
            for service in world.selecting_services(namespace, pod.metadata.labels.as_ref()) {
                queue.add(Key::of(&service.metadata));
            }
        }
    });
}

fn facts(node: &Node) -> NodeFacts {
    NodeFacts { zone: meta::label(&node.metadata, ZONE).map(str::to_owned) }
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let cached = world.slices_of(&key.namespace, &key.name);
    let existing = ours(cached.iter().map(|slice| slice.as_ref().clone()));
    let stale = match write::execute(world, wanted(world, key, existing)).await {
        Err(error) if error.is_stale() => error,
        result => return result.map(|()| None),
    };
    // The cache was behind: ask the server, and once more at once.
    tracing::debug!(service = %key, error = %stale, "slices have changed meanwhile");
    let existing = ours(write::fresh(world, key).await?.into_iter());
    write::execute(world, wanted(world, key, existing)).await?;
    Ok(None)
}

fn ours(slices: impl Iterator<Item = EndpointSlice>) -> Vec<EndpointSlice> {
    slices.filter(|slice| meta::label(&slice.metadata, MANAGED_BY) == Some(OURS)).collect()
}

/// The writes that a Service's slices need.
fn wanted(world: &World, key: &Key, existing: Vec<EndpointSlice>) -> pack::Plan {
    let service = world.services.get(key).filter(|service| !meta::is_deleted(&service.metadata));
    let Some(service) = service.filter(|service| !is_external(service)) else {
        return pack::Plan { delete: existing, ..pack::Plan::default() };
    };
    let Some(selector) = selector_of(&service) else { return pack::Plan::default() };
    let pods = world.selected_pods(&key.namespace, selector);
    let mut known: HashMap<String, Option<NodeFacts>> = HashMap::new();
    for name in pods.iter().filter_map(|pod| crate::kit::pods::node(pod)) {
        if !known.contains_key(name) {
            known.insert(name.to_owned(), world.nodes.get(&Key::new("", name)).map(|node| facts(&node)));
        }
    }
    let node = |name: &str| known.get(name).cloned().flatten();
    let desired = desired::desired(&service, pods.iter().map(AsRef::as_ref), node);
    pack::plan(&template(&service), desired, &existing)
}

fn is_external(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// A Service's labels go to its slices, as upstream has it, but for those with a meaning of their own there.
fn template(service: &Service) -> Template {
    let name = meta::name(&service.metadata).to_owned();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|key, _| ![SERVICE_NAME, MANAGED_BY, HEADLESS].contains(&key.as_str()));
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), OURS.to_owned());
    let spec = service.spec.clone().unwrap_or_default();
    if desired::is_headless(&spec) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    Template {
        namespace: meta::namespace(&service.metadata).to_owned(),
        name,
        labels,
        annotations: Labels::new(),
        owner: meta::controlled_by(service),
        families: desired::families(&spec),
    }
}
