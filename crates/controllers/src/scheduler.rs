//! A node for every pod that has none.
//!
//! Promises: a pod is bound as soon as it is seen; one that fits nowhere says why, and is tried again when a node or a
//! pod changes. Refuses: resources, inter-pod affinity and topology constraints. Nodes take what they are given.

mod decide;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Patch;
use serde_json::json;

pub(crate) use self::decide::is_selected;
use self::decide::{Candidate, Unfit};
use crate::Error;
use crate::error::Doing;
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::store::{Change, Key, index_of};
use crate::kit::world::{Task, World, selector_of};
use crate::kit::{meta, pods};

const NAME: &str = "default-scheduler";

/// What the scheduler knows beyond the caches.
#[derive(Default)]
struct State {
    /// Pods that are being bound, by UID, with their nodes: they count before the cache shows them.
    assumed: HashMap<String, (String, Arc<Pod>)>,
    /// Pods that fit nowhere so far.
    waiting: HashSet<Key>,
}

struct Scheduler {
    world: Arc<World>,
    state: Mutex<State>,
}

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    let scheduler = Arc::new(Scheduler { world: Arc::clone(world), state: Mutex::default() });
    listen(&scheduler, &queue);
    let work = drive("scheduler", queue, 32, move |key| {
        let scheduler = Arc::clone(&scheduler);
        async move { scheduler.reconcile(&key).await }
    });
    ("scheduler", world.when_ready(work))
}

/// Ours, unbound and alive.
fn is_pending(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let scheduler = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(NAME);
    let gated = spec.and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
    scheduler == NAME && !gated && pods::node(pod).is_none() && pods::is_active(pod)
}

fn listen(scheduler: &Arc<Scheduler>, queue: &Arc<Queue<Key>>) {
    let (weak, pending) = (Arc::downgrade(scheduler), Arc::clone(queue));
    scheduler.world.pods.listen(move |change: &Change<'_, Pod>| {
        let Some(scheduler) = weak.upgrade() else { return };
        if change.new.is_some_and(is_pending) {
            // A new condition alone is no reason to try again.
            if change.old.is_none_or(|old| old.spec != change.any().spec) {
                pending.add(change.key());
            }
            return;
        }
        let mut state = scheduler.lock();
        state.assumed.remove(meta::uid(&change.any().metadata));
        state.waiting.remove(&change.key());
        let left = change.old.is_some_and(|old| pods::node(old).is_some())
            && change.new.is_none_or(pods::is_terminal);
        if left {
            state.waiting.drain().for_each(|key| pending.add(key));
        }
    });
    let (weak, queue) = (Arc::downgrade(scheduler), Arc::clone(queue));
    scheduler.world.nodes.listen(move |change: &Change<'_, Node>| {
        let Some(scheduler) = weak.upgrade() else { return };
        let facts = |node: &Node| {
            let labels = node.metadata.labels.clone();
            let allocatable = node.status.as_ref().and_then(|status| status.allocatable.clone());
            (labels, node.spec.clone(), crate::kit::nodes::is_ready(node), allocatable)
        };
        if change.old.map(facts) != change.new.map(facts) {
            scheduler.lock().waiting.drain().for_each(|key| queue.add(key));
        }
    });
}

impl Scheduler {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reconcile(&self, key: &Key) -> Result<Again, Error> {
        let Some(pod) = self.world.pods.get(key).filter(|pod| is_pending(pod)) else { return Ok(None) };
        match self.choose(&pod) {
            Ok(Some(node)) => self.bind(&pod, &node).await?,
            Ok(None) => {}
            Err(message) => {
                if let Err(error) = self.refuse(&pod, &message).await {
                    self.lock().waiting.remove(key);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Decides and takes the decision into account, in one step that no other decision comes between.
    fn choose(&self, pod: &Arc<Pod>) -> Result<Option<String>, String> {
        let mut state = self.lock();
        let uid = meta::uid(&pod.metadata);
        if state.assumed.contains_key(uid) {
            return Ok(None); // It is being bound.
        }
        let nodes = self.world.nodes.all();
        let siblings = self.siblings(pod, &state);
        let mut assumed: HashMap<&str, Vec<Arc<Pod>>> = HashMap::new();
        for (node, pod) in state.assumed.values() {
            assumed.entry(node).or_default().push(Arc::clone(pod));
        }
        let world = &self.world;
        let candidates = nodes.iter().map(|node| {
            let name = meta::name(&node.metadata);
            let more = assumed.get(name).map(Vec::as_slice).unwrap_or_default();
            Candidate {
                node,
                siblings: siblings.get(name).copied().unwrap_or_default(),
                pods: world.pods.count(index_of(&["node", name])) + more.len(),
                taken_ports: move || {
                    let bound = world.pods_on(name);
                    bound.iter().chain(more).flat_map(|pod| decide::host_ports(pod)).collect()
                },
            }
        });
        let chosen = decide::choose(pod, candidates);
        match chosen {
            Ok(node) => {
                state.assumed.insert(uid.to_owned(), (node.clone(), Arc::clone(pod)));
                Ok(Some(node))
            }
            Err(unfit) => {
                state.waiting.insert(Key::of(&pod.metadata));
                Err(unfit_message(&unfit, nodes.len()))
            }
        }
    }

    /// How many pods of the same owner, or of the same Services, each node has.
    fn siblings(&self, pod: &Pod, state: &State) -> BTreeMap<String, usize> {
        let namespace = meta::namespace(&pod.metadata);
        let owner = meta::controller(&pod.metadata).map(|owner| owner.uid.as_str());
        let mut counts = BTreeMap::new();
        let mut count = |node: &str| *counts.entry(node.to_owned()).or_default() += 1;
        if let Some(owner) = owner {
            let bound = self.world.pods_of(owner);
            bound
                .iter()
                .filter(|pod| pods::is_active(pod))
                .filter_map(|pod| pods::node(pod))
                .for_each(&mut count);
            let owned = |pod: &Pod| meta::controller(&pod.metadata).is_some_and(|o| o.uid == owner);
            state.assumed.values().filter(|(_, pod)| owned(pod)).for_each(|(node, _)| count(node));
            return counts;
        }
        for service in self.world.selecting_services(namespace, pod.metadata.labels.as_ref()) {
            let Some(selector) = selector_of(&service) else { continue };
            let selected = self.world.selected_pods(namespace, selector);
            let active = selected.iter().filter(|pod| pods::is_active(pod));
            active.filter_map(|pod| pods::node(pod)).for_each(&mut count);
        }
        counts
    }

    async fn bind(&self, pod: &Arc<Pod>, node: &str) -> Result<(), Error> {
        let key = Key::of(&pod.metadata);
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": key.name, "namespace": key.namespace, "uid": pod.metadata.uid },
            "target": { "kind": "Node", "name": node },
        });
        let api = self.world.namespaced::<Pod>(&key.namespace);
        let bound = api.create_subresource("binding", &key.name, &binding).await;
        match bound.doing(|| format!("bind pod {key} to {node}")) {
            Ok(()) => {
                let message = format!("Successfully assigned {key} to {node}");
                self.world.events.normal(NAME, pod.as_ref(), "Scheduled", message);
                Ok(())
            }
            Err(error) => {
                self.lock().assumed.remove(meta::uid(&pod.metadata));
                // Gone, or bound by someone else: the watch tells which.
                if error.is_stale() { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Says on the pod why it waits.
    async fn refuse(&self, pod: &Arc<Pod>, message: &str) -> Result<(), Error> {
        let held = pods::condition(pod, "PodScheduled");
        if held.is_some_and(|held| held.status == "False" && held.message.as_deref() == Some(message)) {
            return Ok(());
        }
        self.world.events.warning(NAME, pod.as_ref(), "FailedScheduling", message.to_owned());
        let since =
            held.filter(|held| held.status == "False").and_then(|held| held.last_transition_time.clone());
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| Time(meta::now())),
        });
        let key = Key::of(&pod.metadata);
        // A strategic merge: conditions of others stay as they are.
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": pod.metadata.uid },
            "status": { "conditions": [condition] },
        }));
        let api = self.world.namespaced::<Pod>(&key.namespace);
        let patched = api.patch_status(&key.name, &patch).await;
        let doing = || format!("say why pod {key} is not scheduled");
        crate::error::unless_gone(patched.doing(doing).map(|pod| self.world.pods.wrote(pod)))
    }
}

fn unfit_message(unfit: &[Unfit], nodes: usize) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for reason in unfit {
        *counts.entry(reason.to_string()).or_default() += 1;
    }
    let mut reasons: Vec<String> =
        counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_upstreams() {
        assert_eq!(unfit_message(&[], 0), "no nodes available to schedule pods");
        let taint = || Unfit::Taint { key: "dedicated".to_owned(), value: "db".to_owned() };
        assert_eq!(
            unfit_message(&[taint(), Unfit::Selector, taint()], 3),
            "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
             2 node(s) had untolerated taint {dedicated: db}."
        );
    }
}
