//! Entering a node: the calling process steps into its network namespace and becomes another program. Only for a
//! process with a single thread, so before any runtime is started.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, OnFile};
use crate::plan::Layout;
use crate::process::MARK;

/// Moves this process into a network namespace.
///
/// # Errors
/// When the namespace is not there or may not be entered.
pub fn netns(path: &Path) -> Result<(), Error> {
    let file = File::open(path).on("open network namespace", path)?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(Into::into).on("enter network namespace", path)
}

/// Becomes `command` on a node: in its network, with the lab's names in `/etc/hosts` and the cluster's DNS in
/// `/etc/resolv.conf`. Returns only on failure.
pub fn exec(layout: &Layout, node: &str, command: &[String]) -> Error {
    if let Err(error) = netns(&layout.netns(node)).and_then(|()| own_files(layout)) {
        return error;
    }
    let program = &command[0];
    let source = Command::new(program)
        .args(&command[1..])
        .env("XTABLES_LOCKFILE", layout.data(node).join("xtables.lock"))
        .env(MARK, layout.root())
        .env("KUBECONFIG", layout.kubeconfig())
        .exec();
    Error::Kernel { what: format!("run {program:?} on {node}"), source }
}

/// Lays the lab's files over the machine's, for this process and its children only.
fn own_files(layout: &Layout) -> Result<(), Error> {
    let root = Path::new("/");
    unshare(CloneFlags::CLONE_NEWNS).map_err(Into::into).on("unshare the mounts of", root)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, root, None::<&str>, private, None::<&str>)
        .map_err(Into::into)
        .on("make private", root)?;
    for (file, over) in [(layout.hosts(), "/etc/hosts"), (layout.resolv_conf(), "/etc/resolv.conf")] {
        mount(Some(&file), Path::new(over), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(Into::into)
            .on("lay over /etc", &file)?;
    }
    Ok(())
}

/// The hidden command `__lab-node NETNS ARG…`: becomes this very program with the arguments, inside the namespace.
/// Returns only on failure.
pub fn node_main(arguments: &[OsString]) -> Error {
    let Some((path, rest)) = arguments.split_first() else {
        return Error::Plan("__lab-node wants a namespace".to_owned());
    };
    if let Err(error) = netns(Path::new(path)) {
        return error;
    }
    let source = Command::new("/proc/self/exe").arg0("svcd").args(rest).exec();
    Error::Kernel { what: "start the node's process".to_owned(), source }
}
