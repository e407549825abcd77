//! ReplicaSets: as many pods as are asked for.
//!
//! Promises: never creates or deletes more than asked, however late the watch is: every pod made or deleted is in the
//! cache before the set is looked at again. Pods are adopted and released by selector, and deleted in upstream's order.

mod decide;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use self::decide::Claim;
use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::selector::selects;
use crate::kit::store::{Change, Key};
use crate::kit::world::{Task, World};
use crate::kit::{meta, pods};

const COMPONENT: &str = "replicaset-controller";
/// At most so many pods are made or deleted before looking again, as upstream does.
const BURST: usize = 500;

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    listen(world, &queue);
    let shell = Arc::clone(world);
    let work = drive("replicaset", queue, 8, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("replicaset", world.when_ready(work))
}

fn listen(world: &Arc<World>, queue: &Arc<Queue<Key>>) {
    let sets = Arc::clone(queue);
    world.replica_sets.listen(move |change| sets.add(change.key()));
    let (weak, queue) = (Arc::downgrade(world), Arc::clone(queue));
    world.pods.listen(move |change: &Change<'_, Pod>| {
        for pod in [change.new, change.old].into_iter().flatten() {
            let namespace = meta::namespace(&pod.metadata);
            match meta::controller(&pod.metadata) {
                Some(owner) if owner.kind == "ReplicaSet" => queue.add(Key::new(namespace, &owner.name)),
                Some(_) => {}
                None => {
                    let Some(world) = weak.upgrade() else { return };
                    let labels = pod.metadata.labels.as_ref();
                    let sets = world.replica_sets.in_namespace(namespace);
                    let selecting = sets.iter().filter(|set| selects(selector(set), labels));
                    selecting.for_each(|set| queue.add(Key::of(&set.metadata)));
                }
            }
        }
    });
}

fn selector(set: &ReplicaSet) -> &LabelSelector {
    &set.spec.selector
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let Some(set) = world.replica_sets.get(key) else { return Ok(None) };
    claim(world, &set).await?;
    let scaled = if meta::is_deleted(&set.metadata) { Ok(()) } else { scale(world, &set).await };
    let failure = scaled.as_ref().err().map(ToString::to_string);
    let again = report(world, &set, failure).await?;
    scaled.map(|()| again)
}

/// The pods that the set owns and that still count.
fn active(world: &World, set: &ReplicaSet) -> Vec<Arc<Pod>> {
    let mut owned = world.pods_of(meta::uid(&set.metadata));
    owned.retain(|pod| pods::is_active(pod));
    owned
}

/// Takes pods that fit and belong to no one; gives up those that no longer fit.
async fn claim(world: &World, set: &ReplicaSet) -> Result<(), Error> {
    let selector = selector(set);
    let uid = meta::uid(&set.metadata);
    let mut candidates = world.pods_of(uid);
    if let Some((key, value)) = selector.match_labels.as_ref().and_then(|labels| labels.first_key_value()) {
        let pair = [(key.clone(), value.clone())].into();
        candidates.extend(world.selected_pods(meta::namespace(&set.metadata), &pair));
    } else {
        candidates.extend(world.pods.in_namespace(meta::namespace(&set.metadata)));
    }
    candidates.sort_by_key(|pod| Key::of(&pod.metadata));
    candidates.dedup_by_key(|pod| Key::of(&pod.metadata));
    for pod in candidates {
        let own = meta::controlled_by(set);
        let owners = match decide::claim(&pod, uid, selector, meta::is_deleted(&set.metadata)) {
            Claim::Leave => continue,
            Claim::Adopt => with(&pod.metadata, own),
            Claim::Release => without(&pod.metadata, uid),
        };
        set_owners(world, &pod, &owners).await?;
    }
    Ok(())
}

fn with(meta: &ObjectMeta, owner: OwnerReference) -> Vec<OwnerReference> {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.push(owner);
    owners
}

fn without(meta: &ObjectMeta, uid: &str) -> Vec<OwnerReference> {
    meta.owner_references.iter().flatten().filter(|owner| owner.uid != uid).cloned().collect()
}

async fn set_owners(world: &World, pod: &Pod, owners: &[OwnerReference]) -> Result<(), Error> {
    let key = Key::of(&pod.metadata);
    let patch = meta::owners_patch(&pod.metadata, owners);
    let api = world.namespaced::<Pod>(&key.namespace);
    let patched = api.patch(&key.name, &PatchParams::default(), &patch).await;
    unless_gone(patched.doing(|| format!("change the owner of pod {key}")).map(|pod| world.pods.wrote(pod)))
}

async fn scale(world: &World, set: &Arc<ReplicaSet>) -> Result<(), Error> {
    let active = active(world, set);
    let wanted = decide::replicas(set);
    if active.len() < wanted {
        return create(world, set, (wanted - active.len()).min(BURST)).await;
    }
    let excess = (active.len() - wanted).min(BURST);
    let results = join_all(decide::victims(active, excess).iter().map(|pod| delete(world, set, pod))).await;
    results.into_iter().collect()
}

/// Creates in growing batches, so that a set that cannot create anything does not try a hundred times.
async fn create(world: &World, set: &Arc<ReplicaSet>, count: usize) -> Result<(), Error> {
    let mut left = count;
    let mut batch = 1;
    while left > 0 {
        let now = batch.min(left);
        let results = join_all((0..now).map(|_| create_one(world, set))).await;
        results.into_iter().collect::<Result<(), Error>>()?;
        left -= now;
        batch *= 2;
    }
    Ok(())
}

async fn create_one(world: &World, set: &Arc<ReplicaSet>) -> Result<(), Error> {
    let api = world.namespaced::<Pod>(meta::namespace(&set.metadata));
    let created = api.create(&PostParams::default(), &decide::pod(set)).await;
    let doing = || format!("create a pod of ReplicaSet {}", Key::of(&set.metadata));
    match created.doing(doing) {
        Ok(pod) => {
            let message = format!("Created pod: {}", meta::name(&pod.metadata));
            world.events.normal(COMPONENT, set.as_ref(), "SuccessfulCreate", message);
            world.pods.wrote(pod);
            Ok(())
        }
        // The set goes with its namespace.
        Err(error) if error.is_namespace_terminating() => Ok(()),
        Err(error) => {
            world.events.warning(COMPONENT, set.as_ref(), "FailedCreate", format!("Error creating: {error}"));
            Err(error)
        }
    }
}

async fn delete(world: &World, set: &Arc<ReplicaSet>, pod: &Pod) -> Result<(), Error> {
    let key = Key::of(&pod.metadata);
    delete_pod(world, pod).await?;
    world.events.normal(COMPONENT, set.as_ref(), "SuccessfulDelete", format!("Deleted pod: {}", key.name));
    Ok(())
}

/// Deletes a pod with its own grace period, and lets the cache know at once.
pub(crate) async fn delete_pod(world: &World, pod: &Pod) -> Result<(), Error> {
    let key = Key::of(&pod.metadata);
    let api: Api<Pod> = world.namespaced(&key.namespace);
    let deleted = api.delete(&key.name, &meta::only_this(&pod.metadata)).await;
    match deleted.doing(|| format!("delete pod {key}")).map(|answer| answer.left()) {
        Ok(Some(left)) if meta::is_lingering(&left.metadata) => world.pods.wrote(left),
        Err(error) if !(error.is_not_found() || error.is_conflict()) => return Err(error),
        // It is gone, or another one has its name.
        _ => world.pods.bury(&key, meta::uid(&pod.metadata)),
    }
    Ok(())
}

/// Writes the status if it says something new. No one else writes it, so that no version needs to be compared.
async fn report(world: &World, set: &ReplicaSet, failure: Option<String>) -> Result<Again, Error> {
    let active = active(world, set);
    let now = meta::now();
    let status = decide::status(set, &active, failure, now);
    let again = decide::next_available(set, &active, now);
    if set.status.as_ref() == Some(&status) {
        return Ok(again);
    }
    let key = Key::of(&set.metadata);
    let patch = Patch::Merge(json!({
        "metadata": { "uid": set.metadata.uid },
        "status": {
            "replicas": status.replicas,
            "fullyLabeledReplicas": status.fully_labeled_replicas,
            "readyReplicas": status.ready_replicas,
            "availableReplicas": status.available_replicas,
            "observedGeneration": status.observed_generation,
            "conditions": status.conditions,
        },
    }));
    let api = world.namespaced::<ReplicaSet>(&key.namespace);
    let patched = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
    let doing = || format!("write the status of ReplicaSet {key}");
    unless_gone(patched.doing(doing).map(|set| world.replica_sets.wrote(set)))?;
    Ok(again)
}

/// The time after which a look at readiness alone may change what is available.
pub(crate) fn until(moment: jiff::Timestamp, now: jiff::Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(now)).unwrap_or_default().max(Duration::from_millis(50))
}
