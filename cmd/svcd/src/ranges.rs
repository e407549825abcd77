//! The cluster's ranges of addresses, checked against each other and against what this program can do with them.

use std::net::IpAddr;

use ipnet::IpNet;
use svcd_api::addresses::{self, Family};
use svcd_node::{ClusterInfo, Ranges};

use crate::cli::ServerArgs;
use crate::failure::Failure;
use crate::names;

/// The tenth address of the Services' range is the DNS's.
const DNS: u8 = 10;

/// The cluster's fixed facts.
pub(crate) fn cluster(args: &ServerArgs) -> Result<ClusterInfo, Failure> {
    let (services, pods) = (&args.service_cidr, &args.pod_cidr);
    apart(services, pods)?;
    same_families(services, pods)?;
    if let Some(range) = services.v6().or_else(|| pods.v6()).filter(|_| !args.no_agent) {
        let what = format!("{range} is IPv6, and the node beside this control plane forwards IPv4 only");
        return Err(Failure::new(what, "add --no-agent, or give IPv4 ranges alone"));
    }
    if !names::is_dns_name(&args.cluster_domain) {
        let what = format!("--cluster-domain {:?} is not a domain", args.cluster_domain);
        return Err(Failure::new(what, "use small letters, digits, '-' and '.', as in cluster.local"));
    }
    for range in pods.all() {
        let share = if range.addr().is_ipv4() { 24 } else { 64 };
        if range.prefix_len() > share {
            let what = format!("--pod-cidr {range} is too small");
            return Err(Failure::new(what, format!("use a /{share} or larger")));
        }
    }
    let too_small = |range: &IpNet| {
        let share = if range.addr().is_ipv4() { 24 } else { 108 };
        Failure::new(format!("--service-cidr {range} is too small"), format!("use a /{share} or larger"))
    };
    let dns = services.all().iter().map(|range| addresses::nth(range, DNS).ok_or_else(|| too_small(range)));
    let dns = dns.collect::<Result<Vec<IpAddr>, _>>()?;
    Ok(ClusterInfo {
        cluster_domain: args.cluster_domain.clone(),
        dns_address: *dns.first().expect("there is at least one range"),
        service_cidr: services.clone(),
        pod_cidr: pods.clone(),
        node_port_range: args.node_port_range,
    })
}

fn apart(services: &Ranges, pods: &Ranges) -> Result<(), Failure> {
    let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    if services.all().iter().any(|a| pods.all().iter().any(|b| overlap(a, b))) {
        let what = format!("the ranges of Services ({services}) and pods ({pods}) overlap");
        let fix = "choose ranges apart: --service-cidr 10.96.0.0/12 --pod-cidr 10.244.0.0/16";
        return Err(Failure::new(what, fix));
    }
    Ok(())
}

/// A Service's address of a family in which no pod has one would lead nowhere.
fn same_families(services: &Ranges, pods: &Ranges) -> Result<(), Failure> {
    let has = |ranges: &Ranges, family| ranges.all().iter().any(|range| Family::of(range.addr()) == family);
    let [v4, v6] = [Family::V4, Family::V6].map(|family| has(services, family) == has(pods, family));
    if v4 && v6 {
        return Ok(());
    }
    let what = format!("Services ({services}) and pods ({pods}) have addresses of different families");
    let fix = "give both the same: --service-cidr 10.96.0.0/12,fd00:96::/108 --pod-cidr 10.244.0.0/16,fd00:244::/48";
    Err(Failure::new(what, fix))
}

/// The API's own Service leads to the server's address: both must be of one family.
pub(crate) fn check_advertised(cluster: &ClusterInfo, advertise: IpAddr) -> Result<(), Failure> {
    let range = cluster.service_cidr.first();
    let (wanted, family) = (Family::of(range.addr()), Family::of(advertise));
    if wanted == family {
        return Ok(());
    }
    let what = format!(
        "the usual family of Services is {wanted} ({range}), and this server's address {advertise} is {family}"
    );
    Err(Failure::new(
        what,
        format!("give an {wanted} address with --advertise-address, or the {family} range first"),
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn given(flags: &str) -> Result<ClusterInfo, String> {
        let all = ["svcd", "server"].into_iter().chain(flags.split_whitespace());
        let Command::Server(args) = Cli::try_parse_from(all).map_err(|error| error.to_string())?.command
        else {
            panic!("a server was asked for")
        };
        cluster(&args).map_err(|failure| failure.to_string())
    }

    #[test]
    fn ranges_that_work_together() {
        for (flags, dns) in [
            ("", "10.96.0.10"),
            ("--no-agent --service-cidr fd00:96::/108 --pod-cidr fd00:244::/48", "fd00:96::a"),
            (
                "--no-agent --service-cidr 10.96.0.0/12,fd00:96::/108 --pod-cidr 10.244.0.0/16,fd00:244::/48",
                "10.96.0.10",
            ),
            (
                "--no-agent --service-cidr fd00:96::/108,10.96.0.0/12 --pod-cidr 10.244.0.0/16,fd00:244::/48",
                "fd00:96::a",
            ),
        ] {
            assert_eq!(given(flags).unwrap().dns_address, dns.parse::<IpAddr>().unwrap(), "{flags}");
        }
    }

    #[test]
    fn ranges_that_do_not() {
        for (flags, why) in [
            ("--service-cidr 10.244.8.0/24", "overlap"),
            ("--service-cidr fd00::/108 --pod-cidr fd01::/48", "is IPv6"),
            ("--no-agent --service-cidr fd00::/108", "different families"),
            ("--no-agent --service-cidr 10.96.0.0/12,fd00::/108", "different families"),
            ("--service-cidr 10.96.0.0/29", "too small"),
            ("--no-agent --service-cidr fd00::/125 --pod-cidr fd01::/48", "too small"),
            ("--no-agent --service-cidr fd00::/108 --pod-cidr fd01::/72", "too small"),
            ("--pod-cidr 10.244.0.0/25", "too small"),
            ("--service-cidr 10.96.0.0/12,10.112.0.0/12", "one is IPv4 and one IPv6"),
            ("--service-cidr ten", "not a range"),
        ] {
            let error = given(flags).unwrap_err();
            assert!(error.contains(why), "{flags}: {error}");
        }
    }

    #[test]
    fn the_servers_own_address_is_of_the_usual_family() {
        let dual = given(
            "--no-agent --service-cidr fd00:96::/108,10.96.0.0/12 --pod-cidr 10.244.0.0/16,fd00:244::/48",
        );
        let dual = dual.unwrap();
        check_advertised(&dual, "fd00::1".parse().unwrap()).unwrap();
        assert!(check_advertised(&dual, [192, 168, 56, 11].into()).is_err());
    }
}
