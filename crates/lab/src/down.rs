//! Taking a lab down: works on a running one, on a half-started one and on what a crash left.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::{Error, OnFile};
use crate::lock::Lock;
use crate::plan::Layout;
use crate::process::{self, Process};
use crate::state::State;
use crate::{net, rootless, uplink};

/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of the lab's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// All are removed.
    Remove,
    /// All but their directory are removed.
    KeepDirectory,
    /// The nodes' logs stay.
    KeepLogs,
}

/// Removes a lab and everything that it made.
///
/// # Errors
/// [`Error::NotRunning`] when there is none; whatever could not be removed otherwise.
pub async fn down(layout: &Layout) -> Result<(), Error> {
    if !layout.root().exists() {
        return Err(Error::NotRunning);
    }
    let _lock = Lock::take(layout)?;
    stop(layout, Files::Remove).await
}

/// Attempts every step and returns the first error.
pub(crate) async fn stop(layout: &Layout, files: Files) -> Result<(), Error> {
    let state = State::load(layout)?;
    let ended = end_processes(layout, state.as_ref());
    // The network of a lab without root went with its namespace, unless this command is inside.
    let elsewhere = state.as_ref().is_some_and(|s| s.rootless) && !rootless::is_inside();
    if elsewhere {
        return ended.and_then(|()| remove_files(layout, files));
    }
    let network = net::remove(layout).await;
    let way_out = state.map_or(Ok(()), |s| uplink::close(&s.plan.subnet, &s.sysctls));
    ended.and(network).and(way_out).and_then(|()| remove_files(layout, files))
}

/// Ends the nodes first (they would restart their pods), then their pods, then whatever still carries the lab's mark.
fn end_processes(layout: &Layout, state: Option<&State>) -> Result<(), Error> {
    let nodes: Vec<Process> = state.iter().flat_map(|s| s.processes.values().copied()).collect();
    end(&nodes);
    for node in state.iter().flat_map(|s| &s.plan.nodes) {
        clean_node(layout, &node.name);
    }
    let rest = process::marked(&layout.root().to_string_lossy());
    match end(&rest) {
        0 => Ok(()),
        left => Err(Error::WouldNotEnd(left)),
    }
}

/// Asks all to end, then makes them; returns how many are still there.
fn end(processes: &[Process]) -> usize {
    for process in processes {
        process.signal(Signal::SIGTERM);
    }
    let stubborn: Vec<&Process> = processes.iter().filter(|p| !p.wait_gone(PATIENCE)).collect();
    for process in &stubborn {
        process.signal(Signal::SIGKILL);
    }
    stubborn.iter().filter(|p| !p.wait_gone(PATIENCE)).count()
}

/// Runs the node's own clean-up, which ends its pods gently. Best effort: the marked processes are ended anyway, and
/// links and rules go with the namespace.
fn clean_node(layout: &Layout, node: &str) {
    let Ok(binary) = std::env::current_exe() else { return };
    let cleanup = Command::new(binary)
        .arg("__lab-node")
        .arg(layout.netns(node))
        .args(["agent", "--cleanup", "--data-dir"])
        .arg(layout.data(node))
        .env("XTABLES_LOCKFILE", layout.data(node).join("xtables.lock"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tracing::debug!(node, ?cleanup, "cleaned up");
}

/// The state goes last: until then, a second `down` finds what is left.
fn remove_files(layout: &Layout, files: Files) -> Result<(), Error> {
    for entry in fs::read_dir(layout.root()).into_iter().flatten().flatten() {
        let path = entry.path();
        let kept = files == Files::KeepLogs && path.extension().is_some_and(|e| e == "log");
        if !kept && path != layout.state() {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.on("remove", &path)?;
        }
    }
    unless_gone(fs::remove_file(layout.state())).on("remove", &layout.state())?;
    match files {
        Files::Remove => unless_gone(fs::remove_dir(layout.root())).on("remove", layout.root()),
        Files::KeepDirectory | Files::KeepLogs => Ok(()),
    }
}

fn unless_gone(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
