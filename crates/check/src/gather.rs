//! Looking at the machine. What cannot be found out stays empty: a check that guesses is worse than none.

mod clock;
mod firewall;
mod network;
mod probe;
mod sockets;
mod twin;

pub use network::advertised;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use svcd_dns::ResolvConf;

use crate::{Facts, Plan, Resolvers};

const PARAMETERS: [&str; 7] = [
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.rp_filter",
    "net.netfilter.nf_conntrack_max",
    "fs.inotify.max_user_instances",
    "user.max_user_namespaces",
    "kernel.unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns",
];
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved names the real servers.
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// Finds out what there is to know. With root's rights a network namespace is made, and is gone afterwards.
pub async fn gather(plan: &Plan) -> Facts {
    let root = nix::unistd::geteuid().is_root();
    let mut facts = Facts {
        root,
        parameters: parameters(),
        parameters_writable: nix::unistd::access(
            "/proc/sys/net/ipv4/ip_forward",
            nix::unistd::AccessFlags::W_OK,
        )
        .is_ok(),
        listeners: sockets::listeners(),
        interfaces: network::interfaces(),
        routes: network::routes().await,
        resolvers: Some(Resolvers {
            usual: name_servers(RESOLV_CONF),
            behind_stub: name_servers(BEHIND_STUB),
        }),
        programs: programs(),
        memory_kib: available_memory(&read("/proc/meminfo")),
        disk_kib: free_disk(&plan.data_dir),
        ..Facts::default()
    };
    facts.clock = clock::ask(plan.join.as_ref()).await;
    facts.address = network::address(plan).await;
    let address = plan.node_ip.or(facts.address);
    let look = tokio::task::spawn_blocking(move || {
        let twin = match address {
            Some(IpAddr::V4(address)) => twin::of(address),
            _ => None,
        };
        (firewall::look(), if root { probe::all() } else { Vec::new() }, twin)
    });
    if let Ok(found) = look.await {
        (facts.firewall, facts.probes, facts.twin) = found;
    }
    facts
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn parameters() -> BTreeMap<String, String> {
    let value = |key: &&str| fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/"))).ok();
    let found = PARAMETERS.iter().filter_map(|key| Some(((*key).to_owned(), value(key)?.trim().to_owned())));
    found.collect()
}

fn name_servers(path: &str) -> Vec<IpAddr> {
    ResolvConf::parse(&read(path)).name_servers
}

/// The programs that run on this machine's network: one in a container of its own is in nobody's way.
fn programs() -> BTreeSet<String> {
    let network = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let own = network(Path::new("/proc/self"));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|process| process.path());
    let here = processes.filter(|process| own.is_some() && network(process) == own);
    let names = here.filter_map(|process| fs::read_to_string(process.join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

fn available_memory(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Of the directory, or of the nearest one above it that is there.
fn free_disk(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|path| path.exists())?;
    let found = nix::sys::statvfs::statvfs(there).ok()?;
    Some(found.blocks_available() * found.fragment_size() / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_can_be_had() {
        let text = "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:     500 kB\n";
        assert_eq!((available_memory(text), available_memory("")), (Some(500), None));
    }

    #[test]
    fn room_is_that_of_the_nearest_directory() {
        assert!(free_disk(Path::new("/nonexistent/of/svcd")).is_some());
    }
}
