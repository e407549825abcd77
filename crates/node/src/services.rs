//! Services and their endpoints on their way from the watch into the kernel and the zone.
//!
//! One task takes events as they come, all that are there at once, and hands over what they change. There is no timer on
//! this path: batches form while the task is busy, and only then. The [`Directory`] remembers the entries (shared with their
//! readers) for a DNS server that starts later, and for the environment of pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use svcd_svcmap::{Entry, Index, ServiceName, Update};
use tokio::sync::watch;

use crate::watch::Change;

/// How many events are taken in before what they change is handed over.
const BATCH: usize = 256;

/// Where changes go: neither call may block.
pub(crate) trait Forwarder: Send + 'static {
    /// Hands over a change.
    fn apply(&self, update: Update);
}

impl<A: Forwarder, B: Forwarder> Forwarder for (A, B) {
    fn apply(&self, update: Update) {
        self.0.apply(update.clone());
        self.1.apply(update);
    }
}

impl Forwarder for svcd_proxy::Handle {
    fn apply(&self, update: Update) {
        Self::apply(self, update);
    }
}

/// What answers names, once there is one.
pub(crate) trait Names: Send + 'static {
    /// Takes over what changed among Services.
    fn apply(&self, update: &Update);
    /// Says which namespaces exist.
    fn reset_namespaces(&self, names: &BTreeSet<String>);
    /// Says whether a namespace exists.
    fn set_namespace(&self, name: &str, exists: bool);
}

impl Names for svcd_dns::Handle {
    fn apply(&self, update: &Update) {
        Self::apply(self, update);
    }

    fn reset_namespaces(&self, names: &BTreeSet<String>) {
        Self::reset_namespaces(self, names.iter().map(String::as_str));
    }

    fn set_namespace(&self, name: &str, exists: bool) {
        if exists { self.apply_namespace(name) } else { self.delete_namespace(name) }
    }
}

/// All Services as they are now. Clones share it.
#[derive(Clone)]
pub(crate) struct Directory {
    state: Arc<Mutex<State>>,
    complete: Arc<watch::Sender<bool>>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<ServiceName, Arc<Entry>>,
    services_known: bool,
    namespaces: Option<BTreeSet<String>>,
    names: Option<Box<dyn Names>>,
}

impl Default for Directory {
    fn default() -> Self {
        Self { state: Arc::default(), complete: Arc::new(watch::Sender::new(false)) }
    }
}

impl Directory {
    /// Waits until all Services that there are have been seen once.
    pub(crate) async fn complete(&self) {
        // The sender lives in self, so the channel cannot be closed.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// From now on names are answered by this one; it is told what is known at once.
    pub(crate) fn set_names(&self, names: impl Names) {
        let mut state = self.state();
        if state.services_known {
            names.apply(&Update::Reset(state.entries.values().cloned().collect()));
        }
        if let Some(namespaces) = &state.namespaces {
            names.reset_namespaces(namespaces);
        }
        state.names = Some(Box::new(names));
    }

    /// The Services of a namespace.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Vec<Arc<Entry>> {
        let first = ServiceName { namespace: namespace.into(), name: "".into() };
        self.state()
            .entries
            .range(first..)
            .take_while(|(name, _)| &*name.namespace == namespace)
            .map(|(_, entry)| Arc::clone(entry))
            .collect()
    }

    fn apply(&self, update: &Update) {
        let mut state = self.state();
        match update {
            Update::Reset(entries) => {
                state.entries =
                    entries.iter().map(|entry| (entry.service.name.clone(), Arc::clone(entry))).collect();
                state.services_known = true;
            }
            Update::Changed(changed) => {
                for (name, entry) in changed {
                    match entry {
                        Some(entry) => state.entries.insert(name.clone(), Arc::clone(entry)),
                        None => state.entries.remove(name),
                    };
                }
            }
        }
        if let Some(names) = &state.names {
            names.apply(update);
        }
        drop(state);
        self.complete.send_if_modified(|complete| !std::mem::replace(complete, true));
    }

    /// Takes in what the watch says of namespaces.
    pub(crate) fn take_namespace(&self, change: Change<Namespace>) {
        let mut state = self.state();
        let State { namespaces, names, .. } = &mut *state;
        match change {
            Change::Reset(all) => {
                let all = namespaces.insert(all.iter().map(ResourceExt::name_any).collect());
                if let Some(names) = names {
                    names.reset_namespaces(all);
                }
            }
            Change::Apply(one) => set_namespace(namespaces, names, one.name_any(), true),
            Change::Delete(one) => set_namespace(namespaces, names, one.name_any(), false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_namespace(
    known: &mut Option<BTreeSet<String>>,
    names: &mut Option<Box<dyn Names>>,
    name: String,
    exists: bool,
) {
    if let Some(names) = names {
        names.set_namespace(&name, exists);
    }
    let known = known.get_or_insert_default();
    if exists {
        known.insert(name);
    } else {
        known.remove(&name);
    }
}

/// Boxed, since room for a whole batch is taken at once.
enum Seen {
    Service(Box<Change<Service>>),
    Slice(Box<Change<EndpointSlice>>),
}

/// Feeds the forwarder and the directory until the streams end, which they do not.
pub(crate) async fn feed(
    services: impl Stream<Item = Change<Service>> + Send + Unpin,
    slices: impl Stream<Item = Change<EndpointSlice>> + Send + Unpin,
    forwarder: impl Forwarder,
    directory: Directory,
) {
    let mut index = Index::new();
    let seen = stream::select(
        services.map(|change| Seen::Service(Box::new(change))),
        slices.map(|change| Seen::Slice(Box::new(change))),
    );
    let mut batches = seen.ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        for seen in batch {
            take(&mut index, seen);
        }
        if let Some(update) = index.take_update() {
            // The kernel first: a name that resolves should lead somewhere.
            forwarder.apply(update.clone());
            directory.apply(&update);
        }
    }
}

fn take(index: &mut Index, seen: Seen) {
    match seen {
        Seen::Service(change) => take_service(index, *change),
        Seen::Slice(change) => take_slice(index, *change),
    };
}

fn take_service(index: &mut Index, change: Change<Service>) -> bool {
    match change {
        Change::Reset(all) => index.reset_services(&all),
        Change::Apply(one) => index.apply_service(&one),
        Change::Delete(one) => index.delete_service(&one.namespace().unwrap_or_default(), &one.name_any()),
    }
}

fn take_slice(index: &mut Index, change: Change<EndpointSlice>) -> bool {
    match change {
        Change::Reset(all) => index.reset_slices(&all),
        Change::Apply(one) => index.apply_slice(&one),
        Change::Delete(one) => index.delete_slice(&one.namespace().unwrap_or_default(), &one.name_any()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::channel::mpsc::unbounded;
    use serde_json::json;

    use super::*;

    impl Forwarder for mpsc::Sender<Update> {
        fn apply(&self, update: Update) {
            self.send(update).unwrap();
        }
    }

    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Told {
        fn add(&self, what: String) {
            self.0.lock().unwrap().push(what);
        }

        fn all(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Names for Told {
        fn apply(&self, update: &Update) {
            self.add(match update {
                Update::Reset(all) => format!("reset {}", all.len()),
                Update::Changed(changed) => format!("changed {}", changed.len()),
            });
        }

        fn reset_namespaces(&self, names: &BTreeSet<String>) {
            self.add(format!("namespaces {}", names.len()));
        }

        fn set_namespace(&self, name: &str, exists: bool) {
            self.add(format!("{name} {exists}"));
        }
    }

    fn service(namespace: &str, name: &str, ip: &str) -> Service {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80, "protocol": "TCP"}]},
        }))
        .unwrap()
    }

    fn namespace(name: &str) -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
    }

    #[tokio::test]
    async fn the_first_word_is_a_reset_and_a_relist_deletes() {
        let (services, services_out) = unbounded();
        let (slices, slices_out) = unbounded();
        let (forwarder, seen) = mpsc::channel();
        let directory = Directory::default();
        let told = Told::default();
        directory.set_names(told.clone());
        let feeding = tokio::spawn(feed(services_out, slices_out, forwarder, directory.clone()));

        services
            .unbounded_send(Change::Reset(vec![
                service("a", "x", "10.96.0.5"),
                service("b", "y", "10.96.0.6"),
            ]))
            .unwrap();
        slices.unbounded_send(Change::Reset(vec![])).unwrap();
        directory.complete().await;
        assert!(matches!(seen.recv().unwrap(), Update::Reset(all) if all.len() == 2));
        assert_eq!(told.all(), ["reset 2"]);
        assert_eq!(directory.of_namespace("a").len(), 1);

        services.unbounded_send(Change::Reset(vec![service("b", "y", "10.96.0.6")])).unwrap();
        drop((services, slices));
        feeding.await.unwrap();
        let gone = ServiceName { namespace: "a".into(), name: "x".into() };
        assert!(
            matches!(seen.recv().unwrap(), Update::Changed(changed) if changed.get(&gone) == Some(&None))
        );
        assert!(directory.of_namespace("a").is_empty());
        assert_eq!(told.all(), ["changed 1"]);
    }

    #[tokio::test]
    async fn names_that_come_late_are_told_everything() {
        let directory = Directory::default();
        directory.take_namespace(Change::Reset(vec![namespace("default"), namespace("old")]));
        directory.take_namespace(Change::Delete(namespace("old")));
        let (forwarder, _seen) = mpsc::channel();
        feed(
            stream::iter([Change::Reset(vec![service("a", "x", "10.96.0.5")])]),
            stream::iter([Change::Reset(vec![])]),
            forwarder,
            directory.clone(),
        )
        .await;
        let told = Told::default();
        directory.set_names(told.clone());
        assert_eq!(told.all(), ["reset 1", "namespaces 1"]);
        directory.take_namespace(Change::Apply(namespace("new")));
        assert_eq!(told.all(), ["new true"]);
    }

    #[tokio::test]
    async fn names_that_come_early_wait_for_the_truth() {
        let directory = Directory::default();
        let told = Told::default();
        directory.set_names(told.clone());
        assert!(told.all().is_empty(), "an empty reset would deny names that exist");
    }
}
