//! Deployments: ReplicaSets for the former and the present template, and the way from one to the other.
//!
//! Promises: never more than `maxSurge` pods above and `maxUnavailable` available ones below what is asked for, save by
//! the user's own scaling; `kubectl rollout status`, `pause`, `resume`, `undo` and `restart` work. The decisions are in
//! `decide` (numbers) and `status` (conditions).

mod decide;
mod status;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::api::Patch;
use serde_json::{Value, json};

use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::selector::selects;
use crate::kit::store::{Change, Key};
use crate::kit::world::{Task, World};

use self::decide::{DESIRED, MAX, REVISION, Rollout, replicas_of};

const COMPONENT: &str = "deployment-controller";
/// The label that tells the pods of one template from those of another.
const TEMPLATE_HASH: &str = "pod-template-hash";

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    listen(world, &queue);
    let shell = Arc::clone(world);
    let work = drive("deployment", queue, 8, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("deployment", world.when_ready(work))
}

fn listen(world: &Arc<World>, queue: &Arc<Queue<Key>>) {
    let deployments = Arc::clone(queue);
    world.deployments.listen(move |change| deployments.add(change.key()));
    let (weak, queue) = (Arc::downgrade(world), Arc::clone(queue));
    let sets = Arc::clone(&queue);
    world.replica_sets.listen(move |change: &Change<'_, ReplicaSet>| {
        for set in [change.new, change.old].into_iter().flatten() {
            let namespace = meta::namespace(&set.metadata);
            match meta::controller(&set.metadata) {
                Some(owner) if owner.kind == "Deployment" => sets.add(Key::new(namespace, &owner.name)),
                Some(_) => {}
                None => {
                    let Some(world) = weak.upgrade() else { return };
                    let labels = set.metadata.labels.as_ref();
                    let all = world.deployments.in_namespace(namespace);
                    let selecting = all.iter().filter(|d| selects(selector(d), labels));
                    selecting.for_each(|deployment| sets.add(Key::of(&deployment.metadata)));
                }
            }
        }
    });
    // `Recreate` waits for the last old pod to be gone.
    let weak = Arc::downgrade(world);
    world.pods.listen(move |change| {
        let Some(world) = weak.upgrade().filter(|_| change.new.is_none()) else { return };
        let pod = &change.any().metadata;
        let Some(owner) = meta::controller(pod).filter(|owner| owner.kind == "ReplicaSet") else { return };
        let set = world.replica_sets.get(&Key::new(meta::namespace(pod), &owner.name));
        if let Some(owner) = set.as_ref().and_then(|set| meta::controller(&set.metadata)) {
            queue.add(Key::new(meta::namespace(pod), &owner.name));
        }
    });
}

fn selector(deployment: &Deployment) -> &LabelSelector {
    &deployment.spec.selector
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let Some(deployment) = world.deployments.get(key) else { return Ok(None) };
    claim(world, &deployment).await?;
    if meta::is_deleted(&deployment.metadata) {
        return report(world, &deployment, None).await;
    }
    let made = roll(world, &deployment).await?;
    let again = report(world, &deployment, made).await?;
    Ok(again)
}

/// The sets that the Deployment owns, oldest first.
fn owned(world: &World, deployment: &Deployment) -> Vec<Arc<ReplicaSet>> {
    let uid = meta::uid(&deployment.metadata);
    let place = crate::kit::store::index_of(&["owner", uid]);
    let mut sets = world.replica_sets.indexed(place);
    sets.retain(|set| meta::controller(&set.metadata).is_some_and(|owner| owner.uid == uid));
    sets.sort_by_key(|set| {
        (set.metadata.creation_timestamp.as_ref().map(|t| t.0), set.metadata.name.clone())
    });
    sets
}

/// Takes sets that fit and belong to no one; gives up those that no longer fit.
async fn claim(world: &World, deployment: &Deployment) -> Result<(), Error> {
    let selector = selector(deployment);
    let uid = meta::uid(&deployment.metadata);
    let deleted = meta::is_deleted(&deployment.metadata);
    for set in world.replica_sets.in_namespace(meta::namespace(&deployment.metadata)) {
        let fits = selects(selector, set.metadata.labels.as_ref());
        let owners = set.metadata.owner_references.iter().flatten();
        let owners: Vec<OwnerReference> = match meta::controller(&set.metadata) {
            Some(owner) if owner.uid == uid && !fits && !deleted => {
                owners.filter(|owner| owner.uid != uid).cloned().collect()
            }
            None if fits && !deleted && !meta::is_deleted(&set.metadata) => {
                owners.cloned().chain([meta::controlled_by(deployment)]).collect()
            }
            _ => continue,
        };
        patch_set(world, &set, &meta::owners_patch(&set.metadata, &owners)).await?;
    }
    Ok(())
}

async fn patch_set(world: &World, set: &ReplicaSet, patch: &Patch<Value>) -> Result<(), Error> {
    let key = Key::of(&set.metadata);
    let api = world.namespaced::<ReplicaSet>(&key.namespace);
    let patched = api.patch(&key.name, patch).await;
    unless_gone(patched.doing(|| format!("change ReplicaSet {key}")).map(|set| world.replica_sets.wrote(set)))
}

/// Moves the rollout one step on; returns the name of a set that was made for it.
async fn roll(world: &World, deployment: &Arc<Deployment>) -> Result<Option<String>, Error> {
    let sets = owned(world, deployment);
    let rollout = Rollout::of(deployment, &sets);
    let paused = rollout.is_paused();
    if paused || rollout.is_scaling() {
        for (set, replicas) in rollout.proportional() {
            resize(world, deployment, &set, replicas, &rollout).await?;
        }
        return Ok(None);
    }
    if rollout.is_recreate() && !make_way(world, deployment, &rollout).await? {
        return Ok(None);
    }
    let Some(current) = rollout.current.clone() else {
        return create(world, deployment, &rollout).await;
    };
    note_revision(world, deployment, &current, &rollout).await?;
    let target = rollout.current_target();
    resize(world, deployment, &current, target, &rollout).await?;
    for (set, replicas) in rollout.shrink_old(target) {
        resize(world, deployment, &set, replicas, &rollout).await?;
    }
    if status::is_complete(deployment, &rollout) {
        clean_up(world, &rollout).await?;
    }
    Ok(None)
}

/// `Recreate`: the old pods go before the new ones come. True once they are gone.
async fn make_way(world: &World, deployment: &Arc<Deployment>, rollout: &Rollout) -> Result<bool, Error> {
    let running: Vec<_> = rollout.old.iter().filter(|set| replicas_of(set) > 0).cloned().collect();
    for set in &running {
        resize(world, deployment, set, 0, rollout).await?;
    }
    let left = rollout.old.iter().flat_map(|set| world.pods_of(meta::uid(&set.metadata)));
    let left = left.filter(|pod| !crate::kit::pods::is_terminal(pod)).count();
    Ok(running.is_empty() && left == 0)
}

/// A set for the present template.
async fn create(
    world: &World,
    deployment: &Arc<Deployment>,
    rollout: &Rollout,
) -> Result<Option<String>, Error> {
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let mut set = decide::new_set(deployment, rollout, collisions);
    let target = rollout.first_target();
    set.spec.replicas = Some(target);
    let key = Key::of(&set.metadata);
    let api = world.namespaced::<ReplicaSet>(&key.namespace);
    let created = api.create(&set).await;
    match created.doing(|| format!("create ReplicaSet {key}")) {
        Ok(set) => {
            scaled(world, deployment, meta::name(&set.metadata), 0, target);
            world.replica_sets.wrote(set);
            Ok(Some(key.name))
        }
        Err(error) if error.is_namespace_terminating() => Ok(None),
        Err(error) if error.is_already_exists() => {
            collided(world, deployment, &key, collisions).await?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// A set of the wanted name exists. If it is not ours for this very template, another name must be found.
async fn collided(
    world: &World,
    deployment: &Deployment,
    key: &Key,
    collisions: Option<i32>,
) -> Result<(), Error> {
    let api = world.namespaced::<ReplicaSet>(&key.namespace);
    let found = api.get_opt(&key.name).await.doing(|| format!("read ReplicaSet {key}"))?;
    let Some(found) = found else { return Ok(()) };
    let ours = meta::controller(&found.metadata).is_some_and(|o| o.uid == meta::uid(&deployment.metadata));
    if ours && decide::has_template(&found, deployment) {
        world.replica_sets.wrote(found);
        return Ok(());
    }
    let count = collisions.unwrap_or_default() + 1;
    patch_status(world, deployment, json!({ "collisionCount": count })).await
}

/// Sets a ReplicaSet's size, and what the Deployment wanted when it did, from which scaling is told apart later.
async fn resize(
    world: &World,
    deployment: &Arc<Deployment>,
    set: &ReplicaSet,
    replicas: i32,
    rollout: &Rollout,
) -> Result<(), Error> {
    let former = replicas_of(set);
    let (desired, max) = (rollout.wanted.to_string(), rollout.max_pods().to_string());
    let noted = meta::annotation(&set.metadata, DESIRED) == Some(&desired)
        && meta::annotation(&set.metadata, MAX) == Some(&max);
    if former == replicas && (noted || replicas == 0) {
        return Ok(());
    }
    let patch = Patch::Merge(json!({
        "metadata": { "uid": set.metadata.uid, "annotations": { DESIRED: desired, MAX: max } },
        "spec": { "replicas": replicas },
    }));
    patch_set(world, set, &patch).await?;
    if former != replicas {
        scaled(world, deployment, meta::name(&set.metadata), former, replicas);
    }
    Ok(())
}

fn scaled(world: &World, deployment: &Arc<Deployment>, set: &str, from: i32, to: i32) {
    let way = if to > from { "up" } else { "down" };
    let message = format!("Scaled {way} replica set {set} from {from} to {to}");
    world.events.normal(COMPONENT, deployment.as_ref(), "ScalingReplicaSet", message);
}

/// Writes the revision onto the set and the Deployment, where `kubectl rollout history` reads it.
async fn note_revision(
    world: &World,
    deployment: &Deployment,
    current: &ReplicaSet,
    rollout: &Rollout,
) -> Result<(), Error> {
    let annotations = decide::annotations(deployment, current, rollout);
    let min_ready = deployment.spec.min_ready_seconds.unwrap_or_default();
    let held = current.spec.min_ready_seconds.unwrap_or_default();
    if !annotations.is_empty() || min_ready != held {
        let patch =
            json!({ "metadata": { "annotations": annotations }, "spec": { "minReadySeconds": min_ready } });
        patch_set(world, current, &Patch::Merge(patch)).await?;
    }
    let revision = rollout.revision().to_string();
    if meta::annotation(&deployment.metadata, REVISION) == Some(&revision) {
        return Ok(());
    }
    let key = Key::of(&deployment.metadata);
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { REVISION: revision } } }));
    let api = world.namespaced::<Deployment>(&key.namespace);
    let patched = api.patch(&key.name, &patch).await;
    let doing = || format!("note the revision of Deployment {key}");
    unless_gone(patched.doing(doing).map(|deployment| world.deployments.wrote(deployment)))
}

/// Deletes the sets of templates that are too long ago.
async fn clean_up(world: &World, rollout: &Rollout) -> Result<(), Error> {
    for set in rollout.forgotten() {
        let key = Key::of(&set.metadata);
        let api = world.namespaced::<ReplicaSet>(&key.namespace);
        let deleted = api.delete(&key.name, &meta::only_this(&set.metadata)).await;
        unless_gone(deleted.map(|_| ()).doing(|| format!("delete ReplicaSet {key}")))?;
        world.replica_sets.bury(&key, meta::uid(&set.metadata));
    }
    Ok(())
}

async fn report(world: &World, former: &Deployment, made: Option<String>) -> Result<Again, Error> {
    let key = Key::of(&former.metadata);
    let Some(deployment) = world.deployments.get(&key) else { return Ok(None) };
    let sets = owned(world, &deployment);
    let rollout = Rollout::of(&deployment, &sets);
    let now = meta::now();
    let status = status::status(&deployment, &rollout, made.as_deref(), now);
    let again = status::deadline(&deployment, &status, now);
    if deployment.status.as_ref() != Some(&status) {
        patch_status(world, &deployment, status::patch(&status)).await?;
    }
    Ok(again)
}

async fn patch_status(world: &World, deployment: &Deployment, status: Value) -> Result<(), Error> {
    let key = Key::of(&deployment.metadata);
    let patch = Patch::Merge(json!({ "metadata": { "uid": deployment.metadata.uid }, "status": status }));
    let api = world.namespaced::<Deployment>(&key.namespace);
    let patched = api.patch_status(&key.name, &patch).await;
    let doing = || format!("write the status of Deployment {key}");
    unless_gone(patched.doing(doing).map(|deployment| world.deployments.wrote(deployment)))
}

/// What a new set is called and labelled with.
fn set_meta(deployment: &Deployment, hash: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(format!("{}-{hash}", meta::name(&deployment.metadata))),
        namespace: deployment.metadata.namespace.clone(),
        owner_references: Some(vec![meta::controlled_by(deployment)]),
        ..ObjectMeta::default()
    }
}
