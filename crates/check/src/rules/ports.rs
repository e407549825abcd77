//! Ports that svcd needs and something else has.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{Facts, Finding, Listener, Plan, Protocol, Role};

const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10256);
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

pub(super) fn taken(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    // What runs already may well be what this is asked for.
    let others = || facts.listeners.iter().filter(|listener| listener.program.as_deref() != Some("svcd"));
    let mut found = Vec::new();
    if plan.role == Role::Server {
        let same = others().find(|l| l.protocol == Protocol::Tcp && is_at(l, plan.listen));
        found.extend(same.map(|l| clash(l, "the API", "choose another with --listen")));
    }
    let health = others().find(|l| l.protocol == Protocol::Tcp && is_at(l, HEALTH));
    found.extend(health.map(|l| clash(l, "health checks", "choose another with --health-address")));
    // The node's DNS has addresses of its own, so only who has the port on every address is in its way.
    let dns = others().find(|l| l.address.port() == 53 && l.address.ip().is_unspecified());
    found.extend(dns.map(|l| clash(l, "the node's DNS", "let it listen on single addresses only")));
    let node_port =
        others().find(|l| NODE_PORTS.contains(&l.address.port()) && !l.address.ip().is_loopback());
    found.extend(node_port.map(|l| {
        let message = format!("{} lies among the ports of NodePort Services, which may hide it", name(l));
        Finding::warning("ports", message, "move it, or choose other ports with --node-port-range")
    }));
    found
}

/// Whether both cannot be listened at.
fn is_at(listener: &Listener, wanted: SocketAddr) -> bool {
    let (has, wants) = (listener.address.ip(), wanted.ip());
    listener.address.port() == wanted.port()
        && (has == wants || has.is_unspecified() || wants.is_unspecified())
}

fn clash(listener: &Listener, what: &str, or: &str) -> Finding {
    let message = format!("{} is taken, and {what} needs it", name(listener));
    let stop = match &listener.program {
        Some(program) => format!("stop {program}"),
        None => "stop what has it (`ss -lnp` shows it)".to_owned(),
    };
    Finding::error("ports", message, format!("{stop}, or {or}"))
}

fn name(listener: &Listener) -> String {
    let protocol = if listener.protocol == Protocol::Tcp { "TCP" } else { "UDP" };
    let by = listener.program.as_ref().map(|program| format!(" of {program}")).unwrap_or_default();
    format!("{protocol} port {}{by}", listener.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;
    use crate::rules::tests::{plan, told, well};

    #[test]
    fn only_what_is_in_the_way_is_told() {
        use Protocol::{Tcp, Udp};
        let error = Some(Severity::Error);
        for (protocol, address, program, wanted) in [
            (Tcp, "0.0.0.0:6443", "nginx", error),
            (Tcp, "[::]:6443", "nginx", error),
            (Tcp, "192.168.56.11:6443", "nginx", error),
            (Tcp, "0.0.0.0:6443", "svcd", None),
            (Udp, "0.0.0.0:6443", "nginx", None),
            (Tcp, "127.0.0.1:10256", "kube-proxy", error),
            (Udp, "0.0.0.0:53", "dnsmasq", error),
            (Udp, "127.0.0.53:53", "systemd-resolve", None),
            (Tcp, "0.0.0.0:30080", "java", Some(Severity::Warning)),
            (Tcp, "0.0.0.0:22", "sshd", None),
        ] {
            let address = address.parse().unwrap();
            let listener = Listener { protocol, address, program: Some(program.to_owned()) };
            let facts = Facts { listeners: vec![listener], ..well() };
            let told = told(&plan(Role::Server), &facts);
            assert_eq!(told.first().map(|told| told.1), wanted, "{address} {program}");
        }
    }
}
