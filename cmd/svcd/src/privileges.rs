//! What a node needs before it starts: root, and the tools that program the kernel.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;

/// The programs that a node calls, and the packages that have them.
const PROGRAMS: [(&str, &str); 3] =
    [("iptables", "iptables"), ("iptables-restore", "iptables"), ("iptables-save", "iptables")];

/// Where they are on every machine.
const SYSTEM_DIRS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Checks all of it before anything is changed.
pub(crate) fn check(role: &str) -> Result<(), Failure> {
    root(role, "it makes network namespaces, routes and forwarding rules")?;
    for (program, package) in PROGRAMS {
        if !on_path(program) {
            let fix = format!("install it: apt-get install {package}");
            return Err(Failure::new(format!("{program} is not on this machine"), fix));
        }
    }
    Ok(())
}

/// Checks for root's rights.
pub(crate) fn root(command: &str, why: &str) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let what = format!("svcd {command} needs root: {why}");
    Err(Failure::new(what, format!("run it with sudo: sudo svcd {command} …")))
}

/// Starts this program again with the directories of system programs in its PATH, where they are not: a user's PATH on
/// Debian has none of them, and neither has root's after a plain `su`. Returns where there is nothing to add.
pub(crate) fn find_system_programs() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if SYSTEM_DIRS.iter().any(|dir| dirs.iter().any(|known| known == Path::new(dir))) {
        return;
    }
    dirs.extend(SYSTEM_DIRS.map(PathBuf::from));
    let Ok(path) = std::env::join_paths(dirs) else { return };
    let mut words = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(words.next().unwrap_or_else(|| "svcd".into())).args(words).env("PATH", path);
    // Where this fails, the programs are looked for where they were.
    drop(command.exec());
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| Path::new(&dir).join(program).is_file())
}
