//! Taking a lab down: works on a running one, on a half-started one and on what a crash left.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::{Error, OnFile};
use crate::plan::Layout;
use crate::process::{self, Process};
use crate::state::State;
use crate::{net, uplink};

/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of the lab's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// All are removed.
    Remove,
    /// The nodes' logs stay.
    KeepLogs,
}

/// Removes a lab and everything that it made.
///
/// # Errors
/// [`Error::NotRunning`] when there is none; whatever could not be removed otherwise.
pub async fn down(layout: &Layout) -> Result<(), Error> {
    if State::load(layout)?.is_none() && !layout.root().exists() {
        return Err(Error::NotRunning);
    }
    stop(layout, Files::Remove).await
}

/// Attempts every step and returns the first error.
pub(crate) async fn stop(layout: &Layout, files: Files) -> Result<(), Error> {
    let state = State::load(layout)?;
    let ended = end_processes(layout, state.as_ref());
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

fn remove_files(layout: &Layout, files: Files) -> Result<(), Error> {
    if files == Files::Remove {
        return match fs::remove_dir_all(layout.root()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).on("remove", layout.root())
            }
            _ => Ok(()),
        };
    }
    for entry in fs::read_dir(layout.root()).into_iter().flatten().flatten() {
        let path = entry.path();
        match (path.is_dir(), path.extension().is_some_and(|e| e == "log")) {
            (_, true) => {}
            (true, _) => fs::remove_dir_all(&path).on("remove", &path)?,
            (false, _) => fs::remove_file(&path).on("remove", &path)?,
        }
    }
    Ok(())
}
