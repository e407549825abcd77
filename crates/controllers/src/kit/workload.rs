//! What the controllers share that keep pods: finding out whose pods are whose, and making and ending them.
//!
//! Promises: every pod made or deleted is in the cache before its owner is looked at again, so that none is made or
//! deleted twice.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use svcd_api::Wire;
use svcd_client::Objects;

use super::queue::Queue;
use super::selector::selects;
use super::store::{Change, Key, Store};
use super::world::World;
use super::{meta, pods};
use crate::Error;
use crate::error::{Doing, unless_gone};

/// A kind whose objects own pods.
pub(crate) trait Workload: Wire {
    /// Who tells of it in Events.
    const COMPONENT: &'static str;

    /// The kind's cache.
    fn store(world: &World) -> &Arc<Store<Self>>;

    /// Whose pods it wants.
    fn selector(&self) -> Cow<'_, LabelSelector>;

    /// What is told when a pod was made.
    fn created(&self, pod: &str) -> String {
        format!("Created pod: {pod}")
    }

    /// What is told when a pod was deleted.
    fn deleted(&self, pod: &str) -> String {
        format!("Deleted pod: {pod}")
    }
}

/// Puts an object into the queue when it changes, when a pod of it does, and when a pod without an owner does that it
/// selects.
pub(crate) fn listen<K: Workload>(world: &Arc<World>, queue: &Arc<Queue<Key>>) {
    let own = Arc::clone(queue);
    K::store(world).listen(move |change| own.add(change.key()));
    let (weak, queue) = (Arc::downgrade(world), Arc::clone(queue));
    world.pods.listen(move |change: &Change<'_, Pod>| {
        for pod in [change.new, change.old].into_iter().flatten() {
            let namespace = meta::namespace(&pod.metadata);
            match meta::controller(&pod.metadata) {
                Some(owner) if owner.kind == K::KIND => queue.add(Key::new(namespace, &owner.name)),
                Some(_) => {}
                None => {
                    let Some(world) = weak.upgrade() else { return };
                    let labels = pod.metadata.labels.as_ref();
                    let all = K::store(&world).in_namespace(namespace);
                    let selecting = all.iter().filter(|owner| selects(&owner.selector(), labels));
                    selecting.for_each(|owner| queue.add(Key::of(owner.metadata())));
                }
            }
        }
    });
}

/// What to do about a pod's owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Leave,
    Adopt,
    Release,
}

pub(crate) fn claim_of(pod: &Pod, uid: &str, selector: &LabelSelector, owner_is_deleted: bool) -> Claim {
    let fits = selects(selector, pod.metadata.labels.as_ref());
    match meta::controller(&pod.metadata) {
        Some(owner) if owner.uid == uid && !fits && !owner_is_deleted => Claim::Release,
        None if fits && !owner_is_deleted && pods::is_active(pod) => Claim::Adopt,
        _ => Claim::Leave,
    }
}

/// Takes pods that fit and belong to no one, and that `may` be taken; gives up those that no longer fit.
pub(crate) async fn claim<K: Workload>(
    world: &World,
    owner: &K,
    may: impl Fn(&Pod) -> bool,
) -> Result<(), Error> {
    let (selector, owner_meta) = (owner.selector(), owner.metadata());
    let (uid, namespace) = (meta::uid(owner_meta), meta::namespace(owner_meta));
    let mut candidates = world.pods_of(uid);
    if let Some((key, value)) = selector.match_labels.as_ref().and_then(|labels| labels.first_key_value()) {
        let pair = [(key.clone(), value.clone())].into();
        candidates.extend(world.selected_pods(namespace, &pair));
    } else {
        candidates.extend(world.pods.in_namespace(namespace));
    }
    candidates.sort_by_key(|pod| Key::of(&pod.metadata));
    candidates.dedup_by_key(|pod| Key::of(&pod.metadata));
    for pod in candidates {
        let owners = match claim_of(&pod, uid, &selector, meta::is_deleted(owner_meta)) {
            Claim::Adopt if may(&pod) => with(&pod.metadata, meta::controlled_by(owner)),
            Claim::Leave | Claim::Adopt => continue,
            Claim::Release => without(&pod.metadata, uid),
        };
        set_owners(world, &pod, &owners).await?;
    }
    Ok(())
}

/// An object's owners and one more.
pub(crate) fn with(meta: &ObjectMeta, owner: OwnerReference) -> Vec<OwnerReference> {
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
    let patched = api.patch(&key.name, &patch).await;
    unless_gone(patched.doing(|| format!("change the owner of pod {key}")).map(|pod| world.pods.wrote(pod)))
}

/// A pod of a template, without a name.
pub(crate) fn pod_of<K: Workload>(owner: &K, template: PodTemplateSpec) -> Pod {
    let base = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: owner.metadata().namespace.clone(),
            labels: base.labels,
            annotations: base.annotations,
            finalizers: base.finalizers,
            owner_references: Some(vec![meta::controlled_by(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// Creates a pod and tells of it.
pub(crate) async fn create_pod<K: Workload>(world: &World, owner: &K, pod: &Pod) -> Result<(), Error> {
    let api = world.namespaced::<Pod>(meta::namespace(owner.metadata()));
    let created = api.create(pod).await;
    match created.doing(|| format!("create a pod of {} {}", K::KIND, Key::of(owner.metadata()))) {
        Ok(pod) => {
            let message = owner.created(meta::name(&pod.metadata));
            world.events.normal(K::COMPONENT, owner, "SuccessfulCreate", message);
            world.pods.wrote(pod);
            Ok(())
        }
        // The owner goes with its namespace.
        Err(error) if error.is_namespace_terminating() => Ok(()),
        Err(error) => {
            world.events.warning(K::COMPONENT, owner, "FailedCreate", format!("Error creating: {error}"));
            Err(error)
        }
    }
}

/// Deletes a pod and tells of it.
pub(crate) async fn remove_pod<K: Workload>(world: &World, owner: &K, pod: &Pod) -> Result<(), Error> {
    delete_pod(world, pod).await?;
    let message = owner.deleted(meta::name(&pod.metadata));
    world.events.normal(K::COMPONENT, owner, "SuccessfulDelete", message);
    Ok(())
}

/// Deletes a pod with its own grace period, and lets the cache know at once.
pub(crate) async fn delete_pod(world: &World, pod: &Pod) -> Result<(), Error> {
    let key = Key::of(&pod.metadata);
    let api: Objects<Pod> = world.namespaced(&key.namespace);
    let deleted = api.delete(&key.name, &meta::only_this(&pod.metadata)).await;
    match deleted.doing(|| format!("delete pod {key}")) {
        Ok(Some(left)) if meta::is_lingering(&left.metadata) => world.pods.wrote(left),
        Err(error) if !(error.is_not_found() || error.is_conflict()) => return Err(error),
        // It is gone, or another one has its name.
        _ => world.pods.bury(&key, meta::uid(&pod.metadata)),
    }
    Ok(())
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
