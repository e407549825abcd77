//! What the kernel must be able to do, and the parameters that svcd cannot set or should not.

use crate::facts::SERVICE_PROBE;
use crate::{Facts, Finding, Plan};

/// Fewer connections than this are soon too few for a node.
const CONNECTIONS: u64 = 65_536;
/// systemd, its units and a few pods need about this many.
const WATCHERS: u64 = 128;

pub(super) fn rights(_: &Plan, facts: &Facts) -> Vec<Finding> {
    let message = "without root's rights the kernel cannot be tried out, and svcd cannot run";
    let fix = "run it with sudo: sudo svcd check";
    if facts.root { Vec::new() } else { vec![Finding::error("rights", message, fix)] }
}

pub(super) fn features(_: &Plan, facts: &Facts) -> Vec<Finding> {
    let refused = facts.probes.iter().filter_map(|probe| Some((probe.what, probe.refusal.as_ref()?)));
    refused
        .map(|(what, refusal)| {
            Finding::error("kernel", format!("{what} cannot be used: {refusal}"), fix(what))
        })
        .collect()
}

fn fix(what: &str) -> &'static str {
    match what {
        SERVICE_PROBE => {
            "install it (apt-get install iptables); where it is, load its parts: modprobe -a nf_conntrack nf_nat xt_comment \
             xt_conntrack xt_mark xt_MASQUERADE xt_nat xt_statistic xt_recent xt_addrtype"
        }
        "network namespaces" => "use a kernel with CONFIG_NET_NS; in a container, give it CAP_SYS_ADMIN",
        "bridges" => "load the module: modprobe bridge (in a container, on its host)",
        _ => "load the module: modprobe veth (in a container, on its host)",
    }
}

pub(super) fn parameters(_: &Plan, facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "parameters";
    let number = |key: &str| facts.parameters.get(key).and_then(|value| value.parse::<u64>().ok());
    let mut found = Vec::new();
    if number("net.ipv4.ip_forward") == Some(0) && !facts.parameters_writable {
        let message = "net.ipv4.ip_forward is 0, and /proc/sys cannot be written here";
        found.push(Finding::error(CHECK, message, "set it on the host: sysctl -w net.ipv4.ip_forward=1"));
    }
    if let Some(most) = number("net.netfilter.nf_conntrack_max").filter(|most| *most < CONNECTIONS) {
        let message =
            format!("net.netfilter.nf_conntrack_max is {most}: that many connections at once and no more");
        let fix = format!("sysctl -w net.netfilter.nf_conntrack_max={}", CONNECTIONS * 2);
        found.push(Finding::warning(CHECK, message, fix));
    }
    if let Some(most) = number("fs.inotify.max_user_instances").filter(|most| *most < WATCHERS) {
        let message =
            format!("fs.inotify.max_user_instances is {most}: programs in pods that watch files may fail");
        found.push(Finding::warning(CHECK, message, "sysctl -w fs.inotify.max_user_instances=1024"));
    }
    let uplinks = facts.routes.iter().filter(|route| route.destination.prefix_len() == 0).count();
    if number("net.ipv4.conf.all.rp_filter") == Some(1) && uplinks > 1 {
        let message = "net.ipv4.conf.all.rp_filter is 1 with several default routes: answers that come in by another way \
                       than they would go out are dropped";
        found.push(Finding::warning(CHECK, message, "sysctl -w net.ipv4.conf.all.rp_filter=2"));
    }
    found
}

pub(super) fn rootless(_: &Plan, facts: &Facts) -> Vec<Finding> {
    let is = |key: &str, value: &str| facts.parameters.get(key).is_some_and(|found| found == value);
    let closed = [
        ("user.max_user_namespaces", "0", "10000"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    let closed = closed.into_iter().filter(|(key, value, _)| is(key, value));
    closed
        .map(|(key, value, open)| {
            let message = format!("{key} is {value}: a lab of a user who is not root cannot be started");
            Finding::warning(
                "rootless lab",
                message,
                format!("sysctl -w {key}={open}, or start labs as root"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{plan, told, well};
    use crate::{Probe, Role, Severity};

    #[test]
    fn what_the_kernel_refuses_is_an_error() {
        let mut facts = well();
        facts.probes = vec![
            Probe { what: SERVICE_PROBE, refusal: Some("No such file".to_owned()) },
            Probe { what: "bridges", refusal: None },
        ];
        let told = told(&plan(Role::Agent), &facts);
        let message = "iptables cannot be used: No such file".to_owned();
        assert_eq!(told, [("kernel", Severity::Error, message)]);
    }

    #[test]
    fn parameters_are_errors_only_where_svcd_cannot_set_them() {
        let mut facts = well();
        facts.parameters.insert("net.ipv4.ip_forward".to_owned(), "0".to_owned());
        assert!(told(&plan(Role::Agent), &facts).is_empty());
        facts.parameters_writable = false;
        assert_eq!(told(&plan(Role::Agent), &facts)[0].1, Severity::Error);
    }

    #[test]
    fn small_limits_are_warnings() {
        for (key, value) in [
            ("net.netfilter.nf_conntrack_max", "8192"),
            ("fs.inotify.max_user_instances", "16"),
            ("kernel.apparmor_restrict_unprivileged_userns", "1"),
            ("user.max_user_namespaces", "0"),
        ] {
            let mut facts = well();
            facts.parameters.insert(key.to_owned(), value.to_owned());
            let told = told(&plan(Role::Agent), &facts);
            assert!(told.len() == 1 && told[0].1 == Severity::Warning && told[0].2.contains(key), "{told:?}");
        }
    }
}
