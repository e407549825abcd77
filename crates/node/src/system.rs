//! What the kernel and the file system say about this machine. Readers are forgiving: a machine without `/etc/os-release` is a
//! node too.

use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::NodeSystemInfo;

/// What svcd reports as `kubeletVersion`: the API version it follows, and its own.
pub(crate) const KUBELET_VERSION: &str = concat!("v1.37.0+svcd.", env!("CARGO_PKG_VERSION"));
const RUNTIME_VERSION: &str = concat!("svcd://", env!("CARGO_PKG_VERSION"));

/// How much there is of what pods use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) cpus: usize,
    pub(crate) memory_kib: u64,
    pub(crate) disk_kib: u64,
}

/// How much is left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

/// Below this the kernel is about to kill: the kubelet's `memory.available` default.
const MEMORY_LEFT_KIB: u64 = 100 * 1024;
/// The kubelet's `nodefs.available` default.
const DISK_LEFT_PERCENT: u64 = 10;
const PIDS_LEFT_PERCENT: u64 = 5;

pub(crate) fn capacity(data_dir: &Path) -> Capacity {
    Capacity {
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_kib: meminfo(&read("/proc/meminfo"), "MemTotal").unwrap_or_default(),
        disk_kib: disk(data_dir).map_or(0, |(total, _)| total),
    }
}

pub(crate) fn pressure(data_dir: &Path) -> Pressure {
    Pressure {
        memory: meminfo(&read("/proc/meminfo"), "MemAvailable").is_some_and(|left| left < MEMORY_LEFT_KIB),
        disk: disk(data_dir).is_some_and(|(total, left)| left * 100 < total * DISK_LEFT_PERCENT),
        pids: pids(&read("/proc/loadavg"), &read("/proc/sys/kernel/pid_max")),
    }
}

pub(crate) fn info() -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: architecture(std::env::consts::ARCH).to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        container_runtime_version: RUNTIME_VERSION.to_owned(),
        kernel_version: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        kube_proxy_version: KUBELET_VERSION.to_owned(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: read("/etc/machine-id").trim().to_owned(),
        operating_system: "linux".to_owned(),
        os_image: os_image(&read("/etc/os-release")),
        system_uuid: read("/sys/class/dmi/id/product_uuid").trim().to_lowercase(),
        ..NodeSystemInfo::default()
    }
}

/// Go's name of an architecture, which image and node labels use.
pub(crate) fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Size of the file system, and what is left of it, in KiB.
fn disk(path: &Path) -> Option<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let kib = |blocks: u64| blocks.saturating_mul(stat.fragment_size()) / 1024;
    Some((kib(stat.blocks()), kib(stat.blocks_available())))
}

/// From "0.1 0.2 0.3 1/234 567": 234 tasks exist.
fn pids(loadavg: &str, pid_max: &str) -> bool {
    let tasks: Option<u64> =
        loadavg.split_whitespace().nth(3).and_then(|field| field.split_once('/')?.1.parse().ok());
    let most: Option<u64> = pid_max.trim().parse().ok();
    match (tasks, most) {
        (Some(tasks), Some(most)) => most.saturating_sub(tasks) * 100 < most * PIDS_LEFT_PERCENT,
        _ => false,
    }
}

fn os_image(os_release: &str) -> String {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or("Linux", |value| value.trim_matches('"'))
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_tables() {
        let text = "MemTotal:       24682736 kB\nMemFree:  1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(meminfo(text, "MemTotal"), Some(24_682_736));
        assert_eq!(meminfo(text, "MemAvailable"), Some(2048));
        assert_eq!(meminfo(text, "Mem"), None);
        assert!(!pids("0.00 0.01 0.05 1/234 567", "4194304\n"));
        assert!(pids("0.00 0.01 0.05 1/990 567", "1000\n"));
        assert!(!pids("", ""));
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_image(""), "Linux");
    }

    #[test]
    fn this_machine_has_something() {
        let here = capacity(Path::new("/"));
        assert!(here.cpus > 0 && here.memory_kib > 0 && here.disk_kib > 0, "{here:?}");
        assert!(!info().kernel_version.is_empty());
    }
}
