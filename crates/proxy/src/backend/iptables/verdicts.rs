//! What is decided for packets, as a table: the situations that upstream defines, from every place a packet can come
//! from, traced through the rules as rendered. And one small Service in full, beside upstream's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use svcd_svcmap::TrafficPolicy::{self, Cluster, Local};
use svcd_svcmap::{Endpoint, Entry, Family, Protocol, Service, ServiceKind, ServiceName, ServicePort};

use super::render::Facts;
use super::rules::{Rules, Stale, Table, difference};
use super::save;
use super::trace::{Packet, Tracer, assert_sound};
use crate::{Config, Planner};

const POD: &str = "10.0.1.9";
const NODE: &str = "192.168.0.1";
const OUTSIDE: &str = "198.51.100.9";
const VIP: &str = "10.96.0.7:80";
const NODE_PORT: &str = "192.168.0.1:30080";
const EXTERNAL: &str = "203.0.113.1:80";
const BALANCER: &str = "203.0.113.2:80";
/// On this node and on another one.
const HERE: &str = "10.0.1.1";
const THERE: &str = "10.0.2.1";

fn config() -> Config {
    let mut config = Config::new("here", vec!["10.0.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()]);
    config.node_addresses = vec![NODE.parse().unwrap()];
    config
}

fn endpoint(text: &str) -> Endpoint {
    let (address, state) = text.split_once(' ').unwrap_or((text, ""));
    let address: IpAddr = address.parse().unwrap();
    let here = address.to_string().starts_with("10.0.1.");
    Endpoint {
        ready: state.is_empty(),
        serving: state != "dead",
        terminating: state == "terminating",
        node: Some(if here { "here".into() } else { "there".into() }),
        ..Endpoint::new(address, 8080)
    }
}

fn entry(internal: TrafficPolicy, external: TrafficPolicy, endpoints: &[&str]) -> Entry {
    let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: Some(30080) };
    let service = Service {
        cluster_ips: vec!["10.96.0.7".parse().unwrap(), "fd96::7".parse().unwrap()],
        ports: vec![port],
        external_ips: vec!["203.0.113.1".parse().unwrap()],
        load_balancer_ips: vec!["203.0.113.2".parse().unwrap()],
        internal_policy: internal,
        external_policy: external,
        ..Service::new(ServiceName::new("ns", "web"), ServiceKind::LoadBalancer)
    };
    let all = endpoints.iter().map(|text| endpoint(text)).collect();
    Entry {
        service,
        endpoints: BTreeMap::from([(("http".into(), Protocol::Tcp), all)]),
        portless: Vec::new(),
    }
}

fn rules(entries: &[&Entry], family: Family) -> Rules {
    let config = config();
    let facts = Facts::new(&config, family, true);
    let mut rules = facts.frame();
    for plan in entries.iter().map(|entry| Planner::new(&config).plan(entry)) {
        plan.ports.iter().for_each(|port| facts.port(port, &mut rules));
    }
    assert_sound(&rules);
    rules
}

fn ask(rules: &Rules, from: &str, to: &str) -> String {
    ask_with(rules, from, to, Protocol::Tcp)
}

fn ask_with(rules: &Rules, from: &str, to: &str, protocol: Protocol) -> String {
    let node_addresses =
        [NODE.parse().unwrap(), "192.168.7.1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let own = from == NODE || from == "127.0.0.1";
    let tracer = Tracer { rules, node_addresses: &node_addresses };
    let verdict =
        tracer.trace(Packet { from: from.parse().unwrap(), to: to.parse().unwrap(), protocol, own });
    verdict
        .replace("10.0.1.1:8080", "here")
        .replace("10.0.2.1:8080", "there")
        .replace("10.0.1.9:8080", "itself")
}

#[test]
fn policies() {
    let both = [HERE, THERE].as_slice();
    #[rustfmt::skip]
    let table = [
        // internal, external, endpoints: pod→VIP, pod→outside address, node→outside address, outside→outside address, outside→VIP, node→VIP
        (Cluster, Cluster, both, ["here there", "here there masq", "here there masq", "here there masq", "here there masq", "here there masq"]),
        (Cluster, Local, both, ["here there", "here there", "here there masq", "here", "here there masq", "here there masq"]),
        (Cluster, Local, &[THERE], ["there", "there", "there masq", "drop", "there masq", "there masq"]),
        (Local, Cluster, both, ["here", "here there masq", "here there masq", "here there masq", "here masq", "here masq"]),
        (Local, Cluster, &[THERE], ["drop", "there masq", "there masq", "there masq", "drop", "drop"]),
        (Local, Local, &[THERE], ["drop", "there", "there masq", "drop", "drop", "drop"]),
        (Cluster, Cluster, &[], ["reject"; 6]),
        (Local, Local, &[], ["reject"; 6]),
        (Cluster, Cluster, &["10.0.1.1 dead"], ["reject"; 6]),
        (Cluster, Cluster, &["10.0.1.1 terminating", THERE], ["there", "there masq", "there masq", "there masq", "there masq", "there masq"]),
        (Cluster, Cluster, &["10.0.1.1 terminating"], ["here", "here masq", "here masq", "here masq", "here masq", "here masq"]),
        (Cluster, Local, &["10.0.1.1 terminating", THERE], ["there", "there", "there masq", "here", "there masq", "there masq"]),
    ];
    for (internal, external, endpoints, want) in table {
        let rules = rules(&[&entry(internal, external, endpoints)], Family::V4);
        for outside in [NODE_PORT, "192.168.7.1:30080", EXTERNAL, BALANCER] {
            let questions = [
                (POD, VIP),
                (POD, outside),
                (NODE, outside),
                (OUTSIDE, outside),
                (OUTSIDE, VIP),
                (NODE, VIP),
            ];
            let got = questions.map(|(from, to)| ask(&rules, from, to));
            assert_eq!(got, want, "internal {internal:?}, external {external:?}, {endpoints:?}, {outside}");
        }
    }
}

#[test]
fn hairpin_is_masqueraded() {
    let rules = rules(&[&entry(Cluster, Cluster, &[POD])], Family::V4);
    assert_eq!(ask(&rules, POD, VIP), "itself masq");
}

#[test]
fn others_are_left_alone() {
    let rules = rules(&[&entry(Cluster, Cluster, &[HERE])], Family::V4);
    for to in ["10.96.0.7:81", "10.96.0.8:80", "192.168.0.1:30081", "192.168.0.1:80", "198.51.100.1:30080"] {
        assert_eq!(ask(&rules, POD, to), "untouched", "{to}");
    }
    assert_eq!(ask_with(&rules, POD, VIP, Protocol::Udp), "untouched");
}

#[test]
fn protocols_of_one_number_keep_apart() {
    let mut entry = entry(Cluster, Cluster, &[HERE]);
    for (protocol, address) in [(Protocol::Udp, THERE), (Protocol::Sctp, "10.0.2.3")] {
        let port = ServicePort { protocol, ..entry.service.ports[0].clone() };
        entry.service.ports.push(port);
        entry.endpoints.insert(("http".into(), protocol), vec![endpoint(address)]);
    }
    let rules = rules(&[&entry], Family::V4);
    assert_eq!(ask(&rules, POD, VIP), "here");
    assert_eq!(ask_with(&rules, POD, VIP, Protocol::Udp), "there");
    assert_eq!(ask_with(&rules, POD, VIP, Protocol::Sctp), "10.0.2.3:8080");
}

#[test]
fn source_ranges_guard_the_balancer() {
    let mut entry = entry(Cluster, Cluster, &[HERE]);
    entry.service.source_ranges = vec!["198.51.100.0/28".parse().unwrap(), "192.168.0.0/24".parse().unwrap()];
    let rules = rules(&[&entry], Family::V4);
    assert_eq!(ask(&rules, OUTSIDE, BALANCER), "here masq");
    assert_eq!(ask(&rules, "198.51.100.99", BALANCER), "drop");
    assert_eq!(ask(&rules, POD, BALANCER), "drop");
    assert_eq!(ask(&rules, NODE, BALANCER), "here masq");
    for free in [NODE_PORT, EXTERNAL] {
        assert_eq!(ask(&rules, "198.51.100.99", free), "here masq");
    }
}

#[test]
fn localhost_node_ports() {
    let entry = entry(Cluster, Cluster, &[HERE]);
    assert_eq!(ask(&rules(&[&entry], Family::V4), "127.0.0.1", "127.0.0.1:30080"), "here masq");
    // From a neighbour, with a source that is not local: what route_localnet would let in.
    assert_eq!(ask(&rules(&[&entry], Family::V4), OUTSIDE, "127.0.0.1:22"), "drop");
    let mut config = config();
    config.localhost_node_ports = false;
    let facts = Facts::new(&config, Family::V4, true);
    let mut without = facts.frame();
    Planner::new(&config).plan(&entry).ports.iter().for_each(|port| facts.port(port, &mut without));
    assert_eq!(ask(&without, "127.0.0.1", "127.0.0.1:30080"), "untouched");
    assert_eq!(ask(&without, OUTSIDE, NODE_PORT), "here masq");
}

#[test]
fn the_other_family_has_its_own_rules() {
    let mut entry = entry(Cluster, Cluster, &[HERE, "fd00::1"]);
    entry.service.affinity = Some(std::time::Duration::from_secs(60));
    let rules = rules(&[&entry], Family::V6);
    assert_eq!(ask(&rules, "fd00::9", "[fd96::7]:80"), "[fd00::1]:8080");
    assert_eq!(ask(&rules, "2001:db8::1", "[fd96::7]:80"), "[fd00::1]:8080 masq");
    assert!(!format!("{rules:?}").contains("10.96."));
}

#[test]
fn names_from_outside_cannot_make_rules() {
    let mut entry = entry(Cluster, Cluster, &[]);
    entry.service.name = ServiceName::new("ns", "a\"\n-A INPUT -j ACCEPT # '");
    let text = difference(&Rules::default(), &rules(&[&entry], Family::V4), Stale::Delete).text();
    assert!(!text.lines().any(|line| line.starts_with("-A INPUT")), "{text}");
}

/// Upstream's test data for the same Service, as `iptables-save` prints it; where ours differ on purpose, a remark.
#[test]
fn a_small_service_in_full() {
    let mut entry = entry(Cluster, Cluster, &["10.180.0.1"]);
    entry.service.name = ServiceName::new("ns1", "svc1");
    entry.service.cluster_ips = vec!["10.20.30.41".parse().unwrap()];
    (entry.service.external_ips, entry.service.load_balancer_ips) = (Vec::new(), Vec::new());
    let endpoints = vec![Endpoint { port: 80, ..endpoint("10.180.0.1") }];
    entry.endpoints = BTreeMap::from([(("p80".into(), Protocol::Tcp), endpoints)]);
    entry.service.ports[0].name = "p80".into();
    let golden = "\
*nat
:KUBE-EXT-XPGD46QRK7WJZT7O - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-SXIVWICOYRO3J4NJ - [0:0]
:KUBE-SVC-XPGD46QRK7WJZT7O - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-SERVICES - [0:0]
-A KUBE-EXT-XPGD46QRK7WJZT7O -m comment --comment \"masquerade traffic for ns1/svc1:p80 external destinations\" -j KUBE-MARK-MASQ
-A KUBE-EXT-XPGD46QRK7WJZT7O -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
-A KUBE-SEP-SXIVWICOYRO3J4NJ -s 10.180.0.1/32 -m comment --comment \"ns1/svc1:p80\" -j KUBE-MARK-MASQ
-A KUBE-SEP-SXIVWICOYRO3J4NJ -p tcp -m comment --comment \"ns1/svc1:p80\" -m tcp -j DNAT --to-destination 10.180.0.1:80
-A KUBE-SVC-XPGD46QRK7WJZT7O ! -s 10.0.0.0/16 -d 10.20.30.41/32 -p tcp -m comment --comment \"ns1/svc1:p80 cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment \"ns1/svc1:p80 -> 10.180.0.1:80\" -j KUBE-SEP-SXIVWICOYRO3J4NJ
-A KUBE-NODEPORTS -p tcp -m comment --comment \"ns1/svc1:p80\" -m tcp --dport 30080 -j KUBE-EXT-XPGD46QRK7WJZT7O
-A KUBE-SERVICES -d 10.20.30.41/32 -p tcp -m comment --comment \"ns1/svc1:p80 cluster IP\" -m tcp --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
";
    let text = difference(&Rules::default(), &rules(&[&entry], Family::V4), Stale::Delete).text();
    let nat = text.find("*nat").unwrap();
    assert_eq!(&text[nat..], golden);
}

#[test]
fn a_change_costs_what_it_touches() {
    let old = entry(Cluster, Cluster, &[HERE, THERE]);
    let new = entry(Cluster, Cluster, &[HERE, THERE, "10.0.2.3"]);
    let frame = || Rules::with_shared_chains();
    let render = |entry: &Entry| {
        let facts = Facts::new(&config(), Family::V4, true);
        let mut rules = frame();
        Planner::new(&config()).plan(entry).ports.iter().for_each(|port| facts.port(port, &mut rules));
        rules
    };
    let script = difference(&render(&old), &render(&new), Stale::Delete);
    // The chain of the Service (4 rules) and that of the new endpoint (2 rules), each with its own line.
    assert_eq!(script.lines(), 8, "{}", script.text());
    assert!(!script.text().contains("KUBE-SERVICES"));
    assert_eq!(difference(&render(&new), &render(&new), Stale::Delete).lines(), 0);
    // Nobody left: refused first, and only then no longer forwarded.
    let text = difference(&render(&new), &render(&entry(Cluster, Cluster, &[])), Stale::Delete).text();
    assert!(text.find("REJECT").unwrap() < text.find("-D KUBE-SERVICES").unwrap(), "{text}");
    let text = difference(&render(&entry(Cluster, Cluster, &[])), &render(&new), Stale::Delete).text();
    assert!(text.find("DNAT").unwrap() < text.find("-D KUBE-SERVICES").unwrap(), "{text}");
}

/// What `iptables-restore --noflush` does to a table, as far as our input goes.
fn restore(rules: &mut Rules, script: &str) {
    let mut table = Table::Nat;
    let mut saved = save::Saved { rules: std::mem::take(rules), ..save::Saved::default() };
    for line in script.lines() {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let content = |saved: &mut save::Saved, chain: &str| {
            saved.chain(table, chain);
            let key = (table, chain.to_owned());
            let rules = &mut saved.rules;
            if rules.owned.contains_key(&key) { rules.owned.remove(&key) } else { rules.shared.remove(&key) }
                .unwrap()
        };
        match words.as_slice() {
            ["*filter"] => table = Table::Filter,
            ["*nat"] => table = Table::Nat,
            ["COMMIT"] => {}
            [chain, "-", "[0:0]"] => {
                content(&mut saved, &chain[1..]);
                saved.chain(table, &chain[1..]);
            }
            ["-X", chain] => assert!(content(&mut saved, chain).is_empty(), "{chain} is not empty"),
            [verb, chain, rule] => {
                let mut all = content(&mut saved, chain);
                match *verb {
                    "-A" => all.push((*rule).to_owned()),
                    "-I" => all.insert(0, (*rule).to_owned()),
                    "-D" => {
                        drop(all.remove(all.iter().position(|one| one == rule).expect("a rule to delete")))
                    }
                    other => panic!("{other}"),
                }
                *saved.chain(table, chain) = all;
            }
            other => panic!("{other:?}"),
        }
    }
    *rules = saved.rules;
}

fn any_entry(name: &'static str, ip: u8) -> impl Strategy<Value = Option<Entry>> {
    let policy = || prop_oneof![Just(Cluster), Just(Local)];
    let endpoints = prop::collection::btree_set(
        prop_oneof![Just(HERE), Just(THERE), Just("10.0.2.3"), Just("10.0.1.4 terminating")],
        0..4,
    );
    let parts = (policy(), policy(), endpoints, any::<bool>(), any::<bool>(), any::<bool>());
    let built = parts.prop_map(move |(internal, external, endpoints, outside, guarded, affinity)| {
        let mut entry = entry(internal, external, &endpoints.into_iter().collect::<Vec<_>>());
        entry.service.name = ServiceName::new("ns", name);
        entry.service.cluster_ips = vec![IpAddr::from([10, 96, 0, ip])];
        entry.service.ports[0].node_port = outside.then_some(30000 + u16::from(ip));
        if !outside {
            (entry.service.external_ips, entry.service.load_balancer_ips) = (Vec::new(), Vec::new());
        }
        entry.service.source_ranges =
            if guarded { vec!["198.51.100.0/24".parse().unwrap()] } else { Vec::new() };
        entry.service.affinity = affinity.then_some(std::time::Duration::from_secs(60));
        entry
    });
    prop::option::of(built)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// From any set of Services to any other: changing only what differs gives what a full load gives, whether
    /// compared with what was read or computed from the plans alone; and every step in between is sound.
    #[test]
    fn partial_equals_full(steps in prop::collection::vec((any_entry("a", 1), any_entry("b", 2)), 1..6)) {
        let facts = Facts::new(&config(), Family::V4, true);
        let render = |entries: &[&Entry], mut rules: Rules| {
            for plan in entries.iter().map(|entry| Planner::new(&config()).plan(entry)) {
                plan.ports.iter().for_each(|port| facts.port(port, &mut rules));
            }
            rules
        };
        let mut kernel = Rules::default();
        restore(&mut kernel, &difference(&Rules::default(), &facts.frame(), Stale::Delete).text());
        let mut last: Vec<&Entry> = Vec::new();
        for (one, other) in &steps {
            let now: Vec<&Entry> = one.iter().chain(other).collect();
            let (old, new) =
                (render(&last, Rules::with_shared_chains()), render(&now, Rules::with_shared_chains()));
            restore(&mut kernel, &difference(&old, &new, Stale::Delete).text());
            let wanted = render(&now, facts.frame());
            assert_sound(&wanted);
            let again = difference(&kernel, &wanted, Stale::Delete);
            prop_assert_eq!(again.lines(), 0, "{}", again.text());
            last = now;
        }
        let mut fresh = Rules::default();
        restore(&mut fresh, &difference(&Rules::default(), &render(&last, facts.frame()), Stale::Delete).text());
        let sorted = |mut rules: Rules| {
            rules.shared.values_mut().for_each(|rules| rules.sort());
            rules
        };
        prop_assert_eq!(sorted(kernel), sorted(fresh));
    }
}
