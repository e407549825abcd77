//! Former templates of DaemonSets and StatefulSets, each in a ControllerRevision, as `kubectl rollout history` and
//! `undo` read them.
//!
//! Promises: the newest revision is always the present template; equal templates share a revision; those beyond
//! `revisionHistoryLimit` that no pod has are deleted, the oldest first.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::Patch;
use serde_json::{Value, json};
use svcd_api::Json;

use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::hash::template_hash;
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::selector::{Labels, selects};
use crate::kit::store::{Change, Key, index_of};
use crate::kit::workload::{self, Workload};
use crate::kit::world::World;

/// Tells the pods of one template from those of another.
pub(crate) const REVISION_HASH: &str = "controller-revision-hash";
/// What a user says of a change.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// A kind whose former templates are kept.
pub(crate) trait Revised: Workload {
    fn template(&self) -> &PodTemplateSpec;

    /// How often the name for a new revision was taken.
    fn collisions(&self) -> Option<i32>;

    /// How many old revisions are kept.
    fn history_limit(&self) -> usize;
}

/// An object's revisions.
pub(crate) struct History {
    /// The one with the present template.
    pub(crate) newest: Arc<ControllerRevision>,
    /// The others, oldest first.
    pub(crate) older: Vec<Arc<ControllerRevision>>,
}

/// How a look at the history ended.
pub(crate) enum Found {
    History(History),
    /// The name for a new revision is taken: the object is to count it.
    Collision,
    /// The namespace is going: no revision can be made.
    Going,
}

/// What a revision keeps of an object: a patch that brings the template back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = template.to_json();
    template["$patch"] = json!("replace");
    json!({ "spec": { "template": template } })
}

/// The template that a revision keeps.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    PodTemplateSpec::from_json(revision.data.0.get("spec")?.get("template")?).ok()
}

fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or_default()
}

/// The hash that a revision's pods are labelled with.
pub(crate) fn hash_of(revision: &ControllerRevision) -> &str {
    meta::label(&revision.metadata, REVISION_HASH).unwrap_or_default()
}

/// Wakes the owners of revisions that change.
pub(crate) fn listen<K: Revised>(world: &World, queue: &Arc<Queue<Key>>) {
    let queue = Arc::clone(queue);
    world.revisions.listen(move |change: &Change<'_, ControllerRevision>| {
        let meta = &change.any().metadata;
        if let Some(owner) = meta::controller(meta).filter(|owner| owner.kind == K::KIND) {
            queue.add(Key::new(meta::namespace(meta), &owner.name));
        }
    });
}

/// An object's revisions by age.
fn owned(world: &World, uid: &str) -> Vec<Arc<ControllerRevision>> {
    let mut found = world.revisions.indexed(index_of(&["owner", uid]));
    found.retain(|revision| meta::controller(&revision.metadata).is_some_and(|owner| owner.uid == uid));
    found.sort_by_key(|revision| (number(revision), revision.metadata.name.clone()));
    found
}

/// Makes sure that the present template has the newest revision.
pub(crate) async fn sync<K: Revised>(world: &World, owner: &K) -> Result<Found, Error> {
    adopt(world, owner).await?;
    let mut all = owned(world, meta::uid(owner.metadata()));
    let next = all.last().map_or(1, |last| number(last) + 1);
    let wanted = data(owner.template());
    let Some(at) = all.iter().rposition(|revision| revision.data.0 == wanted) else {
        return match create(world, owner, wanted, next).await? {
            Made::Revision(newest) => Ok(Found::History(History { newest, older: all })),
            Made::Collision => Ok(Found::Collision),
            Made::Nothing => Ok(Found::Going),
        };
    };
    let mut newest = all.remove(at);
    if at < all.len() {
        // The user went back to it.
        newest = patch(world, &newest, &Patch::Merge(json!({ "revision": next }))).await?;
    }
    Ok(Found::History(History { newest, older: all }))
}

/// Takes revisions that fit and belong to no one.
async fn adopt<K: Revised>(world: &World, owner: &K) -> Result<(), Error> {
    for revision in world.revisions.in_namespace(meta::namespace(owner.metadata())) {
        let meta = &revision.metadata;
        if meta::controller(meta).is_none() && selects(&owner.selector(), meta.labels.as_ref()) {
            let owners = workload::with(meta, meta::controlled_by(owner));
            patch(world, &revision, &meta::owners_patch(meta, &owners)).await?;
        }
    }
    Ok(())
}

async fn patch(
    world: &World,
    revision: &ControllerRevision,
    patch: &Patch<Value>,
) -> Result<Arc<ControllerRevision>, Error> {
    let key = Key::of(&revision.metadata);
    let api = world.namespaced::<ControllerRevision>(&key.namespace);
    let patched = api.patch(&key.name, patch).await;
    let patched = patched.doing(|| format!("change ControllerRevision {key}"))?;
    world.revisions.wrote(patched.clone());
    Ok(Arc::new(patched))
}

enum Made {
    Revision(Arc<ControllerRevision>),
    Collision,
    Nothing,
}

async fn create<K: Revised>(world: &World, owner: &K, data: Value, number: i64) -> Result<Made, Error> {
    let revision = new(owner, data, number);
    let key = Key::of(&revision.metadata);
    let api = world.namespaced::<ControllerRevision>(&key.namespace);
    let created = api.create(&revision).await;
    match created.doing(|| format!("create ControllerRevision {key}")) {
        Ok(made) => {
            world.revisions.wrote(made.clone());
            Ok(Made::Revision(Arc::new(made)))
        }
        Err(error) if error.is_namespace_terminating() => Ok(Made::Nothing),
        Err(error) if error.is_already_exists() => {
            let found = api.get_opt(&key.name).await.doing(|| format!("read ControllerRevision {key}"))?;
            let Some(found) = found else { return Err(error) };
            let ours =
                meta::controller(&found.metadata).is_some_and(|o| o.uid == meta::uid(owner.metadata()));
            if ours && found.data.0 == revision.data.0 {
                world.revisions.wrote(found);
                return Err(error); // The cache was behind.
            }
            Ok(Made::Collision)
        }
        Err(error) => Err(error),
    }
}

fn new<K: Revised>(owner: &K, data: Value, number: i64) -> ControllerRevision {
    let template = owner.template();
    let hash = template_hash(template, owner.collisions());
    let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(REVISION_HASH.to_owned(), hash.clone());
    let mut annotations: Labels = owner.metadata().annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key == CHANGE_CAUSE || key.starts_with("deprecated."));
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(owner.metadata()))),
            namespace: owner.metadata().namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![meta::controlled_by(owner)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data),
        revision: Some(number),
    }
}

/// Deletes the revisions beyond the limit, save those `in_use`.
pub(crate) async fn clean_up<K: Revised>(
    world: &World,
    owner: &K,
    history: &History,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Result<(), Error> {
    let spare: Vec<_> = history.older.iter().filter(|revision| !in_use(revision)).collect();
    let excess = spare.len().saturating_sub(owner.history_limit());
    let deletions = spare.into_iter().take(excess).map(|revision| delete(world, revision));
    join_all(deletions).await.into_iter().collect()
}

async fn delete(world: &World, revision: &ControllerRevision) -> Result<(), Error> {
    let key = Key::of(&revision.metadata);
    let api = world.namespaced::<ControllerRevision>(&key.namespace);
    let deleted = api.delete(&key.name, &meta::only_this(&revision.metadata)).await;
    unless_gone(deleted.map(|_| ()).doing(|| format!("delete ControllerRevision {key}")))?;
    world.revisions.bury(&key, meta::uid(&revision.metadata));
    Ok(())
}
