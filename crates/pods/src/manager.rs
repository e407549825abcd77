//! [`PodManager`]: the pods of a node, one loop each.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::lookup::Lookup;
use crate::runtime::Runtime;
use crate::sink::{PodRef, Sink};
use crate::worker::{Shared, Wanted, Worker};

/// What the pods of a node have in common.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name.
    pub node_name: String,
    /// The node's address.
    pub node_address: Ipv4Addr,
    /// The cluster's domain, `cluster.local`.
    pub cluster_domain: String,
    /// Where the cluster's DNS answers.
    pub dns_address: Ipv4Addr,
    /// The node's own resolver configuration, for pods that want it, and for its search domains.
    pub resolv_conf: PathBuf,
}

/// The pods of a node. Every method returns at once.
///
/// Dropping it, or cancelling its token, ends the loops and leaves the containers running.
pub struct PodManager {
    shared: Arc<Shared>,
    workers: Arc<Mutex<HashMap<String, Entry>>>,
    tasks: tokio::runtime::Handle,
}

struct Entry {
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

impl PodManager {
    /// A manager without pods. Its loops run on the runtime that this is called in, until `stop`.
    pub fn new(
        config: Config,
        runtime: Arc<dyn Runtime>,
        lookup: Arc<dyn Lookup>,
        sink: Arc<dyn Sink>,
        stop: CancellationToken,
    ) -> Self {
        // A token of our own: dropping the manager must not stop others.
        let stop = stop.child_token();
        Self {
            shared: Arc::new(Shared { config, runtime, lookup, sink, stop }),
            workers: Arc::default(),
            tasks: tokio::runtime::Handle::current(),
        }
    }

    /// A pod of this node is, or has become, this.
    pub fn apply(&self, pod: Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if uid.is_empty() {
            tracing::warn!(pod = %PodRef::of(&pod), "a pod without a UID is left alone");
            return;
        }
        let wanted = Wanted { pod: Arc::new(pod), gone: false };
        let mut workers = self.workers();
        match workers.get(&uid) {
            // One that has been given up by the API cannot come back; its UID will not be used again.
            Some(entry) if !entry.task.is_finished() => {
                entry.wanted.send_if_modified(|old| {
                    let changed = !old.gone;
                    if changed {
                        *old = wanted;
                    }
                    changed
                });
            }
            _ => {
                let entry = self.start(wanted);
                workers.insert(uid, entry);
            }
        }
    }

    /// The API has no such pod any more: its containers get two seconds, and nothing is reported.
    pub fn delete(&self, pod: &PodRef) {
        self.give_up(&pod.uid);
    }

    /// These are all pods of this node. What else runs, also from an earlier agent, is ended.
    pub fn reset(&self, pods: Vec<Pod>) {
        let keep: HashSet<String> = pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        let mut known: HashSet<String> = self.workers().keys().cloned().collect();
        match self.shared.runtime.pods() {
            Ok(pods) => known.extend(pods),
            Err(error) => tracing::warn!(%error, "cannot look for pods of an earlier run"),
        }
        for uid in known.difference(&keep) {
            self.give_up(uid);
        }
        for pod in pods {
            self.apply(pod);
        }
    }

    /// The pods that have a loop.
    pub fn pods(&self) -> Vec<String> {
        let workers = self.workers();
        workers.iter().filter(|(_, entry)| !entry.task.is_finished()).map(|(uid, _)| uid.clone()).collect()
    }

    fn give_up(&self, uid: &str) {
        let mut workers = self.workers();
        if let Some(entry) = workers.get(uid).filter(|entry| !entry.task.is_finished()) {
            entry.wanted.send_modify(|wanted| wanted.gone = true);
            return;
        }
        // A leftover of an earlier run: its name is not known, but its containers are.
        workers.remove(uid);
        let (shared, uid) = (Arc::clone(&self.shared), uid.to_owned());
        self.tasks.spawn(async move {
            if let Err(error) = shared.runtime.remove(&uid).await {
                tracing::warn!(uid, %error, "cannot remove what is left of a pod");
            }
        });
    }

    fn start(&self, wanted: Wanted) -> Entry {
        let (wanted, receiver) = watch::channel(wanted);
        let worker = Worker::new(Arc::clone(&self.shared), receiver);
        Entry { wanted, task: self.tasks.spawn(worker.run()) }
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        // Loops that have ended by themselves.
        workers.retain(|_, entry| !entry.task.is_finished());
        workers
    }
}

impl Drop for PodManager {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
