//! What runs containers, as the pods' loops see it: the seam behind which a CRI runtime would go.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// One start of one container of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerId {
    /// The pod.
    pub uid: String,
    /// The container's name in it.
    pub name: String,
    /// 0 for the first start, one more for each restart.
    pub attempt: u32,
}

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "svcd://{}-{}-{}", self.uid, self.name, self.attempt)
    }
}

/// The names of the pod that something belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpecRef {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it lives in the node's own network.
    pub host_network: bool,
}

/// What a pod needs before its containers.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// Whose.
    pub pod: PodSpecRef,
    /// The host name inside.
    pub hostname: String,
}

/// What it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// Whether it had to be made; then nothing of an earlier run lives in it.
    pub created: bool,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Which start this is.
    pub id: ContainerId,
    /// Of which pod.
    pub pod: PodSpecRef,
    /// The node's name.
    pub node_name: String,
    /// The container as asked for, with `command` and `args` already expanded.
    pub container: Container,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// The host name inside.
    pub hostname: String,
    /// Files to be seen in place of the machine's: path, content.
    pub files: Vec<(PathBuf, String)>,
    /// Names of the pod's empty directories and where the container wants them.
    pub empty_dirs: Vec<(String, PathBuf)>,
    /// The user to be, if not root.
    pub user: Option<u32>,
    /// The group to be.
    pub group: Option<u32>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 128 and the signal's number when it was a signal.
    pub code: i32,
    /// The signal.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// More, when there is more to say.
    pub message: Option<String>,
    /// When it had been started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// A container that is or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which.
    pub id: ContainerId,
    /// When it was started.
    pub started_at: Timestamp,
    /// How it ended; `None` while it runs.
    pub exit: Option<Exit>,
}

/// Why a container will not be run as it stands: reason and message of its waiting state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `ErrImagePull`, `CreateContainerConfigError`, …
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// What a command in a container did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code.
    pub code: i32,
    /// Both of its outputs, cut to a few kilobytes.
    pub output: String,
}

/// How to end a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// By asking it to.
    Terminate,
    /// Without asking.
    Kill,
}

/// Runs containers.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Whether it can run this container of this pod as it stands.
    fn check(&self, pod: &Pod, container: &Container) -> Result<(), Refusal>;

    /// Makes the pod's network and place be there.
    async fn sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox>;

    /// Starts a container. It runs when this returns.
    ///
    /// A command that cannot be executed is no error: such a container has ended, with exit code 128.
    async fn start(&self, spec: &ContainerSpec) -> Result<Record>;

    /// Waits until a container has ended, whoever started it; at once for one that does not run.
    async fn wait(&self, id: &ContainerId) -> Exit;

    /// Signals a container; one that has ended already is fine.
    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<()>;

    /// Runs a command inside a running container.
    async fn exec(&self, id: &ContainerId, command: &[String], patience: Duration) -> Result<ExecOutput>;

    /// What there is of a pod, oldest first.
    fn records(&self, uid: &str) -> Result<Vec<Record>>;

    /// The pods of which there is anything.
    fn pods(&self) -> Result<Vec<String>>;

    /// Kills what runs of a pod and removes all that there is of it.
    async fn remove(&self, uid: &str) -> Result<()>;
}
