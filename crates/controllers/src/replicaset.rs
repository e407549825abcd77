//! ReplicaSets and ReplicationControllers: as many pods as are asked for.
//!
//! Promises: never creates or deletes more than asked, however late the watch is: every pod made or deleted is in the
//! cache before the set is looked at again. Pods are adopted and released by selector, and deleted in upstream's order.
//! A ReplicationController is decided on as the ReplicaSet that it would be today.

mod decide;

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use kube::api::Patch;
use serde_json::json;
use svcd_api::Json;

use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::store::{Key, Store};
use crate::kit::workload::{self, Workload, create_pod, remove_pod};
use crate::kit::world::{Task, World};
use crate::kit::{meta, pods};

/// At most so many pods are made or deleted before looking again, as upstream does.
const BURST: usize = 500;

/// A kind that asks for a number of pods.
trait Replicated: Workload + k8s_openapi::Resource<Scope = NamespaceResourceScope> {
    /// The ReplicaSet that asks for the same.
    fn set(&self) -> Cow<'_, ReplicaSet>;
}

impl Workload for ReplicaSet {
    const COMPONENT: &'static str = "replicaset-controller";

    fn store(world: &World) -> &Arc<Store<Self>> {
        &world.replica_sets
    }

    fn selector(&self) -> Cow<'_, LabelSelector> {
        Cow::Borrowed(&self.spec.selector)
    }
}

impl Replicated for ReplicaSet {
    fn set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }
}

impl Workload for ReplicationController {
    const COMPONENT: &'static str = "replication-controller";

    fn store(world: &World) -> &Arc<Store<Self>> {
        &world.replication_controllers
    }

    fn selector(&self) -> Cow<'_, LabelSelector> {
        let labels = self.spec.as_ref().and_then(|spec| spec.selector.clone());
        Cow::Owned(LabelSelector { match_labels: labels, match_expressions: None })
    }
}

impl Replicated for ReplicationController {
    fn set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.clone().unwrap_or_default();
        // Statuses are spelled alike.
        let written = self.to_json();
        let status = self.status.as_ref().map(|_| &written["status"]);
        let status = status.and_then(|status| ReplicaSetStatus::from_json(status).ok());
        Cow::Owned(ReplicaSet {
            metadata: self.metadata.clone(),
            spec: ReplicaSetSpec {
                min_ready_seconds: spec.min_ready_seconds,
                replicas: spec.replicas,
                selector: self.selector().into_owned(),
                template: spec.template,
            },
            status,
        })
    }
}

pub(crate) fn start(world: &Arc<World>) -> Task {
    start_kind::<ReplicaSet>(world, "replicaset")
}

pub(crate) fn start_replication(world: &Arc<World>) -> Task {
    start_kind::<ReplicationController>(world, "replication")
}

fn start_kind<K: Replicated>(world: &Arc<World>, name: &'static str) -> Task {
    let queue = Queue::new();
    workload::listen::<K>(world, &queue);
    let shell = Arc::clone(world);
    let work = drive(name, queue, 8, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile::<K>(&world, &key).await }
    });
    (name, world.when_ready(work))
}

async fn reconcile<K: Replicated>(world: &World, key: &Key) -> Result<Again, Error> {
    let Some(owner) = K::store(world).get(key) else { return Ok(None) };
    workload::claim(world, owner.as_ref(), |_| true).await?;
    let set = owner.set();
    let scaled =
        if meta::is_deleted(owner.meta()) { Ok(()) } else { scale(world, owner.as_ref(), &set).await };
    let failure = scaled.as_ref().err().map(ToString::to_string);
    let again = report::<K>(world, &set, failure).await?;
    scaled.map(|()| again)
}

/// The pods that the set owns and that still count.
fn active(world: &World, set: &ReplicaSet) -> Vec<Arc<Pod>> {
    let mut owned = world.pods_of(meta::uid(&set.metadata));
    owned.retain(|pod| pods::is_active(pod));
    owned
}

async fn scale<K: Replicated>(world: &World, owner: &K, set: &ReplicaSet) -> Result<(), Error> {
    let active = active(world, set);
    let wanted = decide::replicas(set);
    if active.len() < wanted {
        return create(world, owner, set, (wanted - active.len()).min(BURST)).await;
    }
    let excess = (active.len() - wanted).min(BURST);
    let victims = decide::victims(active, excess);
    let results = join_all(victims.iter().map(|pod| remove_pod(world, owner, pod))).await;
    results.into_iter().collect()
}

/// Creates in growing batches, so that a set that cannot create anything does not try a hundred times.
async fn create<K: Replicated>(
    world: &World,
    owner: &K,
    set: &ReplicaSet,
    count: usize,
) -> Result<(), Error> {
    let mut pod = workload::pod_of(owner, set.spec.template.clone().unwrap_or_default());
    pod.metadata.generate_name = Some(format!("{}-", meta::name(&set.metadata)));
    let mut left = count;
    let mut batch = 1;
    while left > 0 {
        let now = batch.min(left);
        let results = join_all((0..now).map(|_| create_pod(world, owner, &pod))).await;
        results.into_iter().collect::<Result<(), Error>>()?;
        left -= now;
        batch *= 2;
    }
    Ok(())
}

/// Writes the status if it says something new. No one else writes it, so that no version needs to be compared.
async fn report<K: Replicated>(
    world: &World,
    set: &ReplicaSet,
    failure: Option<String>,
) -> Result<Again, Error> {
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
    let api = world.namespaced::<K>(&key.namespace);
    let patched = api.patch_status(&key.name, &patch).await;
    let doing = || format!("write the status of {} {key}", K::KIND);
    unless_gone(patched.doing(doing).map(|set| K::store(world).wrote(set)))?;
    Ok(again)
}
