//! Keeps the authorizer's index: one watch over RBAC's objects, one over pods. Order: list, then watch from the list's
//! revision. Ends with the server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use svcd_store::{Batch, ListRequest, ReadError, Record, Revision, Watch};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::node::References;
use super::rbac::{self, CLUSTER_ROLES, GROUP};
use crate::errors::Failure;
use crate::server::ApiServer;

/// How long to wait before a store that fails is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How many refused requests may wait for the index at once; others are refused at once.
const WAITERS: usize = 1024;

type Waiter = (Revision, oneshot::Sender<()>);

/// How far the index has come, and who waits for it to come further.
pub(super) struct Progress {
    reached: AtomicU64,
    ask: mpsc::Sender<Waiter>,
    asked: Mutex<Option<mpsc::Receiver<Waiter>>>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let (ask, asked) = mpsc::channel(WAITERS);
        Self { reached: AtomicU64::new(0), ask, asked: Mutex::new(Some(asked)) }
    }

    /// Waits until the index knows of everything up to a revision. False when it did already or does not get there.
    pub(super) async fn reach(&self, revision: Revision, patience: Duration) -> bool {
        if self.reached.load(Ordering::Acquire) >= revision.0 {
            return false;
        }
        let (tell, told) = oneshot::channel();
        self.ask.try_send((revision, tell)).is_ok()
            && matches!(tokio::time::timeout(patience, told).await, Ok(Ok(())))
    }
}

struct Watches {
    rbac: Box<dyn Watch>,
    pods: Box<dyn Watch>,
}

impl ApiServer {
    fn prefixes(&self) -> (String, String) {
        let pods = self.resources.find("", "v1", "pods").map(|pods| pods.prefix(None));
        (format!("/objects/{GROUP}/"), pods.unwrap_or_default())
    }

    /// Fills the index and keeps it from now on. The second call does nothing.
    pub(crate) async fn keep_index(self: &Arc<Self>) -> Result<(), Failure> {
        let asked = self.authorizer.progress.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(asked) = asked else { return Ok(()) };
        let watches = self.load_index().await?;
        let stop = CancellationToken::new();
        let keeper = Keeper { server: Arc::downgrade(self), asked, waiting: Vec::new(), stop: stop.clone() };
        tokio::spawn(keeper.run(watches));
        self.authorizer.keeper.get_or_init(|| stop.drop_guard());
        Ok(())
    }

    async fn load_index(&self) -> Result<Watches, ReadError> {
        let (rules_at, pods_at) = self.prefixes();
        let list = |prefix: &str| ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
        let (index, nodes) = (rbac::Index::default(), References::default());
        let rules = self.store.list(list(&rules_at)).await?;
        rules.records.iter().for_each(|stored| take_rule(&index, &rules_at, stored, false));
        let pods = self.store.list(list(&pods_at)).await?;
        pods.records.iter().for_each(|stored| take_pod(&nodes, &pods_at, stored, false));
        self.authorizer.rbac.replace(index);
        self.authorizer.nodes.replace(nodes);
        Ok(Watches {
            rbac: self.store.watch(&rules_at, rules.revision).await?,
            pods: self.store.watch(&pods_at, pods.revision).await?,
        })
    }
}

fn take_rule(index: &rbac::Index, prefix: &str, stored: &Record, deleted: bool) {
    let rest = stored.key.get(prefix.len()..).unwrap_or_default();
    let mut parts = rest.splitn(3, '/');
    let (Some(plural), Some(namespace), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    if deleted {
        index.delete(plural, namespace, name);
    } else {
        index.apply(plural, namespace, name, &stored.value);
    }
}

fn take_pod(nodes: &References, prefix: &str, stored: &Record, deleted: bool) {
    if deleted {
        return nodes.delete(&stored.key);
    }
    let rest = stored.key.get(prefix.len()..).unwrap_or_default();
    nodes.apply(&stored.key, rest.split('/').next().unwrap_or_default(), &stored.value);
}

struct Keeper {
    server: Weak<ApiServer>,
    asked: mpsc::Receiver<Waiter>,
    waiting: Vec<Waiter>,
    stop: CancellationToken,
}

enum Turn {
    Rules(Result<Batch, ReadError>),
    Pods(Result<Batch, ReadError>),
    Asked(Waiter),
    Stop,
}

impl Keeper {
    async fn run(mut self, mut watches: Watches) {
        loop {
            let turn = tokio::select! {
                () = self.stop.cancelled() => Turn::Stop,
                batch = watches.rbac.next() => Turn::Rules(batch),
                batch = watches.pods.next() => Turn::Pods(batch),
                Some(waiter) = self.asked.recv() => Turn::Asked(waiter),
            };
            let Some(server) = self.server.upgrade() else { return };
            match turn {
                Turn::Stop => return,
                Turn::Asked(waiter) => self.waiting.push(waiter),
                Turn::Rules(Ok(batch)) => self.rules(&server, &batch).await,
                Turn::Pods(Ok(batch)) => {
                    let (_, prefix) = server.prefixes();
                    let events = batch.events.iter();
                    events.for_each(|e| take_pod(&server.authorizer.nodes, &prefix, &e.record, e.deleted));
                }
                Turn::Rules(Err(error)) | Turn::Pods(Err(error)) => {
                    let Some(loaded) = self.reload(&server, error).await else { return };
                    watches = loaded;
                }
            }
            let reached = watches.rbac.progress().min(watches.pods.progress());
            server.authorizer.progress.reached.store(reached.0, Ordering::Release);
            let ready = self.waiting.extract_if(.., |(revision, _)| *revision <= reached);
            ready.for_each(|(_, tell)| {
                // Who no longer waits is not told.
                let _ = tell.send(());
            });
            self.waiting.retain(|(_, tell)| !tell.is_closed());
        }
    }

    async fn rules(&self, server: &Arc<ApiServer>, batch: &Batch) {
        let (prefix, _) = server.prefixes();
        let cluster_roles = format!("{prefix}{CLUSTER_ROLES}/");
        let mut roles_changed = false;
        for event in &batch.events {
            take_rule(&server.authorizer.rbac, &prefix, &event.record, event.deleted);
            roles_changed |= event.record.key.starts_with(&cluster_roles);
        }
        if roles_changed && let Err(failure) = server.aggregate().await {
            tracing::warn!(
                why = failure.message(),
                "aggregated ClusterRoles could not be brought up to date"
            );
        }
    }

    /// After a watch has ended: everything anew. `None` when the store is closed.
    async fn reload(&self, server: &Arc<ApiServer>, mut error: ReadError) -> Option<Watches> {
        loop {
            match error {
                ReadError::Closed => return None,
                ReadError::Compacted { .. } => {}
                other => {
                    tracing::error!(%other, "roles and pods cannot be watched; trying again");
                    tokio::select! {
                        () = self.stop.cancelled() => return None,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
            match server.load_index().await {
                Ok(watches) => return Some(watches),
                Err(next) => error = next,
            }
        }
    }
}
