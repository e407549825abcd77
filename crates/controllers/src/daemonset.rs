//! DaemonSets: a pod on every node that fits.
//!
//! Promises: a node that comes, goes, or is labelled or tainted otherwise gets or loses its pod at once, without a
//! timer. Pods are bound to their nodes by affinity and placed by the scheduler, as upstream's are; a rolling update
//! keeps to `maxUnavailable` or `maxSurge`. Refuses: to judge resources.

mod decide;
mod pod;
mod update;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::Patch;
use serde_json::{Value, json};

use self::decide::{Place, Plan};
use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::history::{self, Found, History, Revised};
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::store::{Change, Key, Store};
use crate::kit::workload::{self, Workload, create_pod, remove_pod};
use crate::kit::world::{Task, World};
use crate::kit::{meta, pods};

impl Workload for DaemonSet {
    const COMPONENT: &'static str = "daemonset-controller";

    fn store(world: &World) -> &Arc<Store<Self>> {
        &world.daemon_sets
    }

    fn selector(&self) -> Cow<'_, LabelSelector> {
        Cow::Borrowed(&self.spec.selector)
    }
}

impl Revised for DaemonSet {
    fn template(&self) -> &PodTemplateSpec {
        &self.spec.template
    }

    fn collisions(&self) -> Option<i32> {
        self.status.as_ref().and_then(|status| status.collision_count)
    }

    fn history_limit(&self) -> usize {
        usize::try_from(self.spec.revision_history_limit.unwrap_or(10)).unwrap_or_default()
    }
}

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    workload::listen::<DaemonSet>(world, &queue);
    history::listen::<DaemonSet>(world, &queue);
    follow_nodes(world, &queue);
    let shell = Arc::clone(world);
    let work = drive("daemonset", queue, 8, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("daemonset", world.when_ready(work))
}

/// Every set is asked again when a node changes in what decides where pods go.
fn follow_nodes(world: &Arc<World>, queue: &Arc<Queue<Key>>) {
    let (weak, queue) = (Arc::downgrade(world), Arc::clone(queue));
    world.nodes.listen(move |change: &Change<'_, Node>| {
        let facts = |node: &Node| (node.metadata.labels.clone(), node.spec.clone());
        if change.old.map(facts) == change.new.map(facts) {
            return;
        }
        let Some(world) = weak.upgrade() else { return };
        world.daemon_sets.all().iter().for_each(|set| queue.add(Key::of(&set.metadata)));
    });
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let Some(set) = world.daemon_sets.get(key) else { return Ok(None) };
    workload::claim(world, set.as_ref(), |_| true).await?;
    if meta::is_deleted(&set.metadata) {
        return Ok(None);
    }
    let history = match history::sync(world, set.as_ref()).await? {
        Found::History(history) => history,
        Found::Going => return Ok(None),
        Found::Collision => {
            let count = set.collisions().unwrap_or_default() + 1;
            patch_status(world, &set, json!({ "collisionCount": count })).await?;
            return Ok(None); // The write wakes us.
        }
    };
    let hash = history::hash_of(&history.newest);
    let settled = settle(world, &set, hash).await;
    let again = report(world, &set, hash).await?;
    settled?;
    forget(world, &set, &history).await?;
    Ok(again)
}

/// The nodes with the set's pods on them; and the pods whose node does not exist and that will never run.
fn places(world: &World, set: &DaemonSet) -> (Vec<Place>, Vec<Arc<Pod>>) {
    let mut owned: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    let mut lost = Vec::new();
    for pod in world.pods_of(meta::uid(&set.metadata)) {
        match pod::target(&pod).map(str::to_owned) {
            Some(node) => owned.entry(node).or_default().push(pod),
            None => lost.push(pod),
        }
    }
    let mut places = Vec::new();
    for node in world.nodes.all() {
        let pods = owned.remove(meta::name(&node.metadata)).unwrap_or_default();
        places.push(Place::new(set, &node, pods));
    }
    let unbound = owned.into_values().flatten().filter(|pod| pods::node(pod).is_none());
    lost.extend(unbound);
    lost.retain(|pod| !pods::is_terminating(pod));
    (places, lost)
}

/// Makes and deletes pods until every node has what it should have.
async fn settle(world: &World, set: &Arc<DaemonSet>, hash: &str) -> Result<(), Error> {
    let (places, lost) = places(world, set);
    let mut plan = decide::plan(set, &places, hash);
    plan.delete.extend(lost);
    carry_out(world, set, hash, &plan).await?;
    if !update::is_rolling(set) {
        return Ok(());
    }
    let (places, _) = self::places(world, set);
    carry_out(world, set, hash, &update::plan(set, &places, hash, meta::now())).await
}

async fn carry_out(world: &World, set: &Arc<DaemonSet>, hash: &str, plan: &Plan) -> Result<(), Error> {
    for pod in plan.delete.iter().filter(|pod| pods::phase(pod) == "Failed") {
        let node = pod::target(pod).unwrap_or_default();
        let message =
            format!("Found failed daemon pod {} on node {node}, will try to kill it", Key::of(&pod.metadata));
        world.events.warning(DaemonSet::COMPONENT, set.as_ref(), "FailedDaemonPod", message);
    }
    let deletions = plan.delete.iter().map(|pod| remove_pod(world, set.as_ref(), pod));
    let deleted = join_all(deletions).await;
    let wanted: Vec<Pod> = plan.create.iter().map(|node| pod::new(set, node, hash)).collect();
    let created = join_all(wanted.iter().map(|pod| create_pod(world, set.as_ref(), pod))).await;
    deleted.into_iter().chain(created).collect()
}

async fn report(world: &World, set: &DaemonSet, hash: &str) -> Result<Again, Error> {
    let (places, _) = places(world, set);
    let now = meta::now();
    let status = decide::status(set, &places, hash, now);
    let again = decide::next_available(set, &places, now);
    if set.status.as_ref() == Some(&status) {
        return Ok(again);
    }
    let patch = json!({
        "currentNumberScheduled": status.current_number_scheduled,
        "desiredNumberScheduled": status.desired_number_scheduled,
        "numberMisscheduled": status.number_misscheduled,
        "numberReady": status.number_ready,
        "updatedNumberScheduled": status.updated_number_scheduled,
        "numberAvailable": status.number_available,
        "numberUnavailable": status.number_unavailable,
        "observedGeneration": status.observed_generation,
    });
    patch_status(world, set, patch).await?;
    Ok(again)
}

async fn patch_status(world: &World, set: &DaemonSet, status: Value) -> Result<(), Error> {
    let key = Key::of(&set.metadata);
    let patch = Patch::Merge(json!({ "metadata": { "uid": set.metadata.uid }, "status": status }));
    let api = world.namespaced::<DaemonSet>(&key.namespace);
    let patched = api.patch_status(&key.name, &patch).await;
    let doing = || format!("write the status of DaemonSet {key}");
    unless_gone(patched.doing(doing).map(|set| world.daemon_sets.wrote(set)))
}

/// Deletes revisions that are too long ago.
async fn forget(world: &World, set: &DaemonSet, history: &History) -> Result<(), Error> {
    let owned = world.pods_of(meta::uid(&set.metadata));
    let has = |hash: &str| owned.iter().any(|pod| pod::hash(pod) == Some(hash));
    history::clean_up(world, set, history, |revision| has(history::hash_of(revision))).await
}
