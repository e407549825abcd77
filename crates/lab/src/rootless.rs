//! A lab without root: the command runs itself again in a user namespace of its own, where it is root over a network
//! and mounts of its own. Later commands enter that namespace through the process that keeps it.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{geteuid, getuid};

use crate::enter;
use crate::error::{Error, OnFile};
use crate::plan::Layout;
use crate::state::State;

/// Names the lab's directory.
const DIRECTORY: &str = "SVCD_LAB_DIR";
/// Set for a command that runs inside the lab's user namespace.
const INSIDE: &str = "SVCD_LAB_ROOTLESS";

/// Whether this process runs inside a rootless lab.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// The lab's directory: as the environment says, or the one that this user's labs have.
pub fn layout() -> Layout {
    if let Some(dir) = env::var_os(DIRECTORY) {
        return Layout::new(PathBuf::from(dir));
    }
    if geteuid().is_root() {
        return Layout::new("/var/lib/svcd-lab");
    }
    let home = env::var_os("XDG_RUNTIME_DIR").map_or_else(env::temp_dir, PathBuf::from);
    Layout::new(home.join(format!("svcd-lab-{}", getuid())))
}

/// Makes sure that the command goes on where the lab is: a user without root is moved into the lab's user namespace
/// (a new one when `create`, for `lab up`). Call it before any thread is started. Returns only where it may go on.
///
/// # Errors
/// When no lab runs, or this machine allows no user namespaces.
pub fn enter(create: bool) -> Result<Layout, Error> {
    let layout = layout();
    if is_inside() {
        return Ok(layout);
    }
    let state = State::load(&layout)?;
    if geteuid().is_root() && !state.as_ref().is_some_and(|s| s.rootless) {
        return Ok(layout);
    }
    let keeper = state.iter().flat_map(|s| s.processes.values()).find(|p| p.is_alive()).map(|p| p.pid);
    match (keeper, create) {
        (Some(pid), _) => Err(reenter(&layout, "nsenter", &nsenter(pid))),
        (None, true) => {
            if state.is_some() {
                clear(&layout)?;
            }
            Err(reenter(&layout, "unshare", &unshare()))
        }
        (None, false) if state.is_some() => Ok(layout),
        (None, false) => Err(Error::NotRunning),
    }
}

/// Takes away what is left of an earlier lab: from the new user namespace, its processes could not even be seen.
fn clear(layout: &Layout) -> Result<(), Error> {
    let binary = env::current_exe().on("find", Path::new("/proc/self/exe"))?;
    let status = Command::new(&binary)
        .args(["lab", "down"])
        .env(DIRECTORY, layout.root())
        .stdout(Stdio::null())
        .status();
    // What it could not do, it has said.
    status.map(drop).on("run", &binary)
}

fn unshare() -> Vec<OsString> {
    ["--user", "--map-root-user", "--net", "--mount", "--propagation", "private", "--"]
        .map(Into::into)
        .to_vec()
}

fn nsenter(pid: i32) -> Vec<OsString> {
    let target = pid.to_string();
    ["--preserve-credentials", "--user", "--mount", "--target", &target, "--"].map(Into::into).to_vec()
}

/// Becomes this same command behind `program`; returns only on failure.
fn reenter(layout: &Layout, program: &'static str, arguments: &[OsString]) -> Error {
    let Ok(binary) = env::current_exe() else {
        return Error::Missing { program: "svcd", package: "svcd" };
    };
    let source = Command::new(program)
        .args(arguments)
        .arg(binary)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .env(DIRECTORY, layout.root())
        .env("XTABLES_LOCKFILE", layout.root().join("xtables.lock"))
        .exec();
    match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { program, package: "util-linux" },
        _ => Error::Kernel { what: format!("run {program}"), source },
    }
}

/// The network namespace that stands for "the machine" in a rootless lab, once it is up.
fn host_netns(layout: &Layout) -> PathBuf {
    layout.netns("host")
}

/// Keeps the network of this command, which stands for the machine's, alive after the command has ended.
pub(crate) fn keep_network(layout: &Layout) -> Result<(), Error> {
    let own = std::process::id().cast_signed();
    svcd_podnet::netns::adopt(&host_netns(layout), own).map_err(|source| Error::Namespace { source })
}

/// Steps into the network that stands for the machine, where the lab has one. Call it before any thread is started.
///
/// # Errors
/// When the namespace may not be entered.
pub fn join_host(layout: &Layout) -> Result<(), Error> {
    let host = host_netns(layout);
    if is_inside() && host.exists() { enter::netns(&host) } else { Ok(()) }
}
