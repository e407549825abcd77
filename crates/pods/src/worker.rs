//! One pod's loop: takes what is wanted and what has happened, lets the model decide, and does it.
//!
//! One task a pod, so pods never wait for each other. Wanted states are latest-wins; nothing here is polled.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::files::hostname;
use crate::hook;
use crate::lookup::Lookup;
use crate::manager::Config;
use crate::model::{Model, State};
use crate::probe;
use crate::prober::{self, Target, Verdict, probe_of};
use crate::runtime::{ContainerId, Exit, PodSpecRef, Record, Runtime, SandboxSpec};
use crate::sink::{Event, PodRef, Sink};
use crate::status::{self, container};
use crate::time::{after, until};

mod prepare;

/// Upstream's default.
const GRACE: Duration = Duration::from_secs(30);
/// What an API that knows nothing of a pod any more leaves its containers.
pub(crate) const ABANDONED: Duration = Duration::from_secs(2);
/// Between attempts to make a pod's network, doubled each time.
const SANDBOX_RETRY: Duration = Duration::from_millis(500);
const SANDBOX_RETRY_MOST: Duration = Duration::from_secs(30);

/// What all pods share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) stop: CancellationToken,
}

/// What a pod is to be.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) pod: Arc<Pod>,
    /// The API has no such pod any more.
    pub(crate) gone: bool,
}

impl Wanted {
    /// How long its containers may take to end; `None` while it is to run.
    fn grace(&self) -> Option<Duration> {
        if self.gone {
            return Some(self.asked_grace().min(ABANDONED));
        }
        self.pod.metadata.deletion_timestamp.as_ref().map(|_| self.asked_grace())
    }

    fn asked_grace(&self) -> Duration {
        let spec = || self.pod.spec.as_ref()?.termination_grace_period_seconds;
        let seconds = self.pod.metadata.deletion_grace_period_seconds.or_else(spec);
        seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(GRACE, Duration::from_secs)
    }
}

/// What happens to a pod.
enum Happening {
    Exited(ContainerId, Exit),
    Judged(Verdict),
}

impl From<Verdict> for Happening {
    fn from(verdict: Verdict) -> Self {
        Self::Judged(verdict)
    }
}

/// One pod's loop.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    reference: PodRef,
    wanted: watch::Receiver<Wanted>,
    pod: Arc<Pod>,
    model: Model,
    address: Option<Ipv4Addr>,
    /// The pod's network has been seen to be there.
    sandbox: bool,
    published: Option<PodStatus>,
    /// The version of the object that was last looked at for what others say.
    seen: Option<String>,
    happenings: mpsc::UnboundedReceiver<Happening>,
    // Unbounded, but every sender is a probe or an exit of one of this pod's containers.
    happening: mpsc::UnboundedSender<Happening>,
    probes: HashMap<String, Vec<AbortHandle>>,
    stopping: Option<Duration>,
    sandbox_failures: u32,
    sandbox_retry: Option<Timestamp>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, wanted: watch::Receiver<Wanted>) -> Self {
        let pod = Arc::clone(&wanted.borrow().pod);
        let (happening, happenings) = mpsc::unbounded_channel();
        let model = Model::new(&pod.spec.clone().unwrap_or_default());
        Self {
            reference: PodRef::of(&pod),
            model,
            published: pod.status.clone(),
            seen: pod.metadata.resource_version.clone(),
            shared,
            wanted,
            pod,
            address: None,
            sandbox: false,
            happenings,
            happening,
            probes: HashMap::new(),
            stopping: None,
            sandbox_failures: 0,
            sandbox_retry: None,
        }
    }

    /// Runs until the pod has ended for good, or the agent stops: then its containers go on.
    pub(crate) async fn run(mut self) {
        self.adopt();
        loop {
            let grace = self.wanted.borrow_and_update().clone();
            self.pod = Arc::clone(&grace.pod);
            if let Some(grace) = grace.grace() {
                self.stop(grace);
                if self.model.idle() {
                    return self.finish().await;
                }
            } else if !self.over() {
                self.advance().await;
            }
            self.publish();
            if !self.next().await {
                self.stop_probes();
                return;
            }
        }
    }

    /// Waits for something to happen. False when this loop is to end.
    async fn next(&mut self) -> bool {
        let wake = match self.wake() {
            Some(at) => until(Timestamp::now(), at),
            None => Duration::MAX,
        };
        let stop = self.shared.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return false,
            changed = self.wanted.changed() => return changed.is_ok(),
            Some(first) = self.happenings.recv() => self.take(first),
            () = tokio::time::sleep(wake) => {}
        }
        // Several things that happened at once make one status.
        while let Ok(more) = self.happenings.try_recv() {
            self.take(more);
        }
        true
    }

    fn wake(&mut self) -> Option<Timestamp> {
        if self.stopping.is_some() || self.over() {
            return None;
        }
        if !self.sandbox {
            return self.sandbox_retry;
        }
        let now = Timestamp::now();
        let plan = self.model.plan(now);
        // What has become due since the last step is due now.
        if plan.start.is_empty() { plan.wake } else { Some(now) }
    }

    /// Whether the API says that this pod has ended; such a one is never started again.
    fn over(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed")) && self.model.idle()
    }

    /// Takes up containers that an earlier agent started.
    fn adopt(&mut self) {
        let records = self.shared.runtime.records(&self.reference.uid).unwrap_or_else(|error| {
            tracing::warn!(pod = %self.reference, %error, "cannot read what is left of a pod");
            Vec::new()
        });
        self.model.adopt(&records);
        let pod = Arc::clone(&self.pod);
        let status = pod.status.as_ref();
        let known = status.into_iter().flat_map(|status| {
            status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten())
        });
        let known: Vec<_> = known.collect();
        for name in self.running() {
            let (Some(container), Some(run)) = (container(&pod, &name), self.model.run_mut(&name)) else {
                continue;
            };
            let id = run.id(&self.reference.uid).map(|id| id.to_string());
            let known = known.iter().find(|known| known.container_id == id);
            // As the last agent knew it: that a new one begins takes no traffic from a pod.
            run.started =
                container.startup_probe.is_none() || known.is_some_and(|known| known.started == Some(true));
            run.ready = match &container.readiness_probe {
                Some(_) => known.is_some_and(|known| known.ready),
                None => run.started,
            };
            self.watch(&name);
        }
        self.address =
            status.and_then(|status| status.pod_ip.as_ref()?.parse().ok()).filter(|_| !self.model.idle());
    }

    fn running(&self) -> Vec<String> {
        let runs = self.model.runs.iter().filter(|run| matches!(run.state, State::Running { .. }));
        runs.map(|run| run.name.clone()).collect()
    }

    /// One step towards the pod as it should be.
    async fn advance(&mut self) {
        if !self.sandbox && !self.make_sandbox().await {
            return;
        }
        loop {
            let plan = self.model.plan(Timestamp::now());
            for name in plan.backed_off {
                let message =
                    format!("Back-off restarting failed container {name} in pod {}", self.reference.name);
                self.event(true, "BackOff", message, Some(&name));
            }
            if plan.start.is_empty() {
                return;
            }
            for name in plan.start {
                self.start(&name).await;
            }
        }
    }

    async fn make_sandbox(&mut self) -> bool {
        let now = Timestamp::now();
        if self.sandbox_retry.is_some_and(|retry| retry > now) {
            return false;
        }
        let spec =
            SandboxSpec { pod: self.pod_ref(), hostname: hostname(&self.pod, &self.shared.config.node_name) };
        match self.shared.runtime.sandbox(&spec).await {
            Ok(sandbox) => {
                if sandbox.created {
                    self.model.initialise_again();
                }
                self.address = Some(sandbox.address);
                self.sandbox = true;
                self.sandbox_retry = None;
                for name in self.running() {
                    self.start_probes(&name);
                }
                true
            }
            Err(error) => {
                let wait = (SANDBOX_RETRY * 2_u32.saturating_pow(self.sandbox_failures.min(10)))
                    .min(SANDBOX_RETRY_MOST);
                self.sandbox_failures += 1;
                self.sandbox_retry = Some(after(now, wait));
                tracing::warn!(pod = %self.reference, %error, "cannot make the pod's network");
                self.event(
                    true,
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {error}"),
                    None,
                );
                false
            }
        }
    }

    fn pod_ref(&self) -> PodSpecRef {
        PodSpecRef {
            uid: self.reference.uid.clone(),
            namespace: self.reference.namespace.clone(),
            name: self.reference.name.clone(),
            host_network: self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true),
        }
    }

    /// Starts a container, or lets it wait with a reason.
    async fn start(&mut self, name: &str) {
        let pod = Arc::clone(&self.pod);
        let (Some(container), Some(address)) = (container(&pod, name), self.address) else { return };
        let starts = self.model.run(name).map_or(0, |run| run.starts);
        let id = ContainerId { uid: self.reference.uid.clone(), name: name.to_owned(), attempt: starts };
        let prepared = self.prepare(container, id, address).await;
        let now = Timestamp::now();
        let spec = match prepared {
            Ok(spec) => spec,
            Err(refusal) => return self.refuse(name, &refusal, now),
        };
        let Some(run) = self.model.run_mut(name) else { return };
        run.starting(now);
        match self.shared.runtime.start(&spec).await {
            Ok(record) => self.began(name, container, record),
            Err(error) => {
                let message = error.to_string();
                tracing::warn!(pod = %self.reference, container = name, message, "cannot start a container");
                self.event(true, "Failed", format!("Error: {message}"), Some(name));
                if let Some(run) = self.model.run_mut(name) {
                    run.exited(cannot_start(message));
                }
            }
        }
    }

    fn refuse(&mut self, name: &str, refusal: &prepare::Refused, now: Timestamp) {
        let Some(run) = self.model.run_mut(name) else { return };
        let same = matches!(&run.state, State::Waiting { message, .. } if message.as_ref() == Some(&refusal.message));
        if refusal.may_pass {
            run.refused_for_now(refusal.reason, refusal.message.clone(), now);
        } else {
            run.refused(refusal.reason, refusal.message.clone(), crate::model::Retry::Never);
        }
        if !same {
            tracing::warn!(pod = %self.reference, container = name, reason = refusal.reason, message = refusal.message, "a container waits");
            self.event(true, "Failed", format!("Error: {}: {}", refusal.reason, refusal.message), Some(name));
        }
    }

    fn began(&mut self, name: &str, container: &Container, record: Record) {
        let Some(run) = self.model.run_mut(name) else { return };
        if let Some(exit) = record.exit {
            let message = exit.message.clone();
            run.exited(exit);
            if let Some(message) = message {
                self.event(true, "Failed", format!("Error: {message}"), Some(name));
            }
            return;
        }
        run.state = State::Running { since: record.started_at };
        run.started = container.startup_probe.is_none();
        run.ready = run.started && container.readiness_probe.is_none();
        self.event(false, "Started", format!("Started container {name}"), Some(name));
        self.watch(name);
        self.start_probes(name);
    }

    /// Lets the loop hear of the end of a running container.
    fn watch(&self, name: &str) {
        let Some(id) = self.model.run(name).and_then(|run| run.id(&self.reference.uid)) else { return };
        let (runtime, happening) = (Arc::clone(&self.shared.runtime), self.happening.clone());
        let stop = self.shared.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                // Nobody listens when the pod has ended otherwise.
                exit = runtime.wait(&id) => drop(happening.send(Happening::Exited(id, exit))),
                () = stop.cancelled() => {}
            }
        });
    }

    /// Starts the startup probe, or, once that has succeeded, the others.
    fn start_probes(&mut self, name: &str) {
        let Some(target) = self.target(name) else { return };
        let started = self.model.run(name).is_some_and(|run| run.started);
        let kinds: &[probe::Kind] =
            if started { &[probe::Kind::Liveness, probe::Kind::Readiness] } else { &[probe::Kind::Startup] };
        let pod = Arc::clone(&self.pod);
        let Some(container) = container(&pod, name) else { return };
        for kind in kinds {
            let Some(probe) = probe_of(container, *kind) else { continue };
            let asking = prober::watch(target.clone(), *kind, probe.clone(), self.happening.clone());
            self.probes.entry(name.to_owned()).or_default().push(tokio::spawn(asking).abort_handle());
        }
    }

    fn target(&self, name: &str) -> Option<Target> {
        let id = self.model.run(name)?.id(&self.reference.uid)?;
        let ports = container(&self.pod, name)?.ports.clone().unwrap_or_default();
        Some(Target {
            runtime: Arc::clone(&self.shared.runtime),
            id,
            address: self.address.unwrap_or(self.shared.config.node_address),
            ports,
        })
    }

    fn stop_probes(&mut self) {
        for handle in self.probes.drain().flat_map(|(_, handles)| handles) {
            handle.abort();
        }
    }

    /// Takes note of what happened.
    fn take(&mut self, happening: Happening) {
        let id = match &happening {
            Happening::Exited(id, _) => id,
            Happening::Judged(verdict) => &verdict.id,
        };
        let name = id.name.clone();
        // What is about an earlier start of a container is history.
        if self.model.run(&name).and_then(|run| run.id(&self.reference.uid)).as_ref() != Some(id) {
            return;
        }
        match happening {
            Happening::Exited(_, exit) => self.exited(&name, exit),
            Happening::Judged(verdict) => self.judged(&name, &verdict),
        }
    }

    fn exited(&mut self, name: &str, exit: Exit) {
        for handle in self.probes.remove(name).into_iter().flatten() {
            handle.abort();
        }
        tracing::info!(pod = %self.reference, container = name, code = exit.code, "a container ended");
        if let Some(run) = self.model.run_mut(name).filter(|run| matches!(run.state, State::Running { .. })) {
            run.exited(exit);
        }
    }

    fn judged(&mut self, name: &str, verdict: &Verdict) {
        if !verdict.healthy {
            let message = format!("{} probe failed: {}", verdict.kind.name(), verdict.message);
            self.event(true, "Unhealthy", message, Some(name));
        }
        let pod = Arc::clone(&self.pod);
        let Some(container) = container(&pod, name) else { return };
        let stopping = self.stopping.is_some();
        let Some(run) = self.model.run_mut(name).filter(|run| matches!(run.state, State::Running { .. }))
        else {
            return;
        };
        match (verdict.kind, verdict.healthy) {
            (probe::Kind::Readiness, healthy) => run.ready = healthy,
            (probe::Kind::Startup, true) => {
                run.started = true;
                run.ready = container.readiness_probe.is_none();
                self.start_probes(name);
            }
            (probe::Kind::Liveness, true) => {}
            (kind, false) if !run.killing && !stopping => {
                run.killing = true;
                run.ready = false;
                let message = format!(
                    "Container {name} failed {} probe, will be restarted",
                    kind.name().to_lowercase()
                );
                self.event(false, "Killing", message, Some(name));
                let own = probe_of(container, kind).and_then(|probe| probe.termination_grace_period_seconds);
                let grace = own.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
                let grace = grace.unwrap_or_else(|| self.wanted.borrow().asked_grace());
                self.kill(name, grace);
            }
            (_, false) => {}
        }
    }

    fn kill(&self, name: &str, grace: Duration) {
        let Some(target) = self.target(name) else { return };
        let hook =
            container(&self.pod, name).and_then(|container| container.lifecycle.as_ref()?.pre_stop.clone());
        tokio::spawn(hook::stop(target, hook, grace));
    }

    /// Ends the pod: all containers at once. Again with a shorter grace period, that counts.
    fn stop(&mut self, grace: Duration) {
        if self.stopping.is_some_and(|before| before <= grace) {
            return;
        }
        let first = self.stopping.replace(grace).is_none();
        for name in self.running() {
            if first {
                self.event(false, "Killing", format!("Stopping container {name}"), Some(&name));
            }
            self.kill(&name, grace);
        }
    }

    /// All containers have ended and the pod is to go: the last status, then everything of it is removed.
    async fn finish(mut self) {
        self.stop_probes();
        let gone = self.wanted.borrow().gone;
        let ever = self.model.runs.iter().any(|run| run.starts > 0);
        if !gone && ever {
            self.publish_final();
        }
        let mut wait = SANDBOX_RETRY;
        while let Err(error) = self.shared.runtime.remove(&self.reference.uid).await {
            tracing::warn!(pod = %self.reference, %error, "cannot remove what is left of a pod");
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(SANDBOX_RETRY_MOST),
                () = self.shared.stop.cancelled() => return,
            }
        }
        tracing::info!(pod = %self.reference, "pod has ended");
        if !self.wanted.borrow().gone {
            self.shared.sink.terminated(&self.reference);
        }
    }

    fn publish(&mut self) {
        if self.over() && self.model.runs.iter().all(|run| run.starts == 0) {
            // Ended before this agent knew it: nothing to add.
            return;
        }
        let status = self.status();
        self.send(status);
    }

    fn publish_final(&mut self) {
        let mut status = self.status();
        status.phase = Some(status::ended_phase(&self.model).to_owned());
        self.send(status);
    }

    fn status(&self) -> PodStatus {
        let facts = status::Facts {
            pod: &self.pod,
            previous: self.published.as_ref(),
            uid: &self.reference.uid,
            pod_ip: self.address,
            host_ip: self.shared.config.node_address,
            now: Timestamp::now(),
        };
        status::status(&self.model, &facts)
    }

    fn send(&mut self, status: PodStatus) {
        if self.published.as_ref() != Some(&status) || self.overruled() {
            self.published = Some(status.clone());
            self.shared.sink.status(&self.reference, status);
        }
    }

    /// Whether somebody else has, later than we spoke, said otherwise about readiness: the controllers do so for nodes they
    /// cannot hear. Now that they hear us again, what we said counts. Looked at once for each version of the object.
    fn overruled(&mut self) -> bool {
        if self.seen == self.pod.metadata.resource_version {
            return false;
        }
        self.seen.clone_from(&self.pod.metadata.resource_version);
        let theirs = self.pod.status.as_ref().and_then(status::ready);
        let ours = self.published.as_ref().and_then(status::ready);
        theirs.zip(ours).is_some_and(|((theirs, later), (ours, before))| theirs != ours && later > before)
    }

    fn event(&self, warning: bool, reason: &'static str, message: String, container: Option<&str>) {
        let container = container.map(ToOwned::to_owned);
        self.shared.sink.event(&self.reference, Event { warning, reason, message, container });
    }
}

/// How a container ended whose shim could not even be started.
fn cannot_start(message: String) -> Exit {
    let now = Timestamp::now();
    Exit {
        code: 128,
        signal: None,
        reason: "StartError".to_owned(),
        message: Some(message),
        started_at: now,
        finished_at: now,
    }
}
