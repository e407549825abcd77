//! StatefulSets: pods with stable names, made, updated and deleted one after the other.
//!
//! Promises: never two pods of one name, since the name is the pod's; with `OrderedReady` a pod is made when all
//! before it are available, and deleted when all after it are gone. Refuses: volumes.

mod decide;
mod pod;

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::Patch;
use serde_json::{Value, json};

use self::decide::{Plan, Scene};
use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::history::{self, Found, History, Revised};
use crate::kit::drive::{Again, drive};
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::store::{Key, Store};
use crate::kit::workload::{self, Workload, create_pod, remove_pod};
use crate::kit::world::{Task, World};

impl Workload for StatefulSet {
    const COMPONENT: &'static str = "statefulset-controller";

    fn store(world: &World) -> &Arc<Store<Self>> {
        &world.stateful_sets
    }

    fn selector(&self) -> Cow<'_, LabelSelector> {
        Cow::Borrowed(&self.spec.selector)
    }

    fn created(&self, pod: &str) -> String {
        format!("create Pod {pod} in StatefulSet {} successful", meta::name(&self.metadata))
    }

    fn deleted(&self, pod: &str) -> String {
        format!("delete Pod {pod} in StatefulSet {} successful", meta::name(&self.metadata))
    }
}

impl Revised for StatefulSet {
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
    workload::listen::<StatefulSet>(world, &queue);
    history::listen::<StatefulSet>(world, &queue);
    let shell = Arc::clone(world);
    let work = drive("statefulset", queue, 8, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("statefulset", world.when_ready(work))
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let Some(set) = world.stateful_sets.get(key) else { return Ok(None) };
    let named = |pod: &Pod| pod::ordinal(meta::name(&set.metadata), pod).is_some();
    workload::claim(world, set.as_ref(), named).await?;
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
    let current = current(&set, &history);
    let settled = settle(world, &set, &current, &history.newest).await;
    let again = report(world, &set, &current, &history.newest).await?;
    settled?;
    forget(world, &set, &history, &current).await?;
    Ok(again)
}

/// The revision that an update started from.
fn current(set: &StatefulSet, history: &History) -> Arc<ControllerRevision> {
    let noted = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let former = history.older.iter().find(|revision| revision.metadata.name.as_deref() == noted);
    Arc::clone(former.unwrap_or(&history.newest))
}

fn scene(
    world: &World,
    set: &StatefulSet,
    current: &ControllerRevision,
    newest: &ControllerRevision,
) -> Scene {
    let owned = world.pods_of(meta::uid(&set.metadata));
    let (current, newest) = (meta::name(&current.metadata), meta::name(&newest.metadata));
    Scene::new(set, owned, current, newest, meta::now())
}

/// Takes the next steps.
async fn settle(
    world: &World,
    set: &Arc<StatefulSet>,
    current: &ControllerRevision,
    newest: &ControllerRevision,
) -> Result<(), Error> {
    let Plan { create, delete } = scene(world, set, current, newest).plan();
    let deleted = join_all(delete.iter().map(|pod| remove_pod(world, set.as_ref(), pod))).await;
    let wanted: Vec<Pod> = create
        .into_iter()
        .map(|(ordinal, revision)| {
            let of = if revision == meta::name(&newest.metadata) { newest } else { current };
            pod::new(set, ordinal, of)
        })
        .collect();
    let created = join_all(wanted.iter().map(|pod| create_pod(world, set.as_ref(), pod))).await;
    deleted.into_iter().chain(created).collect()
}

async fn report(
    world: &World,
    set: &StatefulSet,
    current: &ControllerRevision,
    newest: &ControllerRevision,
) -> Result<Again, Error> {
    let scene = scene(world, set, current, newest);
    let status = scene.status();
    if set.status.as_ref() != Some(&status) {
        let patch = json!({
            "replicas": status.replicas,
            "readyReplicas": status.ready_replicas,
            "availableReplicas": status.available_replicas,
            "currentReplicas": status.current_replicas,
            "updatedReplicas": status.updated_replicas,
            "currentRevision": status.current_revision,
            "updateRevision": status.update_revision,
            "observedGeneration": status.observed_generation,
            "collisionCount": status.collision_count.or(Some(0)),
        });
        patch_status(world, set, patch).await?;
    }
    Ok(scene.next_available())
}

async fn patch_status(world: &World, set: &StatefulSet, status: Value) -> Result<(), Error> {
    let key = Key::of(&set.metadata);
    let patch = Patch::Merge(json!({ "metadata": { "uid": set.metadata.uid }, "status": status }));
    let api = world.namespaced::<StatefulSet>(&key.namespace);
    let patched = api.patch_status(&key.name, &patch).await;
    let doing = || format!("write the status of StatefulSet {key}");
    unless_gone(patched.doing(doing).map(|set| world.stateful_sets.wrote(set)))
}

/// Deletes revisions that are too long ago.
async fn forget(
    world: &World,
    set: &StatefulSet,
    history: &History,
    current: &ControllerRevision,
) -> Result<(), Error> {
    let owned = world.pods_of(meta::uid(&set.metadata));
    history::clean_up(world, set, history, |revision| {
        let name = meta::name(&revision.metadata);
        name == meta::name(&current.metadata) || owned.iter().any(|pod| pod::revision(pod) == Some(name))
    })
    .await
}
