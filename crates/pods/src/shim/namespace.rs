//! How the shim gets into a pod: its network namespace, and private mounts and host name.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::record::RunSpec;

/// Enters the pod's network, and puts its own files over the machine's where only this container sees them.
pub(super) fn enter(spec: &RunSpec) -> io::Result<()> {
    if let Some(netns) = &spec.netns {
        let file = File::open(netns).map_err(said("open network namespace", netns))?;
        setns(file, CloneFlags::CLONE_NEWNET)?;
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    // Slave: what the machine mounts and unmounts is seen here, what is mounted here stays here.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    for (source, target) in &spec.binds {
        if !target.exists() && source.is_file() {
            // A machine without /etc/resolv.conf, say. Nothing is created on it.
            eprintln!(
                "{} does not exist on this machine: the pod's own cannot be shown there",
                target.display()
            );
            continue;
        }
        mount(Some(source), target, none, MsFlags::MS_BIND, none)
            .map_err(|error| said("mount over", target)(error.into()))?;
    }
    if let Some(hostname) = &spec.hostname {
        unshare(CloneFlags::CLONE_NEWUTS)?;
        nix::unistd::sethostname(hostname)?;
    }
    Ok(())
}

/// Joins the namespaces of a running shim.
pub(super) fn join(shim: i32) -> io::Result<()> {
    // All are opened first: entering the mount namespace changes what /proc is.
    let kinds = [
        ("net", CloneFlags::CLONE_NEWNET),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let open = |(name, flag)| File::open(format!("/proc/{shim}/ns/{name}")).map(|file| (file, flag));
    let files: Vec<_> = kinds.into_iter().map(open).collect::<io::Result<_>>()?;
    for (file, flag) in files {
        setns(file, flag)?;
    }
    Ok(())
}

fn said<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> io::Error + 'a {
    move |error| io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}
