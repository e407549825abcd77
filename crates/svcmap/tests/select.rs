//! Endpoint selection as a table: who serves, for whom.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::collections::BTreeMap;

use svcd_svcmap::{
    Endpoint, Entry, Family, Place, Protocol, Service, ServiceKind, ServiceName, ServicePort, TrafficPolicy,
    select,
};

const HERE: Place<'static> = Place { node: "n1", zone: Some("z1") };

/// `a@n1`, `b@n2 terminating`, `c@n2 dead`, with hints `node=n1` and `zone=z1`.
fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split_whitespace();
    let (last, node) = words.next().unwrap().split_once('@').unwrap();
    let mut endpoint = Endpoint {
        node: Some(node.into()),
        ..Endpoint::new(last.parse().unwrap_or_else(|_| format!("10.0.0.{last}").parse().unwrap()), 80)
    };
    for word in words {
        match word.split_once('=') {
            Some(("node", name)) => endpoint.hint_nodes.push(name.into()),
            Some(("zone", name)) => endpoint.hint_zones.push(name.into()),
            None if word == "terminating" => (endpoint.ready, endpoint.terminating) = (false, true),
            None if word == "dead" => (endpoint.ready, endpoint.serving) = (false, false),
            _ => panic!("{word}"),
        }
    }
    endpoint
}

fn entry(policies: (TrafficPolicy, TrafficPolicy), node_port: Option<u16>, endpoints: &[&str]) -> Entry {
    let port = ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port };
    let service = Service {
        cluster_ips: vec!["10.96.0.7".parse().unwrap()],
        ports: vec![port],
        internal_policy: policies.0,
        external_policy: policies.1,
        ..Service::new(ServiceName::new("default", "web"), ServiceKind::ClusterIp)
    };
    let all = endpoints.iter().map(|text| endpoint(text)).collect();
    Entry { service, endpoints: BTreeMap::from([(("".into(), Protocol::Tcp), all)]), portless: Vec::new() }
}

fn selected(entry: &Entry, family: Family, place: Place<'_>) -> (String, String, bool) {
    let selection = select(entry, &entry.service.ports[0], family, place);
    let names = |list: &[&Endpoint]| {
        let names: Vec<String> = list.iter().map(|e| e.address.to_string().replace("10.0.0.", "")).collect();
        names.join(" ")
    };
    (names(&selection.cluster), names(&selection.local), selection.anywhere)
}

#[test]
fn policies_and_termination() {
    use TrafficPolicy::{Cluster, Local};
    let outside = Some(30_000);
    #[rustfmt::skip]
    let table = [
        // internal, external, node port, endpoints → cluster, local, anywhere
        (Cluster, Cluster, None, vec!["1@n1", "2@n2"], ("1 2", "", true)),
        (Cluster, Cluster, None, vec![], ("", "", false)),
        (Cluster, Cluster, None, vec!["1@n1 dead"], ("", "", false)),
        (Cluster, Cluster, None, vec!["1@n1", "2@n2 terminating"], ("1", "", true)),
        (Cluster, Cluster, None, vec!["1@n1 dead", "2@n2 terminating"], ("2", "", true)),
        (Local, Cluster, None, vec!["1@n1", "2@n2"], ("", "1", true)),
        (Local, Cluster, None, vec!["2@n2"], ("", "", true)),
        (Local, Cluster, outside, vec!["1@n1", "2@n2"], ("1 2", "1", true)),
        (Local, Cluster, None, vec!["1@n1 terminating", "2@n2"], ("", "1", true)),
        (Local, Cluster, None, vec!["1@n1 terminating", "2@n1"], ("", "2", true)),
        (Cluster, Local, None, vec!["1@n1", "2@n2"], ("1 2", "", true)),
        (Cluster, Local, outside, vec!["1@n1", "2@n2"], ("1 2", "1", true)),
        (Cluster, Local, outside, vec!["1@n1 terminating", "2@n2"], ("2", "1", true)),
        (Cluster, Local, outside, vec!["2@n2 terminating"], ("2", "", true)),
    ];
    for (internal, external, node_port, endpoints, (cluster, local, anywhere)) in table {
        let entry = entry((internal, external), node_port, &endpoints);
        let want = (cluster.to_owned(), local.to_owned(), anywhere);
        assert_eq!(selected(&entry, Family::V4, HERE), want, "{internal:?} {external:?} {endpoints:?}");
    }
}

#[test]
fn hints_count_only_when_all_ready_endpoints_carry_them_and_one_fits() {
    #[rustfmt::skip]
    let table = [
        (vec!["1@n1 zone=z1", "2@n2 zone=z2"], "1"),
        (vec!["1@n1 zone=z1", "2@n2"], "1 2"),
        (vec!["1@n1 zone=z3", "2@n2 zone=z2"], "1 2"),
        (vec!["1@n1 zone=z1", "2@n2 dead"], "1"),
        (vec!["1@n1 zone=z1 node=n1", "2@n2 zone=z1 node=n2"], "1"),
        (vec!["1@n3 zone=z1 node=n3", "2@n2 zone=z2 node=n2"], "1"),
        (vec!["1@n1 zone=z1 node=n1", "2@n2 zone=z2"], "1"),
        (vec!["1@n1 zone=z1 terminating", "2@n2 zone=z2 terminating"], "1 2"),
        (vec!["1@n1 zone=z2 zone=z1", "2@n2 zone=z2"], "1"),
    ];
    for (endpoints, want) in table {
        let entry = entry((TrafficPolicy::Cluster, TrafficPolicy::Cluster), None, &endpoints);
        assert_eq!(selected(&entry, Family::V4, HERE).0, want, "{endpoints:?}");
    }
    let entry = entry(Default::default(), None, &["1@n1 zone=z1", "2@n2 zone=z2"]);
    assert_eq!(selected(&entry, Family::V4, Place { node: "n1", zone: None }).0, "1 2");
}

#[test]
fn families_do_not_mix() {
    let entry = entry(Default::default(), None, &["1@n1", "fd00::1@n1"]);
    assert_eq!(selected(&entry, Family::V4, HERE).0, "1");
    assert_eq!(selected(&entry, Family::V6, HERE).0, "fd00::1");
}
