//! PodDisruptionBudgets: how many pods may be evicted now.
//!
//! Promises: a budget is counted anew with every change of a pod or of its owner's size, so that an eviction that is
//! allowed is one that the budget can bear. The API server spends what is written here; the write fails if it was
//! faster. Refuses: owners that have no size, as upstream does.

mod decide;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::api::Patch;
use serde_json::{Map, Value, json};
use svcd_api::Wire;

use self::decide::Owner;
use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::store::{Change, Key, Store};
use crate::kit::world::{Task, World};

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    listen(world, &queue);
    let shell = Arc::clone(world);
    let work = drive("disruption", queue, 4, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("disruption", world.when_ready(work))
}

fn listen(world: &Arc<World>, queue: &Arc<Queue<Key>>) {
    let own = Arc::clone(queue);
    world.budgets.listen(move |change| own.add(change.key()));
    let (weak, pods) = (Arc::downgrade(world), Arc::clone(queue));
    world.pods.listen(move |change: &Change<'_, Pod>| {
        let Some(world) = weak.upgrade() else { return };
        for pod in [change.new, change.old].into_iter().flatten() {
            let budgets = world.budgets.in_namespace(meta::namespace(&pod.metadata));
            let selecting = budgets.iter().filter(|budget| decide::selects(budget, pod));
            selecting.for_each(|budget| pods.add(Key::of(&budget.metadata)));
        }
    });
    follow_sizes(world, &world.deployments, queue, |d| d.spec.replicas);
    follow_sizes(world, &world.replica_sets, queue, |set| set.spec.replicas);
    follow_sizes(world, &world.stateful_sets, queue, |set| set.spec.replicas);
    follow_sizes(world, &world.replication_controllers, queue, |c| c.spec.as_ref()?.replicas);
}

/// The budgets of a namespace are counted anew when an owner of pods there is resized.
fn follow_sizes<K: Wire>(
    world: &Arc<World>,
    store: &Arc<Store<K>>,
    queue: &Arc<Queue<Key>>,
    size: fn(&K) -> Option<i32>,
) {
    let (weak, queue) = (Arc::downgrade(world), Arc::clone(queue));
    store.listen(move |change| {
        if change.old.map(size) == change.new.map(size) {
            return;
        }
        let Some(world) = weak.upgrade() else { return };
        let namespace = meta::namespace(change.any().metadata());
        world.budgets.in_namespace(namespace).iter().for_each(|budget| queue.add(Key::of(&budget.metadata)));
    });
}

/// The size that the owner of a pod is told to have; a ReplicaSet's Deployment counts for it.
fn owner_of(world: &World, pod: &Pod) -> Owner {
    let Some(owner) = meta::controller(&pod.metadata) else { return Owner::None };
    let key = Key::new(meta::namespace(&pod.metadata), &owner.name);
    let sized = |uid: &str, replicas: Option<i32>| Owner::Sized {
        uid: uid.to_owned(),
        replicas: replicas.unwrap_or(1),
    };
    let size = match owner.kind.as_str() {
        "ReplicaSet" => world.replica_sets.get(&key).map(|set| {
            let deployment = meta::controller(&set.metadata)
                .filter(|owner| owner.kind == "Deployment")
                .and_then(|owner| world.deployments.get(&Key::new(&key.namespace, &owner.name)));
            match deployment {
                Some(deployment) => sized(meta::uid(&deployment.metadata), deployment.spec.replicas),
                None => sized(&owner.uid, set.spec.replicas),
            }
        }),
        "StatefulSet" => world.stateful_sets.get(&key).map(|set| sized(&owner.uid, set.spec.replicas)),
        "ReplicationController" => world
            .replication_controllers
            .get(&key)
            .map(|c| sized(&owner.uid, c.spec.as_ref().and_then(|spec| spec.replicas))),
        _ => None,
    };
    size.unwrap_or_else(|| Owner::Unsized(format!("{} {}", owner.kind, owner.name)))
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let Some(budget) = world.budgets.get(key) else { return Ok(None) };
    let mut selected = world.pods.in_namespace(&key.namespace);
    selected.retain(|pod| decide::selects(&budget, pod));
    let pods: Vec<_> = selected.into_iter().map(|pod| (owner_of(world, &pod), pod)).collect();
    let counted = decide::status(&budget, &pods, meta::now());
    if budget.status.as_ref() != Some(&counted.status) {
        if let Some(trouble) = counted.trouble {
            let reason = "CalculateExpectedPodCountFailed";
            world.events.warning("controllermanager", budget.as_ref(), reason, trouble);
        }
        write(world, &budget, &counted.status).await?;
    }
    // Evictions that never became deletions are given back.
    Ok(counted.next_expiry.map(|seconds| Duration::from_secs(seconds.max(1))))
}

async fn write(
    world: &World,
    budget: &PodDisruptionBudget,
    status: &PodDisruptionBudgetStatus,
) -> Result<(), Error> {
    let key = Key::of(&budget.metadata);
    let former = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let mut noted: Map<String, Value> =
        former.into_iter().flatten().map(|(pod, _)| (pod.clone(), Value::Null)).collect();
    noted.extend(status.disrupted_pods.iter().flatten().map(|(pod, time)| (pod.clone(), json!(time))));
    let mut status = json!(status);
    status["disruptedPods"] = noted.into();
    // Against the version that was counted on: what the API server has spent meanwhile must not be forgotten.
    let patch = Patch::Merge(json!({
        "metadata": { "uid": budget.metadata.uid, "resourceVersion": budget.metadata.resource_version },
        "status": status,
    }));
    let api = world.namespaced::<PodDisruptionBudget>(&key.namespace);
    let patched = api.patch_status(&key.name, &patch).await;
    let doing = || format!("write the status of PodDisruptionBudget {key}");
    unless_gone(patched.doing(doing).map(|budget| world.budgets.wrote(budget)))
}
