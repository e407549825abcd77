//! The built-in runtime: a pod is a network namespace on the node's bridge, a container is a process of this machine in it,
//! under a shim that outlives the agent.
//!
//! On disk, below the state directory, `<pod uid>/<container>/<attempt>/` holds what was asked (`spec.json`), that it runs
//! (`started.json` and the `alive` FIFO, whose write end only a living shim holds), its `c.log`, and how it ended
//! (`exit.json`). So whether a container runs is known without process numbers, and without asking twice.

mod image;
mod place;
mod start;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};
use svcd_podnet::{PodNet, netns};

use crate::error::{Error, Result};
use crate::runtime::{
    ContainerId, ContainerSpec, ExecOutput, Exit, Record, Refusal, Runtime, Sandbox, SandboxSpec, Signal,
};
use crate::shim::{self, Started};

use place::Place;

/// How long [`forget`] waits for what it killed.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// What the process runtime must know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where pods are remembered. Must survive the agent.
    pub state_dir: PathBuf,
    /// The binary that dispatches [`crate::SHIM_COMMAND`] and [`crate::ECHO_COMMAND`]: the agent's own.
    pub self_exe: PathBuf,
    /// The node's address: that of its host-network pods.
    pub node_address: Ipv4Addr,
}

/// The built-in runtime.
pub struct ProcessRuntime {
    config: Config,
    net: Arc<PodNet>,
}

impl ProcessRuntime {
    /// Runs pods on this network. Nothing is started or changed yet.
    ///
    /// # Errors
    /// When the state directory cannot be made.
    pub fn new(config: Config, net: Arc<PodNet>) -> Result<Self> {
        fs::create_dir_all(&config.state_dir).map_err(Error::io("create", &config.state_dir))?;
        Ok(Self { config, net })
    }

    fn place(&self, id: &ContainerId) -> Place {
        Place::of(&self.config.state_dir, id)
    }

    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.config.state_dir.join(uid)
    }

    /// The namespace of a pod that has a network of its own. One whose mount was lost, but whose containers live, is
    /// found again through them.
    async fn netns(&self, uid: &str) -> Result<(PathBuf, bool)> {
        let path = self.net.netns_path(uid);
        if netns::exists(&path) {
            return Ok((path, false));
        }
        let alive = place::all(&self.config.state_dir, uid)?.into_iter().filter(Place::alive);
        for started in alive.filter_map(|place| place.started()) {
            if netns::adopt(&path, started.shim).is_ok() {
                return Ok((path, false));
            }
        }
        Ok((self.net.create_netns(uid).await?, true))
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn check(&self, pod: &Pod, container: &Container) -> Result<(), Refusal> {
        support::check(pod, container)
    }

    async fn sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox> {
        let dir = self.pod_dir(&spec.pod.uid);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let note = dir.join("pod.json");
        let known = note.exists();
        shim::write(&note, &spec.pod).map_err(Error::io("write", &note))?;
        if spec.pod.host_network {
            return Ok(Sandbox { address: self.config.node_address, created: !known });
        }
        let (path, created) = self.netns(&spec.pod.uid).await?;
        let address = self.net.attach(&path, &spec.pod.uid).await?.address;
        Ok(Sandbox { address, created })
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Record> {
        let netns = (!spec.pod.host_network).then(|| self.net.netns_path(&spec.pod.uid));
        start::start(&self.config, netns, spec).await
    }

    async fn wait(&self, id: &ContainerId) -> Exit {
        let place = self.place(id);
        place.ended().await;
        place.exit()
    }

    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<()> {
        self.place(id).signal(signal);
        Ok(())
    }

    async fn exec(&self, id: &ContainerId, command: &[String], patience: Duration) -> Result<ExecOutput> {
        let place = self.place(id);
        let started = place.started().filter(|_| place.alive());
        let started = started.ok_or_else(|| Error::NotRunning(id.to_string()))?;
        start::exec(&self.config, &place, &started, command, patience).await
    }

    fn records(&self, uid: &str) -> Result<Vec<Record>> {
        Ok(place::all(&self.config.state_dir, uid)?.iter().filter_map(Place::record).collect())
    }

    fn pods(&self) -> Result<Vec<String>> {
        let mut pods: BTreeSet<String> = place::names(&self.config.state_dir)?.into_iter().collect();
        pods.extend(self.net.attached());
        Ok(pods.into_iter().collect())
    }

    async fn remove(&self, uid: &str) -> Result<()> {
        for place in place::all(&self.config.state_dir, uid)? {
            place.signal(Signal::Kill);
            place.ended().await;
        }
        self.net.detach(uid).await?;
        self.net.delete_netns(uid)?;
        remove_dir(&self.pod_dir(uid))
    }
}

/// The log of a container's latest start, or of the one before, in the format of the container runtime interface.
pub fn log_path(state_dir: &Path, uid: &str, container: &str, previous: bool) -> Option<PathBuf> {
    let places = place::all(state_dir, uid).ok()?;
    let mut own = places.into_iter().rev().filter(|place| place.id().name == container);
    own.nth(usize::from(previous)).map(|place| place.log()).filter(|log| log.exists())
}

/// The containers that run, with or without an agent, in words.
///
/// # Errors
/// When records cannot be read.
pub fn leftovers(state_dir: &Path) -> Result<Vec<String>> {
    let alive: Vec<Place> = remembered(state_dir)?.into_iter().filter(Place::alive).collect();
    Ok(alive.iter().map(|place| format!("container {}", place.id())).collect())
}

fn remembered(state_dir: &Path) -> Result<Vec<Place>> {
    let mut all = Vec::new();
    for uid in place::names(state_dir)? {
        all.extend(place::all(state_dir, &uid)?);
    }
    Ok(all)
}

/// Kills all containers and forgets all pods, without an agent. Their network is [`svcd_podnet::cleanup`]'s.
///
/// # Errors
/// When records cannot be read or removed, or a container does not die.
pub fn forget(state_dir: &Path) -> Result<()> {
    let mut alive = remembered(state_dir)?;
    alive.retain(Place::alive);
    for place in &alive {
        place.signal(Signal::Kill);
    }
    let start = Instant::now();
    while let Some(place) = alive.iter().find(|place| place.alive()) {
        if start.elapsed() > LAST_BREATH {
            let message = "it was killed, but does not end".to_owned();
            return Err(Error::Shim { container: place.id().to_string(), message });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    remove_dir(state_dir)
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", dir)(error)),
        _ => Ok(()),
    }
}
