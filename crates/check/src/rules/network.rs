//! Addresses, ranges and name servers.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use crate::{Facts, Finding, Interface, Plan, Role, Twin};

/// What VirtualBox and QEMU give the first interface of every machine, all the same.
const NAT: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Where each node's DNS answers besides the cluster's address.
const NODE_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 25, 10);
/// Ours: what is on them clashes with nothing.
const OUR_BRIDGE: &str = "svcd0";

/// An address, and why it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub address: IpAddr,
    /// Why.
    pub reason: String,
}

/// The address that others reach a machine at: the one that its default route has, if that is its own; else the first
/// on a link that is no program's.
pub(crate) fn choose(links: &[Interface], by_route: Option<IpAddr>) -> Option<Choice> {
    let others = links.iter().filter(|link| is_outward(&link.name));
    let mut others = others.flat_map(|link| link.addresses.iter().map(move |net| (link, net.addr())));
    let other = others.find(|(_, ip)| *ip != NAT && !ip.is_link_local());
    match (by_route, other) {
        (Some(address), other) if address != IpAddr::V4(NAT) || other.is_none() => {
            Some(Choice { address, reason: "the default route has it".to_owned() })
        }
        (by_route, Some((link, ip))) => {
            let name = &link.name;
            let reason = match by_route {
                Some(nat) => format!(
                    "it is that of {name}; {nat}, of the default route, every such virtual machine has"
                ),
                None => format!("it is that of {name}; there is no default route"),
            };
            Some(Choice { address: ip.into(), reason })
        }
        _ => None,
    }
}

/// Whether a link leads to other machines, as far as names tell.
fn is_outward(name: &str) -> bool {
    let inner =
        ["docker", "br-", "virbr", "veth", "cni", "cali", "flannel", "cilium", "lxc", "lxdbr", "podman"];
    !matches!(name, "lo" | OUR_BRIDGE) && !inner.iter().any(|prefix| name.starts_with(prefix))
}

/// Another machine at this one's address: each takes packets that were meant for the other.
pub(super) fn twins(_: &Plan, facts: &Facts) -> Vec<Finding> {
    let Some(Twin { address, interface, hardware }) = &facts.twin else { return Vec::new() };
    let message = format!("{address} is also the address of another machine on {interface} ({hardware})");
    vec![Finding::error("twins", message, "give one of the two another address")]
}

pub(super) fn addresses(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "addresses";
    let flag = if plan.role == Role::Server { "--advertise-address" } else { "--node-ip" };
    if let Some(given) = plan.node_ip {
        let has = ours(facts).any(|(_, net)| IpAddr::V4(net.addr()) == given);
        let message = format!("this machine does not have the address {given}");
        let fix = format!("give one that it has with --node-ip: {}", candidates(facts));
        return if has { Vec::new() } else { vec![Finding::error(CHECK, message, fix)] };
    }
    let Some(address) = facts.address else {
        let message = "no address of this machine reaches the others";
        return vec![Finding::error(
            CHECK,
            message,
            format!("set up its network, or give an address with {flag}"),
        )];
    };
    let mut found = Vec::new();
    if address == IpAddr::V4(NAT) {
        let message =
            format!("{NAT} would be this machine's address, and it is that of every such virtual machine");
        let fix = format!("give the address that other machines reach with {flag}: {}", candidates(facts));
        found.push(Finding::error(CHECK, message, fix));
    }
    let uplinks: Vec<&str> =
        facts.routes.iter().filter(|r| r.destination.prefix_len() == 0).map(|r| &*r.interface).collect();
    if uplinks.len() > 1 && plan.join.is_none() {
        let message = format!("there are default routes over {}; {address} is taken", uplinks.join(" and "));
        found.push(Finding::warning(CHECK, message, format!("if that is wrong, give another with {flag}")));
    }
    found
}

/// The addresses of this machine that are not svcd's and no loopback's.
fn ours(facts: &Facts) -> impl Iterator<Item = (&Interface, Ipv4Net)> {
    let links = facts.interfaces.iter().filter(|link| !matches!(&*link.name, "lo" | OUR_BRIDGE));
    links.flat_map(|link| link.addresses.iter().map(move |net| (link, *net)))
}

fn candidates(facts: &Facts) -> String {
    let all: Vec<String> = ours(facts)
        .filter(|(_, net)| net.addr() != NAT && !net.addr().is_link_local())
        .map(|(link, net)| format!("{} ({})", net.addr(), link.name))
        .collect();
    if all.is_empty() { "none here can".to_owned() } else { all.join(", ") }
}

pub(super) fn ranges(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    let flags = [("--service-cidr", plan.services.trunc()), ("--pod-cidr", plan.pods.trunc())];
    let mut found = Vec::new();
    if overlap(plan.services, plan.pods) {
        let message = format!("the ranges of Services ({}) and pods ({}) overlap", plan.services, plan.pods);
        found.push(Finding::error(
            "ranges",
            message,
            "choose ranges apart with --service-cidr and --pod-cidr",
        ));
    }
    for (flag, range) in flags {
        let fix = format!("choose another range with {flag}, for the whole cluster");
        for (link, net) in ours(facts).filter(|(_, net)| range.contains(&net.addr())) {
            let message =
                format!("this machine's own address {} ({}) lies in {range}", net.addr(), link.name);
            found.push(Finding::error("ranges", message, &*fix));
        }
        let foreign = facts.routes.iter().filter(|r| !r.ours && r.interface != OUR_BRIDGE);
        for route in foreign.filter(|r| r.destination.prefix_len() > 0 && overlap(range, r.destination)) {
            let (to, link) = (route.destination, &route.interface);
            let own = ours(facts).any(|(own, net)| own.name == *link && range.contains(&net.addr()));
            if to.contains(&range) && to != range {
                let message = format!(
                    "{range} lies in {to}, which is reached over {link}: that part of it no longer is"
                );
                found.push(Finding::warning("ranges", message, &*fix));
            } else if !own {
                let message = format!("there is a route to {to} over {link}, and it lies in {range}");
                found.push(Finding::error("ranges", message, &*fix));
            }
        }
    }
    found
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

pub(super) fn resolver(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    let Some(resolvers) = &facts.resolvers else { return Vec::new() };
    let cluster = plan.services.hosts().nth(9);
    let is_ours =
        |server: &IpAddr| Some(*server) == cluster.map(IpAddr::V4) || *server == IpAddr::V4(NODE_DNS);
    let stub = !resolvers.usual.is_empty() && resolvers.usual.iter().all(IpAddr::is_loopback);
    let real =
        if stub && !resolvers.behind_stub.is_empty() { &resolvers.behind_stub } else { &resolvers.usual };
    if let Some(server) = real.iter().find(|server| is_ours(server)) {
        let message = format!("the machine's name server {server} is svcd's own DNS, which would ask itself");
        let fix =
            "name the network's real name servers in /etc/resolv.conf, or in systemd-resolved's settings";
        return vec![Finding::error("resolver", message, fix)];
    }
    if real.iter().all(IpAddr::is_loopback) {
        let what =
            if real.is_empty() { "there is no name server" } else { "all name servers are on the loopback" };
        let message =
            format!("{what} in /etc/resolv.conf: names outside the cluster may not be found by pods");
        let fix = "name the network's real name servers in /etc/resolv.conf";
        return vec![Finding::warning("resolver", message, fix)];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{plan, told, well};
    use crate::{Resolvers, Route, Severity};

    fn route(destination: &str, interface: &str, ours: bool) -> Route {
        Route { destination: destination.parse().unwrap(), interface: interface.to_owned(), ours }
    }

    #[test]
    fn an_address_that_every_machine_has_is_none() {
        let mut facts = well();
        facts.address = Some(NAT.into());
        let findings = addresses(&plan(Role::Agent), &facts);
        assert_eq!(findings[0].severity, Severity::Error);
        assert!(findings[0].fix.contains("--node-ip: 192.168.56.11 (eth0)"), "{findings:?}");
        let given = Plan { node_ip: Some([192, 168, 56, 11].into()), ..plan(Role::Agent) };
        assert!(addresses(&given, &facts).is_empty());
        let wrong = Plan { node_ip: Some([192, 0, 2, 1].into()), ..plan(Role::Agent) };
        assert_eq!(addresses(&wrong, &facts)[0].severity, Severity::Error);
        facts.address = None;
        assert_eq!(addresses(&plan(Role::Server), &facts)[0].severity, Severity::Error);
    }

    #[test]
    fn an_address_that_somebody_else_has_too_is_told_with_who() {
        let (address, hardware) = ([192, 168, 56, 11].into(), "02:00:00:00:00:01".to_owned());
        let twin = Some(Twin { address, interface: "eth0".to_owned(), hardware });
        let facts = Facts { twin, ..well() };
        assert_eq!(
            told(&plan(Role::Agent), &facts),
            [(
                "twins",
                Severity::Error,
                "192.168.56.11 is also the address of another machine on eth0 (02:00:00:00:00:01)".to_owned()
            )]
        );
    }

    #[test]
    fn the_default_route_decides_unless_every_machine_has_its_address() {
        let link = |name: &str, address: &str| {
            let addresses = vec![address.parse().unwrap()];
            Interface { name: name.to_owned(), addresses }
        };
        let nat = link("eth0", "10.0.2.15/24");
        let (docker, own) = (link("docker0", "172.17.0.1/16"), link("eth1", "192.168.56.11/24"));
        let (home, lo) = (link("eth0", "192.168.1.7/24"), link("lo", "127.0.0.1/8"));
        for (links, by_route, wanted) in [
            (vec![lo.clone(), home.clone(), own.clone()], Some("192.168.1.7"), Some("192.168.1.7")),
            (
                vec![lo.clone(), docker.clone(), nat.clone(), own.clone()],
                Some("10.0.2.15"),
                Some("192.168.56.11"),
            ),
            (vec![lo.clone(), nat.clone(), docker], Some("10.0.2.15"), Some("10.0.2.15")),
            (vec![lo.clone(), own], None, Some("192.168.56.11")),
            (vec![lo], None, None),
        ] {
            let by_route = by_route.map(|ip: &str| ip.parse().unwrap());
            let found = choose(&links, by_route).map(|choice| choice.address.to_string());
            assert_eq!(found.as_deref(), wanted, "{links:?}");
        }
    }

    #[test]
    fn several_ways_out_are_told_where_nothing_decides() {
        let mut facts = well();
        facts.routes = vec![route("0.0.0.0/0", "eth0", false), route("0.0.0.0/0", "wlan0", false)];
        assert_eq!(told(&plan(Role::Server), &facts)[0].0, "addresses");
        let joining = Plan { join: Some(("server".to_owned(), 6443)), ..plan(Role::Agent) };
        assert!(addresses(&joining, &facts).is_empty());
    }

    #[test]
    fn ranges_clash_with_what_is_not_ours() {
        for (route, wanted) in [
            (route("0.0.0.0/0", "eth0", false), None),
            (route("192.168.0.0/16", "eth0", false), None),
            (route("10.244.2.0/24", "eth0", true), None),
            (route("10.244.1.0/24", "svcd0", false), None),
            (route("10.244.2.0/24", "docker0", false), Some(Severity::Error)),
            (route("10.96.0.0/12", "tun0", false), Some(Severity::Error)),
            (route("10.0.0.0/8", "tun0", false), Some(Severity::Warning)),
        ] {
            let facts = Facts { routes: vec![route.clone()], ..well() };
            let told = told(&plan(Role::Server), &facts);
            assert_eq!(told.first().map(|told| told.1), wanted, "{route:?} {told:?}");
        }
        let mut facts = well();
        facts.interfaces[0].addresses.push("10.100.0.7/24".parse().unwrap());
        assert_eq!(told(&plan(Role::Server), &facts)[0].1, Severity::Error);
        let same = Plan { pods: "10.96.0.0/16".parse().unwrap(), ..plan(Role::Server) };
        assert_eq!(told(&same, &well())[0].1, Severity::Error);
    }

    #[test]
    fn name_servers() {
        for (usual, behind, wanted) in [
            (vec!["192.0.2.53"], vec![], None),
            (vec!["127.0.0.53"], vec!["192.0.2.53"], None),
            (vec!["127.0.0.53"], vec![], Some(Severity::Warning)),
            (vec![], vec![], Some(Severity::Warning)),
            (vec!["10.96.0.10"], vec![], Some(Severity::Error)),
            (vec!["127.0.0.53"], vec!["169.254.25.10"], Some(Severity::Error)),
        ] {
            let parse = |all: &[&str]| all.iter().map(|a| a.parse().unwrap()).collect();
            let resolvers = Resolvers { usual: parse(&usual), behind_stub: parse(&behind) };
            let facts = Facts { resolvers: Some(resolvers), ..well() };
            let told = told(&plan(Role::Agent), &facts);
            assert_eq!(told.first().map(|told| told.1), wanted, "{usual:?} {behind:?}");
        }
    }
}
