//! Where the collector's facts come from: the caches that all controllers share, and a watch of bare metadata for
//! every other kind.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Arc, PoisonError};

use futures::StreamExt;
use futures::future::{join, join_all};
use kube::api::Api;
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use svcd_api::Wire;
use svcd_client::Raw;
use tokio::sync::watch;

use super::Collector;
use super::graph::Uid;
use crate::kit::drive::drive;
use crate::kit::informer::Pauses;
use crate::kit::kinds::{self, Kind};
use crate::kit::meta;
use crate::kit::store::Store;

/// Kinds whose objects come through the shared caches, with their groups.
const SHARED: [(&str, &str); 16] = [
    ("", "Namespace"),
    ("", "Node"),
    ("", "Pod"),
    ("", "Service"),
    ("", "Endpoints"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("coordination.k8s.io", "Lease"),
    ("apps", "ReplicaSet"),
    ("apps", "Deployment"),
    ("apps", "DaemonSet"),
    ("apps", "StatefulSet"),
    ("apps", "ControllerRevision"),
    ("", "ReplicationController"),
    ("policy", "PodDisruptionBudget"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("networking.k8s.io", "IPAddress"),
];

/// Listens to the shared caches.
pub(super) fn share(collector: &Arc<Collector>) {
    let world = &collector.world;
    listen(collector, &world.namespaces);
    listen(collector, &world.nodes);
    listen(collector, &world.pods);
    listen(collector, &world.services);
    listen(collector, &world.endpoints);
    listen(collector, &world.slices);
    listen(collector, &world.leases);
    listen(collector, &world.replica_sets);
    listen(collector, &world.deployments);
    listen(collector, &world.daemon_sets);
    listen(collector, &world.stateful_sets);
    listen(collector, &world.revisions);
    listen(collector, &world.replication_controllers);
    listen(collector, &world.budgets);
    listen(collector, &world.service_ranges);
    listen(collector, &world.service_addresses);
}

fn listen<K: Wire>(collector: &Arc<Collector>, store: &Arc<Store<K>>) {
    let collector = Arc::downgrade(collector);
    let resource = Arc::new(ApiResource::erase::<K>(&()));
    store.listen(move |change| {
        let Some(collector) = collector.upgrade() else { return };
        let uid = |object: &K| Uid::of(meta::uid(object.metadata()));
        if let Some(old) = change.old
            && change.new.is_none_or(|new| uid(new) != uid(old))
        {
            let look = collector.graph().gone(uid(old));
            collector.look_at(look);
        }
        if let Some(new) = change.new {
            let look = collector.graph().seen(&resource, new.metadata());
            collector.look_at(look);
        }
    });
}

/// Watches the other kinds and works, for ever.
pub(super) async fn run(collector: Arc<Collector>) {
    let kinds = discovered(&collector).await;
    let others: Vec<Kind> = kinds.into_iter().filter(|kind| !is_shared(&kind.resource)).collect();
    let listed = watch::Sender::new(0);
    let watches = join_all(others.iter().map(|kind| follow(&collector, kind, &listed)));
    let work = async {
        // The sender lives on this very stack frame.
        let _ = listed.subscribe().wait_for(|count| *count >= others.len()).await;
        let worker = Arc::clone(&collector);
        drive("garbagecollector", Arc::clone(&collector.queue), 8, move |uid| {
            let collector = Arc::clone(&worker);
            async move { collector.reconcile(uid).await }
        })
        .await;
    };
    join(watches, work).await;
}

async fn discovered(collector: &Collector) -> Vec<Kind> {
    let mut pauses = Pauses::default();
    loop {
        match kinds::discover(&collector.world.client).await {
            Ok(found) => {
                let name = |kind: &Kind| (kind.resource.group.clone(), kind.resource.kind.clone());
                let known = found.iter().map(|kind| (name(kind), kind.clone())).collect();
                *collector.kinds.lock().unwrap_or_else(PoisonError::into_inner) = known;
                return found;
            }
            Err(error) => tracing::warn!(%error, "retrying"),
        }
        tokio::time::sleep(pauses.next().unwrap_or_default()).await;
    }
}

fn is_shared(resource: &ApiResource) -> bool {
    // Events come in floods and own nothing; upstream leaves them out as well.
    resource.kind == "Event" || SHARED.contains(&(resource.group.as_str(), resource.kind.as_str()))
}

/// Tells the graph of every object of a kind.
async fn follow(collector: &Collector, kind: &Kind, listed: &watch::Sender<usize>) {
    let resource = Arc::new(kind.resource.clone());
    let api: Api<PartialObjectMeta<Raw>> = Api::all_with(collector.world.client.clone(), &kind.resource);
    let mut events = pin!(watcher(api, watcher::Config::default()).backoff(Pauses::default()));
    let (mut known, mut found, mut first) = (HashSet::new(), HashSet::new(), true);
    while let Some(event) = events.next().await {
        let look = match event {
            Ok(Event::Init) => {
                found.clear();
                Vec::new()
            }
            Ok(Event::InitApply(object)) => {
                found.insert(Uid::of(meta::uid(&object.metadata)));
                collector.graph().seen(&resource, &object.metadata)
            }
            Ok(Event::Apply(object)) => {
                known.insert(Uid::of(meta::uid(&object.metadata)));
                collector.graph().seen(&resource, &object.metadata)
            }
            Ok(Event::Delete(object)) => {
                let uid = Uid::of(meta::uid(&object.metadata));
                known.remove(&uid);
                collector.graph().gone(uid)
            }
            Ok(Event::InitDone) => {
                let missed: Vec<Uid> = known.difference(&found).copied().collect();
                known = std::mem::take(&mut found);
                if std::mem::take(&mut first) {
                    listed.send_modify(|count| *count += 1);
                }
                let mut graph = collector.graph();
                missed.into_iter().flat_map(|uid| graph.gone(uid)).collect()
            }
            Err(error) => {
                tracing::warn!(kind = kind.resource.kind, %error, "watch failed, retrying");
                Vec::new()
            }
        };
        collector.look_at(look);
    }
}
