//! The one task that feeds the backend.
//!
//! Changes are handed over without waiting and lie in a queue that keeps only the newest word on each Service. The task
//! takes all of it at once, so batches form exactly while a sync runs, and no timer stands between a change and the
//! kernel. Nothing is written before the first [`Update::Reset`], which makes the first sync a comparison with what an
//! earlier run left. What the kernel did not take is tried again, less and less often.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use svcd_svcmap::{Entry, ServiceName, Update};
use tokio::sync::{Notify, watch};
use tokio::time::{self, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Iptables, Report, Wanted};
use crate::conntrack::{self, Fronts};
use crate::metrics::Dropping;
use crate::{Config, Error, Metrics, Mode, Planner, sysctl};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The proxy; lives as a task behind its [`Handle`].
#[derive(Debug)]
pub struct Proxy;

impl Proxy {
    /// Looks for what its mode needs, sets kernel parameters and starts. Ends with `shutdown`, leaving all rules.
    pub async fn start(
        config: Config,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Result<Handle, Error> {
        let (config, backend) = tokio::task::spawn_blocking(move || -> Result<_, Error> {
            let backend: Box<dyn Backend> = match config.mode {
                Mode::Iptables => Box::new(Iptables::new(&config)?),
            };
            sysctl::prepare(config.localhost_node_ports);
            Ok((config, backend))
        })
        .await
        .map_err(|error| Error::Task(error.to_string()))??;
        Ok(Self::with(backend, &config, metrics, shutdown))
    }

    /// Starts with a given backend, within a runtime.
    pub fn with(
        backend: Box<dyn Backend>,
        config: &Config,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Handle {
        let shared = Arc::new(Shared::default());
        let (status, seen) = watch::channel(Status::default());
        let handle = Handle { shared: Arc::clone(&shared), status: seen, metrics: metrics.clone() };
        let task = Task {
            shared,
            backend: Some(backend),
            planner: Planner::new(config),
            metrics,
            status,
            entries: BTreeMap::new(),
            wanted: Wanted::new(),
            dirty: BTreeSet::new(),
            fronts: Fronts::default(),
            dropping: Dropping::default(),
            full: false,
            started: false,
            retry: None,
            pause: FIRST_RETRY,
        };
        tokio::spawn(task.run(config.check_every, shutdown));
        handle
    }
}

/// What the proxy has done so far.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Every change up to this one, as [`Handle::apply`] numbers them, is in the kernel.
    pub generation: u64,
    /// When the kernel last held everything wanted.
    pub synced_at: Option<Instant>,
    /// How many Services the kernel does not take.
    pub failed: usize,
    /// What is wrong at the moment.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing can panic while it is held; its content is whole in any case.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Queue {
    generation: u64,
    reset: bool,
    entries: BTreeMap<ServiceName, Option<Arc<Entry>>>,
    zone: Option<Option<String>>,
    /// Since when something handed over is not in the kernel.
    waiting_since: Option<Instant>,
}

/// Feeds the proxy and tells how it fares. Clones speak of the same proxy.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    status: watch::Receiver<Status>,
    metrics: Metrics,
}

impl Handle {
    /// Hands over a change. Never blocks. Returns its number, for [`Self::synced`].
    pub fn apply(&self, update: Update) -> u64 {
        self.hand_over(|queue| match update {
            Update::Reset(entries) => {
                queue.reset = true;
                queue.entries =
                    entries.into_iter().map(|entry| (entry.service.name.clone(), Some(entry))).collect();
            }
            Update::Changed(entries) => queue.entries.extend(entries),
        })
    }

    /// The node is in another zone now. Never blocks.
    pub fn set_zone(&self, zone: Option<String>) -> u64 {
        self.hand_over(|queue| queue.zone = Some(zone))
    }

    /// Waits until the kernel holds the change of this number and all before it.
    pub async fn synced(&self, generation: u64) -> Result<(), Error> {
        let mut status = self.status.clone();
        let reached = status.wait_for(|status| status.generation >= generation).await;
        reached.map(drop).map_err(|_| Error::Task("the proxy has stopped".to_owned()))
    }

    /// What the proxy has done so far.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// For a health check: fails, with the reason, when a change has waited for longer than `patience`.
    pub fn healthy(&self, patience: Duration) -> Result<(), String> {
        let since = self.shared.queue().waiting_since;
        match since.map(|since| since.elapsed()) {
            Some(waited) if waited > patience => {
                let error = self.status().error.unwrap_or_else(|| "still at it".to_owned());
                Err(format!(
                    "rules have not been in step with the Services for {} s: {error}",
                    waited.as_secs()
                ))
            }
            _ => Ok(()),
        }
    }

    fn hand_over(&self, change: impl FnOnce(&mut Queue)) -> u64 {
        let generation = {
            let mut queue = self.shared.queue();
            change(&mut queue);
            queue.generation += 1;
            queue.waiting_since.get_or_insert_with(Instant::now);
            queue.generation
        };
        self.metrics.queued();
        self.shared.wake.notify_one();
        generation
    }
}

struct Task {
    shared: Arc<Shared>,
    /// Away while a sync runs.
    backend: Option<Box<dyn Backend>>,
    planner: Planner,
    metrics: Metrics,
    status: watch::Sender<Status>,
    entries: BTreeMap<ServiceName, Arc<Entry>>,
    wanted: Wanted,
    /// Services whose plan the kernel does not hold yet.
    dirty: BTreeSet<ServiceName>,
    /// UDP fronts of plans that were replaced.
    fronts: Fronts,
    dropping: Dropping,
    full: bool,
    started: bool,
    retry: Option<time::Instant>,
    pause: Duration,
}

impl Task {
    async fn run(mut self, check_every: Duration, shutdown: CancellationToken) {
        let mut check = time::interval_at(time::Instant::now() + check_every, check_every);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.shared);
        loop {
            let retry = self.retry;
            tokio::select! {
                // In order: nothing is begun after the order to stop, and changes do not keep the check from its turn.
                biased;
                () = shutdown.cancelled() => return,
                _ = check.tick(), if self.started => self.full |= !self.intact().await,
                () = shared.wake.notified() => {}
                () = time::sleep_until(retry.unwrap_or_else(time::Instant::now)), if retry.is_some() => {}
            }
            let generation = self.take();
            if self.started && self.sync(generation).await.is_err() {
                return;
            }
        }
    }

    /// Takes what was handed over; returns the number of the newest change.
    fn take(&mut self) -> u64 {
        let (generation, reset, entries, zone) = {
            let mut queue = self.shared.queue();
            let entries = std::mem::take(&mut queue.entries);
            (queue.generation, std::mem::take(&mut queue.reset), entries, queue.zone.take())
        };
        if let Some(zone) = zone
            && self.planner.set_zone(zone)
        {
            for (name, entry) in self.entries.clone() {
                self.plan(name, Some(entry));
            }
        }
        if reset {
            let gone: Vec<ServiceName> =
                self.entries.keys().filter(|name| !entries.contains_key(name)).cloned().collect();
            gone.into_iter().for_each(|name| self.plan(name, None));
            self.full |= !std::mem::replace(&mut self.started, true);
        }
        for (name, entry) in entries {
            self.plan(name, entry);
        }
        generation
    }

    fn plan(&mut self, name: ServiceName, entry: Option<Arc<Entry>>) {
        let plan = entry.as_ref().map(|entry| Arc::new(self.planner.plan(entry)));
        let plan = plan.filter(|plan| !plan.ports.is_empty());
        match entry {
            Some(entry) => self.entries.insert(name.clone(), entry),
            None => self.entries.remove(&name),
        };
        if self.wanted.get(&name) == plan.as_ref() {
            return;
        }
        self.dropping.replace(self.wanted.get(&name).map(|plan| &**plan), plan.as_deref());
        let old = match plan {
            Some(plan) => self.wanted.insert(name.clone(), plan),
            None => self.wanted.remove(&name),
        };
        if let Some(old) = old {
            self.fronts.withdraw(&old);
        }
        self.dirty.insert(name);
    }

    /// Brings the kernel in step. Fails only when the backend is lost.
    async fn sync(&mut self, generation: u64) -> Result<(), Error> {
        if !self.full && self.dirty.is_empty() {
            self.retry = None;
            self.in_step(generation);
            return Ok(());
        }
        let full = std::mem::take(&mut self.full);
        let touched = std::mem::take(&mut self.dirty);
        let mut fronts = std::mem::take(&mut self.fronts);
        let wanted = std::mem::take(&mut self.wanted);
        let (metrics, dropping) = (self.metrics.clone(), self.dropping);
        let work = self.with_backend(move |backend| {
            let start = Instant::now();
            let report = if full { backend.full(&wanted) } else { backend.partial(&wanted, &touched) };
            metrics.synced(full, start.elapsed(), &report);
            metrics.holds(backend, wanted.len(), dropping);
            let mut answer =
                |name: &ServiceName| wanted.get(name).into_iter().for_each(|plan| fronts.add(plan));
            if full {
                wanted.keys().for_each(&mut answer)
            } else {
                touched.iter().for_each(&mut answer)
            }
            if report.error.is_none() {
                clean_flows(&fronts);
            }
            (wanted, report)
        });
        let (wanted, report) = work.await?;
        self.wanted = wanted;
        self.conclude(generation, report);
        Ok(())
    }

    fn conclude(&mut self, generation: u64, report: Report) {
        tracing::debug!(generation, written = report.written, failed = report.failed.len(), "rules synced");
        for (ServiceName { namespace, name }, error) in &report.failed {
            tracing::error!(kind = "Service", %namespace, %name, %error, "the kernel does not take its rules");
        }
        let complete = report.complete();
        let retry = self.pause;
        let error = report.error.as_ref().or_else(|| report.failed.values().next()).map(ToString::to_string);
        self.status.send_modify(|status| {
            status.failed = report.failed.len();
            status.error = error;
            status.synced_at = if complete { Some(Instant::now()) } else { status.synced_at };
        });
        if let Some(error) = &report.error {
            tracing::error!(%error, ?retry, "rules cannot be synced");
            self.full = true;
        } else {
            self.dirty.extend(report.failed.into_keys());
            self.in_step(generation);
        }
        self.retry = (!complete).then(|| time::Instant::now() + retry);
        self.pause = if complete { FIRST_RETRY } else { (retry * 2).min(LAST_RETRY) };
    }

    /// Everything up to `generation` is in the kernel (or was refused for good reasons, which the status tells).
    fn in_step(&self, generation: u64) {
        {
            let mut queue = self.shared.queue();
            queue.waiting_since = (queue.generation > generation).then(Instant::now);
        }
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.generation, generation) != generation);
    }

    async fn intact(&mut self) -> bool {
        let intact = self.with_backend(|backend| backend.intact()).await.unwrap_or(false);
        if !intact {
            tracing::warn!("somebody removed our rules; writing them again");
        }
        intact
    }

    async fn with_backend<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut dyn Backend) -> R + Send + 'static,
    ) -> Result<R, Error> {
        let Some(mut backend) = self.backend.take() else {
            return Err(Error::Task("the backend was lost".to_owned()));
        };
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut *backend);
            (backend, result)
        });
        match done.await {
            Ok((backend, result)) => {
                self.backend = Some(backend);
                Ok(result)
            }
            Err(error) => {
                tracing::error!(%error, "the proxy stops");
                self.status.send_modify(|status| status.error = Some(error.to_string()));
                Err(Error::Task(error.to_string()))
            }
        }
    }
}

fn clean_flows(fronts: &Fronts) {
    if fronts.is_empty() {
        return;
    }
    match conntrack::clean(fronts) {
        Ok(0) => {}
        Ok(deleted) => tracing::debug!(deleted, "stale UDP flows deleted"),
        Err(error) => {
            tracing::warn!(%error, "stale UDP flows cannot be deleted; clients may keep them for a while")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use svcd_svcmap::{Service, ServiceKind};

    use super::*;

    /// Holds what it was given, or refuses while told to; counts nothing, knows nothing of kernels.
    #[derive(Clone, Default)]
    struct Memory {
        held: Arc<Mutex<Wanted>>,
        refuses: Arc<AtomicBool>,
        flushed: Arc<AtomicBool>,
        gate: Arc<Mutex<()>>,
        syncs: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Memory {
        fn sync(&self, kind: &'static str, wanted: &Wanted) -> Report {
            drop(self.gate.lock().unwrap());
            self.syncs.lock().unwrap().push(kind);
            if self.refuses.load(Ordering::SeqCst) {
                return Report { error: Some(Error::Task("refused".to_owned())), ..Report::default() };
            }
            self.held.lock().unwrap().clone_from(wanted);
            self.flushed.store(false, Ordering::SeqCst);
            Report::default()
        }

        fn names(&self) -> Vec<String> {
            self.held.lock().unwrap().keys().map(|name| name.name.to_string()).collect()
        }
    }

    impl Backend for Memory {
        fn full(&mut self, wanted: &Wanted) -> Report {
            self.sync("full", wanted)
        }

        fn partial(&mut self, wanted: &Wanted, _: &BTreeSet<ServiceName>) -> Report {
            self.sync("partial", wanted)
        }

        fn intact(&mut self) -> bool {
            !self.flushed.load(Ordering::SeqCst)
        }

        fn remove(&mut self) -> Vec<Error> {
            Vec::new()
        }

        fn totals(&self) -> Vec<(&'static str, &'static str, usize)> {
            Vec::new()
        }
    }

    fn start(memory: &Memory) -> Handle {
        let mut config = Config::new("node", Vec::new());
        config.check_every = Duration::from_millis(20);
        Proxy::with(Box::new(memory.clone()), &config, Metrics::default(), CancellationToken::new())
    }

    fn entry(name: &str, ip: &str) -> Arc<Entry> {
        let port = svcd_svcmap::ServicePort {
            name: "".into(),
            protocol: svcd_svcmap::Protocol::Tcp,
            port: 80,
            node_port: None,
        };
        let service = Service {
            cluster_ips: ip.parse().into_iter().collect(),
            ports: vec![port],
            ..Service::new(ServiceName::new("default", name), ServiceKind::ClusterIp)
        };
        Arc::new(Entry { service, endpoints: BTreeMap::new(), portless: Vec::new() })
    }

    fn changed(name: &str, entry: Option<Arc<Entry>>) -> Update {
        Update::Changed(BTreeMap::from([(ServiceName::new("default", name), entry)]))
    }

    #[tokio::test]
    async fn nothing_is_written_before_everything_is_known() {
        let memory = Memory::default();
        let handle = start(&memory);
        handle.apply(changed("early", Some(entry("early", "10.0.0.1"))));
        let generation = handle.apply(Update::Reset(vec![entry("web", "10.0.0.2"), entry("headless", "")]));
        handle.synced(generation).await.unwrap();
        assert_eq!(memory.names(), ["web"]);
        assert_eq!(*memory.syncs.lock().unwrap(), ["full"]);
        assert!(handle.status().synced_at.is_some());
        // A second relist deletes, and is no reason to read the kernel again.
        handle.synced(handle.apply(Update::Reset(vec![entry("api", "10.0.0.3")]))).await.unwrap();
        assert_eq!(memory.names(), ["api"]);
        assert_eq!(*memory.syncs.lock().unwrap(), ["full", "partial"]);
        // What no packet can notice is no reason for anything.
        handle.synced(handle.apply(changed("headless", Some(entry("headless", ""))))).await.unwrap();
        assert_eq!(memory.syncs.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn changes_during_a_sync_go_together() {
        let memory = Memory::default();
        let handle = start(&memory);
        handle.synced(handle.apply(Update::Reset(Vec::new()))).await.unwrap();
        let before = memory.syncs.lock().unwrap().len();
        let last = {
            let gate = Arc::clone(&memory.gate);
            let _shut = gate.lock().unwrap();
            handle.apply(changed("first", Some(entry("first", "10.0.0.1"))));
            // Only a sync that began earlier may go without the rest.
            let more = (0..50).map(|number| {
                let name = format!("s{number}");
                handle.apply(changed(&name, Some(entry(&name, "10.0.0.9"))))
            });
            more.max().unwrap()
        };
        handle.synced(last).await.unwrap();
        assert_eq!(memory.names().len(), 51);
        assert!(memory.syncs.lock().unwrap().len() <= before + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_tried_again() {
        let memory = Memory::default();
        memory.refuses.store(true, Ordering::SeqCst);
        let handle = start(&memory);
        let generation = handle.apply(Update::Reset(vec![entry("web", "10.0.0.1")]));
        let mut status = handle.status.clone();
        status.wait_for(|status| status.error.is_some()).await.unwrap();
        assert!(handle.healthy(Duration::ZERO).is_err());
        assert_eq!(handle.status().generation, 0);
        memory.refuses.store(false, Ordering::SeqCst);
        handle.synced(generation).await.unwrap();
        assert_eq!(memory.names(), ["web"]);
        assert_eq!(handle.status().error, None);
        assert_eq!(handle.healthy(Duration::ZERO), Ok(()));
    }

    #[tokio::test]
    async fn a_flush_is_noticed() {
        let memory = Memory::default();
        let handle = start(&memory);
        handle.synced(handle.apply(Update::Reset(vec![entry("web", "10.0.0.1")]))).await.unwrap();
        memory.held.lock().unwrap().clear();
        memory.flushed.store(true, Ordering::SeqCst);
        svcd_testkit::eventually_async(Duration::from_secs(5), || async {
            if memory.names() == ["web"] { Ok(()) } else { Err("not back yet") }
        })
        .await;
    }
}
