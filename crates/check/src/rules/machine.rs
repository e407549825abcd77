//! Room, time, and who else is there.

use std::time::Duration;

use crate::{Dated, Facts, Finding, Plan, Role};

const MEMORY_KIB: u64 = 128 * 1024;
const LEAST_DISK_KIB: u64 = 100 * 1024;
const DISK_KIB: u64 = 1024 * 1024;
/// Certificates are backdated by this much, so a clock that is further off finds them not valid yet.
const FAR: Duration = Duration::from_secs(5 * 60);
const OFF: Duration = Duration::from_secs(30);
/// 2024 has begun.
const NOT_LONG_AGO: i64 = 1_704_067_200;

/// Programs that set rules for Services, and programs that set up pods' networks.
const FORWARDERS: [&str; 5] = ["kube-proxy", "k3s-server", "k3s-agent", "k3s", "rke2"];
const NETWORKS: [&str; 6] =
    ["kubelet", "flanneld", "cilium-agent", "calico-node", "kube-router", "antrea-agent"];
const LINKS: [&str; 5] = ["cni0", "flannel.1", "cilium_host", "kube-bridge", "kube-ipvs0"];

pub(super) fn memory(_: &Plan, facts: &Facts) -> Vec<Finding> {
    let little = facts.memory_kib.filter(|left| *left < MEMORY_KIB);
    let warn = |left: u64| {
        let message = format!("only {} MiB of memory can be had", left / 1024);
        Finding::warning(
            "memory",
            message,
            "svcd needs 50 MiB, pods come on top: stop something or add memory",
        )
    };
    little.map(warn).into_iter().collect()
}

pub(super) fn disk(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    let Some(left) = facts.disk_kib.filter(|left| *left < DISK_KIB) else { return Vec::new() };
    let message = format!("only {} MiB are free where {} is", left / 1024, plan.data_dir.display());
    let fix = "make room (`df -h` shows where), or use another --data-dir";
    let scarce = left < LEAST_DISK_KIB && plan.role == Role::Server;
    vec![if scarce { Finding::error("disk", message, fix) } else { Finding::warning("disk", message, fix) }]
}

pub(super) fn clock(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    const FIX: &str = "set the clock: timedatectl set-ntp true, or date -s";
    if facts.clock.now < NOT_LONG_AGO {
        return vec![Finding::error("clock", "this machine's clock is years behind", FIX)];
    }
    let server = plan.join.as_ref().map(|(host, port)| format!("{host}:{port}")).unwrap_or_default();
    match &facts.clock.server {
        Some(Err(reason)) => {
            let message = format!("{server} cannot be asked: {reason}");
            let fix = "is `svcd server` running there, and does a firewall let its port through?";
            vec![Finding::error("clock", message, fix)]
        }
        Some(Ok(off)) if *off >= OFF => {
            let message = format!("this machine's clock and that of {server} are {} s apart", off.as_secs());
            vec![if *off >= FAR {
                Finding::error("clock", message, FIX)
            } else {
                Finding::warning("clock", message, FIX)
            }]
        }
        _ => Vec::new(),
    }
}

pub(super) fn certificates(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    let now = facts.clock.now;
    let judge = |Dated { name, not_before, not_after }: &Dated| {
        let dir = plan.data_dir.display();
        let (message, fix) = if *not_before > now {
            let message =
                format!("the certificate {name} in {dir} is valid only in {} s from now", not_before - now);
            (
                message,
                "this clock is behind the one that it was made by: timedatectl set-ntp true, or date -s"
                    .to_owned(),
            )
        } else if *not_after < now {
            let message = format!("the certificate {name} in {dir} ended {} s ago", now - not_after);
            let again =
                "if this clock is right, begin anew: svcd uninstall; a node then joins with a new --token";
            (message, again.to_owned())
        } else {
            return None;
        };
        Some(Finding::error("certificates", message, fix))
    };
    facts.certificates.iter().filter_map(judge).collect()
}

pub(super) fn others(_: &Plan, facts: &Facts) -> Vec<Finding> {
    let runs = |names: &'static [&str]| names.iter().filter(|name| facts.programs.contains(**name));
    let forwarders = runs(&FORWARDERS).map(|name| {
        let message = format!("{name} runs on this machine: two of them would write the same rules");
        Finding::error(
            "others",
            message,
            format!("stop it and remove its rules: systemctl disable --now {name}"),
        )
    });
    let networks = runs(&NETWORKS).map(|name| {
        let message = format!("{name} runs on this machine: its pods and svcd's know nothing of each other");
        Finding::warning(
            "others",
            message,
            format!("stop it, unless that is wanted: systemctl disable --now {name}"),
        )
    });
    let links = LINKS.iter().filter(|link| facts.interfaces.iter().any(|found| found.name == **link));
    let links = links.map(|link| {
        let message = format!("the link {link} is there: another pod network was or is on this machine");
        Finding::warning("others", message, format!("remove what is left of it: ip link delete {link}"))
    });
    forwarders.chain(networks).chain(links).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{plan, told, well};
    use crate::{Clock, Severity};

    #[test]
    fn certificates_are_valid_at_this_clock_or_told() {
        let at = |not_before, not_after| Facts {
            clock: Clock { now: 1_800_000_000, server: None },
            certificates: vec![Dated { name: "svcd-ca".to_owned(), not_before, not_after }],
            ..well()
        };
        let said = |facts: &Facts| told(&plan(Role::Server), facts);
        assert!(said(&at(1_799_999_999, 1_800_000_001)).is_empty());
        let ended = said(&at(1_700_000_000, 1_799_999_000)).remove(0);
        let message = "the certificate svcd-ca in /var/lib/svcd ended 1000 s ago".to_owned();
        assert_eq!(ended, ("certificates", Severity::Error, message));
        let early = said(&at(1_800_000_060, 1_900_000_000)).remove(0);
        assert!(early.2.ends_with("is valid only in 60 s from now"), "{early:?}");
    }

    #[test]
    fn room() {
        let mut facts = well();
        (facts.memory_kib, facts.disk_kib) = (Some(64 * 1024), Some(50 * 1024));
        let severities =
            |role| told(&plan(role), &facts).iter().map(|told| (told.0, told.1)).collect::<Vec<_>>();
        assert_eq!(severities(Role::Server), [("memory", Severity::Warning), ("disk", Severity::Error)]);
        assert_eq!(severities(Role::Agent), [("memory", Severity::Warning), ("disk", Severity::Warning)]);
    }

    #[test]
    fn time() {
        let joining = Plan { join: Some(("server".to_owned(), 6443)), ..plan(Role::Agent) };
        let off = |seconds| Some(Ok(Duration::from_secs(seconds)));
        for (now, server, wanted) in [
            (1_800_000_000, off(3), None),
            (1_800_000_000, off(60), Some(Severity::Warning)),
            (1_800_000_000, off(301), Some(Severity::Error)),
            (1_800_000_000, Some(Err("refused".to_owned())), Some(Severity::Error)),
            (0, None, Some(Severity::Error)),
        ] {
            let facts = Facts { clock: Clock { now, server: server.clone() }, ..well() };
            let told = told(&joining, &facts);
            assert_eq!(told.first().map(|told| told.1), wanted, "{now} {server:?}");
        }
    }

    #[test]
    fn who_else_is_there() {
        let mut facts = well();
        facts.programs.extend(["kube-proxy", "kubelet", "bash"].map(str::to_owned));
        let told = told(&plan(Role::Agent), &facts);
        assert_eq!(told.iter().map(|told| told.1).collect::<Vec<_>>(), [Severity::Error, Severity::Warning]);
    }
}
