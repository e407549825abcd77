//! Which nodes are alive, by their heartbeats, and what follows for their pods.
//!
//! Promises: a node that is silent for the grace period gets Ready=Unknown and taints, and its pods Ready=False, so that
//! they leave the endpoints; all of it is taken back when the node speaks again. Silence is measured with our own
//! clock between changes of the heartbeat, so that a node's wrong clock does no harm.

mod decide;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::Patch;
use serde_json::json;
use svcd_client::Objects;
use tokio::time::Instant;

use self::decide::{Health, PodChange};
use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::store::{Change, Key};
use crate::kit::world::{Task, World};
use crate::kit::{meta, nodes, pods};

/// The namespace of the nodes' Leases.
const LEASES: &str = "kube-node-lease";

/// When each node was heard of for the last time.
#[derive(Default)]
struct Heard(Mutex<HashMap<String, Instant>>);

impl Heard {
    fn now(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), Instant::now());
    }

    fn forget(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// How long the node has been silent; a node never heard of begins to be so now.
    fn silence(&self, node: &str) -> Duration {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.entry(node.to_owned()).or_insert_with(Instant::now).elapsed()
    }
}

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    let heard = Arc::new(Heard::default());
    listen(world, &heard, &queue);
    let shell = Arc::clone(world);
    let work = drive("nodelifecycle", queue, 8, move |key| {
        let (world, heard) = (Arc::clone(&shell), Arc::clone(&heard));
        async move { reconcile(&world, &heard, &key).await }
    });
    ("nodelifecycle", world.when_ready(work))
}

fn listen(world: &Arc<World>, heard: &Arc<Heard>, queue: &Arc<Queue<Key>>) {
    let (weak, ears, woken) = (Arc::downgrade(world), Arc::clone(heard), Arc::clone(queue));
    world.leases.listen(move |change: &Change<'_, Lease>| {
        let meta = &change.any().metadata;
        let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
        if meta::namespace(meta) != LEASES
            || change.new.is_none()
            || change.old.map(renewed) == change.new.map(renewed)
        {
            return;
        }
        let name = meta::name(meta);
        ears.now(name);
        // A heartbeat of a healthy node changes nothing; the common case costs no more than this.
        let key = Key::new("", name);
        let node = weak.upgrade().and_then(|world| world.nodes.get(&key));
        if node.is_some_and(|node| decide::is_lost(&node)) {
            woken.add(key);
        }
    });
    let (ears, changed) = (Arc::clone(heard), Arc::clone(queue));
    world.nodes.listen(move |change: &Change<'_, Node>| {
        let name = meta::name(&change.any().metadata);
        let Some(new) = change.new else { return ears.forget(name) };
        let beat = |node: &Node| nodes::ready(node).and_then(|ready| ready.last_heartbeat_time.clone());
        if change.old.is_none_or(|old| beat(old) != beat(new)) {
            ears.now(name);
        }
        changed.add(change.key());
    });
    let (weak, queue) = (Arc::downgrade(world), Arc::clone(queue));
    world.pods.listen(move |change: &Change<'_, Pod>| {
        let Some(pod) = change.new.filter(|pod| pods::is_ready(pod)) else { return };
        let Some(world) = weak.upgrade() else { return };
        let Some(key) = pods::node(pod).map(|node| Key::new("", node)) else { return };
        if world.nodes.get(&key).is_some_and(|node| decide::is_down(&node)) {
            queue.add(key);
        }
    });
}

async fn reconcile(world: &World, heard: &Heard, key: &Key) -> Result<Again, Error> {
    let Some(node) = world.nodes.get(key) else { return Ok(None) };
    let grace = world.config.node_grace;
    let silence = heard.silence(&key.name);
    let has_lease = world.leases.get(&Key::new(LEASES, &key.name)).is_some();
    let health = if silence >= grace { Health::Silent } else { Health::Heard { by_lease: has_lease } };
    judge(world, &node, health).await?;
    let Some(node) = world.nodes.get(key) else { return Ok(None) };
    taint(world, &node).await?;
    settle_pods(world, &node).await?;
    Ok((health != Health::Silent).then(|| grace.saturating_sub(silence) + Duration::from_millis(10)))
}

/// Writes what follows from the heartbeats into the node's conditions.
async fn judge(world: &World, node: &Node, health: Health) -> Result<(), Error> {
    let Some(conditions) = decide::conditions(node, health, meta::now()) else { return Ok(()) };
    let name = meta::name(&node.metadata);
    match health {
        Health::Silent => {
            tracing::warn!(node = name, "no heartbeat; the node counts as lost");
            let message = format!("Node {name} status is now: NodeNotReady");
            world.events.normal("node-controller", node, "NodeNotReady", message);
        }
        Health::Heard { .. } => tracing::info!(node = name, "heartbeats have resumed"),
    }
    let patch = Patch::Merge(json!({
        "metadata": { "uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version },
        "status": { "conditions": conditions },
    }));
    let api: Objects<Node> = Objects::all(world.client.clone());
    let patched = api.patch_status(name, &patch).await;
    let doing = || format!("write the conditions of node {name}");
    unless_gone(patched.doing(doing).map(|node| world.nodes.wrote(node)))
}

async fn taint(world: &World, node: &Node) -> Result<(), Error> {
    let Some(taints) = decide::taints(node, meta::now()) else { return Ok(()) };
    let name = meta::name(&node.metadata);
    let patch = Patch::Merge(json!({
        "metadata": { "uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version },
        "spec": { "taints": if taints.is_empty() { None } else { Some(taints) } },
    }));
    let api: Objects<Node> = Objects::all(world.client.clone());
    let patched = api.patch(name, &patch).await;
    unless_gone(patched.doing(|| format!("taint node {name}")).map(|node| world.nodes.wrote(node)))
}

/// Takes the pods of a node that is down out of service, and puts them back when it is up.
async fn settle_pods(world: &World, node: &Node) -> Result<(), Error> {
    let all = world.pods_on(meta::name(&node.metadata));
    let changes = all.iter().filter_map(|pod| Some((pod, decide::pod_change(pod, node)?)));
    let results = join_all(changes.map(|(pod, change)| mark(world, pod, change))).await;
    results.into_iter().collect()
}

async fn mark(world: &World, pod: &Pod, change: PodChange) -> Result<(), Error> {
    let key = Key::of(&pod.metadata);
    let condition = match change {
        PodChange::Unready => json!({
            "type": "Ready",
            "status": "False",
            "reason": decide::NODE_NOT_READY,
            "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(meta::now()),
        }),
        PodChange::Ready => json!({
            "type": "Ready",
            "status": "True",
            "reason": null,
            "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(meta::now()),
        }),
    };
    // A strategic merge: the node's other words on the pod stay as they are.
    let patch = Patch::Strategic(json!({
        "metadata": { "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version },
        "status": { "conditions": [condition] },
    }));
    let api = world.namespaced::<Pod>(&key.namespace);
    let patched = api.patch_status(&key.name, &patch).await;
    unless_gone(
        patched.doing(|| format!("write the readiness of pod {key}")).map(|pod| world.pods.wrote(pod)),
    )
}
