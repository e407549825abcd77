//! What a node needs before it starts: root, and the tools that program the kernel.

use std::path::Path;

use crate::failure::Failure;

/// The programs that a node calls, and the packages that have them.
const PROGRAMS: [(&str, &str); 3] =
    [("iptables", "iptables"), ("iptables-restore", "iptables"), ("iptables-save", "iptables")];

/// Checks all of it before anything is changed.
pub(crate) fn check(role: &str) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        let what =
            format!("svcd {role} needs root: it makes network namespaces, routes and forwarding rules");
        return Err(Failure::new(what, format!("run it with sudo: sudo svcd {role} …")));
    }
    for (program, package) in PROGRAMS {
        if !on_path(program) {
            let fix = format!("install it: apt-get install {package}");
            return Err(Failure::new(format!("{program} is not on this machine"), fix));
        }
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| Path::new(&dir).join(program).is_file())
}
