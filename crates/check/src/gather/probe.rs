//! Trying out what the kernel can do, in a network namespace that nobody else sees and that ends with its thread: whatever
//! is made there is gone afterwards.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::Probe;
use crate::facts::SERVICE_PROBE;

/// Rules of the kinds that Services are made of.
const RULES: [&str; 7] = [
    "-t nat -A POSTROUTING -m comment --comment probe -j MASQUERADE",
    "-t nat -A OUTPUT -p tcp -m tcp --dport 1 -j DNAT --to-destination 192.0.2.1:1",
    "-t nat -A OUTPUT -m statistic --mode random --probability 0.5 -j RETURN",
    "-t nat -A OUTPUT -m addrtype --dst-type LOCAL -j RETURN",
    "-t nat -A OUTPUT -m recent --name probe --rcheck --seconds 1 --reap -j RETURN",
    "-t nat -A OUTPUT -j MARK --set-xmark 0x4000/0x4000",
    "-t filter -A FORWARD -m conntrack --ctstate INVALID -m mark --mark 0x4000/0x4000 -j DROP",
];

pub(super) fn all() -> Vec<Probe> {
    std::thread::spawn(inside).join().unwrap_or_default()
}

fn inside() -> Vec<Probe> {
    let namespace = unshare(CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string());
    let mut probes = vec![probe("network namespaces", namespace.clone())];
    if namespace.is_ok() {
        probes.push(probe("bridges", svcd_podnet::try_bridge()));
        probes.push(probe("pairs of links (veth)", svcd_podnet::try_pair()));
        probes.push(probe(SERVICE_PROBE, RULES.into_iter().try_for_each(iptables)));
    }
    probes
}

fn probe(what: &'static str, tried: Result<(), String>) -> Probe {
    Probe { what, refusal: tried.err() }
}

fn iptables(rule: &str) -> Result<(), String> {
    let output =
        Command::new("iptables").args(rule.split(' ')).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{rule}: {}", said.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_leaves_nothing_behind() {
        svcd_testkit::privileged(|| {
            let links = || super::super::network::interfaces();
            let before = links();
            let probes = all();
            assert_eq!(probes.len(), 4, "{probes:?}");
            assert!(probes.iter().all(|probe| probe.refusal.is_none()), "{probes:?}");
            assert_eq!(links(), before);
        });
    }
}
