//! Walks a packet through the rules as the kernel would, and tells where it ends and whether it is masqueraded. Random
//! choices fork the walk, so an answer names every endpoint that can be reached. A word that it does not understand is
//! a panic: no rule can hide from the tests.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use svcd_svcmap::Protocol;

use super::names::{self, protocol_name};
use super::render::JUMPS;
use super::rules::{Rules, Table};

/// A first packet, as it enters the node or leaves a process on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) from: IpAddr,
    pub(super) to: SocketAddr,
    pub(super) protocol: Protocol,
    /// Made by the node itself.
    pub(super) own: bool,
}

/// A set of rules and the addresses of the node that they stand on.
pub(super) struct Tracer<'a> {
    pub(super) rules: &'a Rules,
    pub(super) node_addresses: &'a [IpAddr],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Past the last rule, with this mark.
    Through(u32),
    Dnat(SocketAddr, u32),
    Masquerade,
    Accept,
    Reject,
    Drop,
}

/// The packet on its way.
#[derive(Clone, Copy)]
struct Way {
    packet: Packet,
    translated: bool,
}

impl Tracer<'_> {
    /// `10.0.0.1:80 10.0.0.2:80 masq`, `reject`, `drop`, or `untouched`.
    pub(super) fn trace(&self, packet: Packet) -> String {
        let hook = if packet.own { "OUTPUT" } else { "PREROUTING" };
        let mut seen = BTreeSet::new();
        for end in self.hook(Table::Nat, hook, Way { packet, translated: false }, 0) {
            let (to, mark, translated) = match end {
                End::Dnat(to, mark) => (to, mark, true),
                End::Through(mark) => (packet.to, mark, false),
                other => panic!("{other:?} in the nat table"),
            };
            seen.insert(self.filter(Way { packet: Packet { to, ..packet }, translated }, mark));
        }
        let masqueraded: BTreeSet<bool> = seen.iter().map(|verdict| verdict.ends_with(" masq")).collect();
        assert_eq!(masqueraded.len(), 1, "masqueraded for some endpoints only: {seen:?}");
        let masq = if masqueraded.contains(&true) { " masq" } else { "" };
        let all: Vec<&str> = seen.iter().map(|verdict| verdict.trim_end_matches(" masq")).collect();
        format!("{}{masq}", all.join(" "))
    }

    fn filter(&self, way: Way, mark: u32) -> String {
        let hook = match way.packet {
            Packet { own: true, .. } => "OUTPUT",
            packet if self.node_addresses.contains(&packet.to.ip()) => "INPUT",
            _ => "FORWARD",
        };
        match self.hook(Table::Filter, hook, way, mark).as_slice() {
            [End::Reject] => "reject".to_owned(),
            [End::Drop] => "drop".to_owned(),
            [End::Accept | End::Through(_)] if !way.translated => "untouched".to_owned(),
            [End::Accept | End::Through(_)] => {
                let masq = self.hook(Table::Nat, "POSTROUTING", way, mark) == [End::Masquerade];
                format!("{}{}", way.packet.to, if masq { " masq" } else { "" })
            }
            other => panic!("{other:?} in the filter table"),
        }
    }

    fn hook(&self, table: Table, hook: &str, way: Way, mark: u32) -> Vec<End> {
        let jumps: Vec<&str> =
            JUMPS.iter().filter(|jump| (jump.0, jump.1) == (table, hook)).map(|jump| jump.2).collect();
        self.walk(table, &jumps, way, mark)
    }

    fn chain(&self, table: Table, chain: &str, way: Way, mark: u32) -> Vec<End> {
        let key = (table, chain.to_owned());
        let rules = self.rules.owned.get(&key).or_else(|| self.rules.shared.get(&key));
        let rules = rules.unwrap_or_else(|| panic!("a jump to {chain}, which does not exist"));
        let rules: Vec<&str> = rules.iter().chain(self.rules.last.get(&key)).map(String::as_str).collect();
        self.walk(table, &rules, way, mark)
    }

    fn walk(&self, table: Table, rules: &[&str], way: Way, mark: u32) -> Vec<End> {
        let Some((first, rest)) = rules.split_first() else { return vec![End::Through(mark)] };
        let rule = self.rule(first, way, mark);
        let mut ends = Vec::new();
        if rule.matches {
            match self.target(table, &rule.target, way, mark) {
                Some(reached) => {
                    for end in reached {
                        match end {
                            End::Through(mark) => ends.extend(self.walk(table, rest, way, mark)),
                            other => ends.push(other),
                        }
                    }
                }
                None => ends.push(End::Through(mark)),
            }
        }
        if !rule.matches || rule.maybe {
            ends.extend(self.walk(table, rest, way, mark));
        }
        ends.dedup();
        ends
    }

    /// `None` for a return to the caller.
    fn target(&self, table: Table, words: &[String], way: Way, mark: u32) -> Option<Vec<End>> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Some(match words.as_slice() {
            [] => vec![End::Through(mark)],
            ["RETURN"] => return None,
            ["ACCEPT"] => vec![End::Accept],
            ["DROP"] => vec![End::Drop],
            ["REJECT", "--reject-with", _] => vec![End::Reject],
            ["MASQUERADE"] | ["MASQUERADE", "--random-fully"] => vec![End::Masquerade],
            ["DNAT", "--to-destination", to] => vec![End::Dnat(to.parse().unwrap(), mark)],
            ["MARK", "--set-xmark", value] => {
                let (value, mask) = value.split_once('/').unwrap();
                let number = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
                vec![End::Through(mark & !number(mask) ^ number(value))]
            }
            [chain] => self.chain(table, chain, way, mark),
            other => panic!("a target that is not understood: {other:?}"),
        })
    }

    fn rule(&self, text: &str, way: Way, mark: u32) -> Rule {
        let mut words = split(text).into_iter();
        let mut rule = Rule { matches: true, maybe: false, target: Vec::new() };
        let mut not = false;
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{text}: {word} without a value"));
            let packet = way.packet;
            let matches = match word.as_str() {
                "!" => {
                    not = true;
                    continue;
                }
                "-j" => {
                    rule.target = words.collect();
                    break;
                }
                "-m" | "--comment" | "--name" | "--mask" | "--mode" => {
                    value();
                    true
                }
                "--reap" | "--rsource" | "--set" => true,
                "--rcheck" => {
                    rule.maybe = true;
                    true
                }
                "--probability" | "--seconds" => {
                    let number: f64 = value().parse().unwrap();
                    assert!(number > 0.0);
                    rule.maybe = true;
                    true
                }
                "-s" => value().parse::<IpNet>().unwrap().contains(&packet.from),
                "-d" => value().parse::<IpNet>().unwrap().contains(&packet.to.ip()),
                "-p" => value() == protocol_name(packet.protocol),
                "--dport" => value() == packet.to.port().to_string(),
                "--src-type" => value() == "LOCAL" && self.node_addresses.contains(&packet.from),
                "--dst-type" => value() == "LOCAL" && self.node_addresses.contains(&packet.to.ip()),
                "--mark" => value() == "0x4000/0x4000" && mark & 0x4000 != 0,
                "--ctstate" => {
                    let states = value();
                    let states: Vec<&str> = states.split(',').collect();
                    states.contains(&"NEW") || way.translated && states.contains(&"DNAT")
                }
                other => panic!("{text}: {other} is not understood"),
            };
            rule.matches &= matches != std::mem::take(&mut not);
        }
        rule
    }
}

struct Rule {
    matches: bool,
    /// As luck, or an earlier packet, will have it.
    maybe: bool,
    target: Vec<String>,
}

/// Splits at blanks, but not within quotes.
fn split(text: &str) -> Vec<String> {
    let parts = text.split('"').enumerate();
    let words = parts.flat_map(|(index, part)| {
        let quoted = index % 2 == 1;
        if quoted { vec![part.to_owned()] } else { part.split_whitespace().map(str::to_owned).collect() }
    });
    words.collect()
}

/// Every jump leads to a chain that exists, and every chain of a Service is reached: the kernel would refuse the first
/// and nobody would notice the second.
pub(super) fn assert_sound(rules: &Rules) {
    let chains: BTreeSet<&(Table, String)> = rules.owned.keys().chain(rules.shared.keys()).collect();
    let all = rules.owned.iter().chain(&rules.shared);
    let mut reached = BTreeSet::new();
    for ((table, chain), content) in all {
        for rule in content.iter().chain(rules.last.get(&(*table, chain.clone()))) {
            let target = rule.rsplit_once("-j ").map(|(_, target)| target).unwrap_or_default();
            if target.starts_with("KUBE-") {
                let key = (*table, target.to_owned());
                assert!(chains.contains(&key), "{chain}: {rule}: leads nowhere");
                reached.insert(key);
            }
        }
    }
    for key in rules.owned.keys().filter(|(_, chain)| names::is_service_chain(chain)) {
        assert!(reached.contains(key), "{key:?} is never reached");
    }
}
