//! Objects whose owners are gone are deleted; owners that wait for their dependents, or are to be forgotten by them,
//! are let go when that is done.
//!
//! Promises: nothing is deleted before the server itself has said that no owner exists (by UID). Kinds are found by
//! discovery when the server starts; those that other controllers watch are not watched twice. Refuses: Events.

mod graph;
mod packed;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::json;
use svcd_client::Raw;

use self::graph::{Graph, Item, Leaving, Owner, Uid, Verdict, verdict};
use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::Again;
use crate::kit::kinds::Kind;
use crate::kit::meta;
use crate::kit::queue::Queue;
use crate::kit::world::{Task, World};

struct Collector {
    world: Arc<World>,
    queue: Arc<Queue<Uid>>,
    graph: Mutex<Graph>,
    /// By group and kind.
    kinds: Mutex<HashMap<(String, String), Kind>>,
}

pub(crate) fn start(world: &Arc<World>) -> Task {
    let collector = Arc::new(Collector {
        world: Arc::clone(world),
        queue: Queue::new(),
        graph: Mutex::default(),
        kinds: Mutex::default(),
    });
    watch::share(&collector);
    ("garbagecollector", world.when_ready(watch::run(collector)))
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at(&self, uids: Vec<Uid>) {
        uids.into_iter().for_each(|uid| self.queue.add(uid));
    }

    async fn reconcile(&self, uid: Uid) -> Result<Again, Error> {
        let Some(item) = self.graph().item(uid) else { return Ok(None) };
        match item.leaving {
            Leaving::No => self.collect(uid, &item).await?,
            Leaving::Plain => {}
            Leaving::Foreground => self.foreground(uid, &item).await?,
            Leaving::Orphan => self.orphan(uid, &item).await?,
        }
        Ok(None)
    }

    /// Deletes an object that has lost its owners.
    async fn collect(&self, uid: Uid, item: &Item) -> Result<(), Error> {
        let states = self.states(item).await?;
        let Some(states) = states else { return Ok(()) };
        if verdict(&states, false) == Verdict::Keep {
            return Ok(());
        }
        // Something is to be done: now only the newest state counts.
        let Some(live) = self.live(item).await? else { return Ok(()) };
        let fresh = Item { owners: live.owner_references.clone().unwrap_or_default(), ..item.clone() };
        let Some(states) = self.states(&fresh).await? else { return Ok(()) };
        let has_dependents = !self.graph().dependents(uid).is_empty();
        match verdict(&states, has_dependents) {
            Verdict::Keep => Ok(()),
            Verdict::Release(kept) => self.patch(item, &meta::owners_patch(&live, &kept)).await,
            Verdict::DeleteForeground => self.delete(item, &live, PropagationPolicy::Foreground).await,
            Verdict::Delete => {
                let held = |by: &str| live.finalizers.iter().flatten().any(|finalizer| finalizer == by);
                let policy = if held(graph::ORPHAN) {
                    PropagationPolicy::Orphan
                } else if held(graph::FOREGROUND) {
                    PropagationPolicy::Foreground
                } else {
                    PropagationPolicy::Background
                };
                self.delete(item, &live, policy).await
            }
        }
    }

    /// How each owner is; `None` when that cannot be known, for a kind that the server does not have.
    async fn states(&self, item: &Item) -> Result<Option<Vec<(OwnerReference, Owner)>>, Error> {
        let mut states = Vec::new();
        for owner in &item.owners {
            let Some(state) = self.state(item, owner).await? else { return Ok(None) };
            states.push((owner.clone(), state));
        }
        Ok(Some(states))
    }

    async fn state(&self, item: &Item, owner: &OwnerReference) -> Result<Option<Owner>, Error> {
        let uid = Uid::of(&owner.uid);
        {
            let graph = self.graph();
            if graph.is_absent(uid) {
                return Ok(Some(Owner::Dangling));
            }
            if graph.is_live(uid) {
                let waiting = graph.leaving(uid) == Leaving::Foreground;
                return Ok(Some(if waiting { Owner::Waiting } else { Owner::Solid }));
            }
        }
        let Some(kind) = self.kind(owner) else {
            tracing::debug!(object = %item.key, owner = owner.kind, "an owner's kind is not known");
            return Ok(None);
        };
        let api: Api<Raw> = if kind.namespaced {
            Api::namespaced_with(self.world.client.clone(), &item.key.namespace, &kind.resource)
        } else {
            Api::all_with(self.world.client.clone(), &kind.resource)
        };
        let found = api.get_metadata_opt(&owner.name).await;
        let found = found.doing(|| format!("look for {} {}", owner.kind, owner.name))?;
        Ok(Some(match found.filter(|found| meta::uid(&found.metadata) == owner.uid) {
            Some(found) if graph::leaving(&found.metadata) == Leaving::Foreground => Owner::Waiting,
            Some(_) => Owner::Solid,
            None => {
                self.graph().remember_absent(uid);
                Owner::Dangling
            }
        }))
    }

    fn kind(&self, owner: &OwnerReference) -> Option<Kind> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&(group.to_owned(), owner.kind.clone())).cloned()
    }

    /// Lets an owner go when no dependent holds it up any more; until then its dependents are worth a look.
    async fn foreground(&self, uid: Uid, item: &Item) -> Result<(), Error> {
        let dependents = self.graph().dependents(uid);
        let blocked = dependents.iter().any(|dependent| graph::blocks(dependent, &item.uid));
        self.look_at(dependents.iter().map(|dependent| Uid::of(&dependent.uid)).collect());
        if blocked { Ok(()) } else { self.let_go(item, graph::FOREGROUND).await }
    }

    /// Makes the dependents forget their owner, and lets it go.
    async fn orphan(&self, uid: Uid, item: &Item) -> Result<(), Error> {
        let dependents = self.graph().dependents(uid);
        for dependent in dependents {
            let Some(live) = self.live(&dependent).await? else { continue };
            let owners = live.owner_references.iter().flatten();
            let kept: Vec<OwnerReference> = owners.filter(|owner| owner.uid != item.uid).cloned().collect();
            self.patch(&dependent, &meta::owners_patch(&live, &kept)).await?;
        }
        self.let_go(item, graph::ORPHAN).await
    }

    async fn let_go(&self, item: &Item, finalizer: &str) -> Result<(), Error> {
        let Some(live) = self.live(item).await? else { return Ok(()) };
        let left: Vec<&String> = live.finalizers.iter().flatten().filter(|held| *held != finalizer).collect();
        let left = if left.is_empty() { None } else { Some(left) };
        let patch = Patch::Merge(json!({
            "metadata": { "uid": live.uid, "resourceVersion": live.resource_version, "finalizers": left },
        }));
        self.patch(item, &patch).await
    }

    /// The object as the server has it now, if it is still the same one.
    async fn live(&self, item: &Item) -> Result<Option<ObjectMeta>, Error> {
        let found = self.api(item).get_metadata_opt(&item.key.name).await;
        let found = found.doing(|| format!("read {} {}", item.resource.kind, item.key))?;
        Ok(found.map(|found| found.metadata).filter(|meta| meta::uid(meta) == item.uid))
    }

    async fn patch(&self, item: &Item, patch: &Patch<serde_json::Value>) -> Result<(), Error> {
        let patched = self.api(item).patch_metadata(&item.key.name, &PatchParams::default(), patch).await;
        unless_gone(patched.map(|_| ()).doing(|| format!("change {} {}", item.resource.kind, item.key)))
    }

    async fn delete(&self, item: &Item, live: &ObjectMeta, policy: PropagationPolicy) -> Result<(), Error> {
        let preconditions =
            Preconditions { uid: live.uid.clone(), resource_version: live.resource_version.clone() };
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        tracing::debug!(kind = item.resource.kind, object = %item.key, "its owners are gone");
        let deleted = self.api(item).delete(&item.key.name, &params.preconditions(preconditions)).await;
        unless_gone(deleted.map(|_| ()).doing(|| format!("delete {} {}", item.resource.kind, item.key)))
    }

    fn api(&self, item: &Item) -> Api<Raw> {
        let client = self.world.client.clone();
        if item.key.namespace.is_empty() {
            Api::all_with(client, item.resource.as_ref())
        } else {
            Api::namespaced_with(client, &item.key.namespace, item.resource.as_ref())
        }
    }
}
