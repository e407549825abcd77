//! Pods that no node will ever end: those on nodes that are gone, and deleted ones that never got a node.
//!
//! Promises: before a pod is deleted for its node's sake, the server itself has said that the node does not exist.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Node, Pod};
use svcd_client::Objects;
use tokio::time::Instant;

use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::store::{Change, Key};
use crate::kit::world::{Task, World};
use crate::kit::{meta, pods};

/// A node that pods name and that does not exist.
#[derive(Clone, Copy)]
enum Absence {
    /// It was there and was taken away: it is not waited for.
    Removed,
    /// It never was there as far as we know; it may be about to register.
    Since(Instant),
}

type Missing = Arc<Mutex<HashMap<String, Absence>>>;

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    let missing = Missing::default();
    listen(world, &missing, &queue);
    let shell = Arc::clone(world);
    let work = drive("podgc", queue, 8, move |key| {
        let (world, missing) = (Arc::clone(&shell), Arc::clone(&missing));
        async move { reconcile(&world, &missing, &key).await }
    });
    ("podgc", world.when_ready(work))
}

fn listen(world: &Arc<World>, missing: &Missing, queue: &Arc<Queue<Key>>) {
    let (weak, orphaned, lost) = (Arc::downgrade(world), Arc::clone(queue), Arc::clone(missing));
    world.nodes.listen(move |change: &Change<'_, Node>| {
        let name = meta::name(&change.any().metadata);
        let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
        if change.new.is_some() {
            lost.remove(name);
            return;
        }
        lost.insert(name.to_owned(), Absence::Removed);
        drop(lost);
        if let Some(world) = weak.upgrade() {
            world.pods_on(name).iter().for_each(|pod| orphaned.add(Key::of(&pod.metadata)));
        }
    });
    let (weak, queue) = (Arc::downgrade(world), Arc::clone(queue));
    world.pods.listen(move |change: &Change<'_, Pod>| {
        let (Some(pod), Some(world)) = (change.new, weak.upgrade()) else { return };
        let stray = match pods::node(pod) {
            Some(node) => world.nodes.get(&Key::new("", node)).is_none(),
            None => pods::is_terminating(pod),
        };
        if stray {
            queue.add(change.key());
        }
    });
}

async fn reconcile(world: &World, missing: &Missing, key: &Key) -> Result<Again, Error> {
    let Some(pod) = world.pods.get(key) else { return Ok(None) };
    match pods::node(&pod) {
        None if pods::is_terminating(&pod) => end(world, &pod).await.map(|()| None),
        Some(node) if world.nodes.get(&Key::new("", node)).is_none() => {
            orphan(world, missing, &pod, node).await
        }
        _ => Ok(None),
    }
}

async fn orphan(world: &World, missing: &Missing, pod: &Pod, node: &str) -> Result<Again, Error> {
    let absence = {
        let mut missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
        *missing.entry(node.to_owned()).or_insert_with(|| Absence::Since(Instant::now()))
    };
    let patience = world.config.orphan_pods_after;
    if let Absence::Since(moment) = absence
        && moment.elapsed() < patience
    {
        return Ok(Some(patience.saturating_sub(moment.elapsed())));
    }
    let api: Objects<Node> = Objects::all(world.client.clone());
    let found = api.raw().get_metadata_opt(node).await.doing(|| format!("look for node {node}"))?;
    if found.is_some() {
        return Ok(None); // The cache is behind.
    }
    tracing::info!(pod = %Key::of(&pod.metadata), node, "the pod's node is gone");
    end(world, pod).await?;
    Ok(None)
}

/// Deletes without waiting for anyone.
async fn end(world: &World, pod: &Pod) -> Result<(), Error> {
    let key = Key::of(&pod.metadata);
    let api = world.namespaced::<Pod>(&key.namespace);
    let deleted = api.delete(&key.name, &meta::only_this(&pod.metadata).grace_period(0)).await;
    unless_gone(deleted.map(|_| ()).doing(|| format!("delete pod {key}")))
}
