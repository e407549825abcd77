//! Rules as text, exactly as `iptables-save` prints them without `-A CHAIN`, and the difference between two sets of
//! them as input for `iptables-restore --noflush`.
//!
//! A chain of one Service or endpoint is owned whole and rewritten when anything in it differs. Chains that all
//! Services add to are changed rule by rule (`-D`, `-I`), so that a change costs what it touches; the order of their
//! rules means nothing, but for one last rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::names;

/// Chains that Services add rules to, by table.
const SHARED: [(Table, &str); 6] = [
    (Table::Filter, names::SERVICES),
    (Table::Filter, names::EXTERNAL_SERVICES),
    (Table::Filter, names::NODE_PORTS),
    (Table::Filter, names::PROXY_FIREWALL),
    (Table::Nat, names::SERVICES),
    (Table::Nat, names::NODE_PORTS),
];
/// Chains whose content never changes, by table.
const FIXED: [(Table, &str); 4] = [
    (Table::Filter, names::FORWARD),
    (Table::Filter, names::FIREWALL),
    (Table::Nat, names::POSTROUTING),
    (Table::Nat, names::MARK_MASQ),
];

/// The tables we write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Filter,
    Nat,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

type Chain = (Table, String);

/// Rules of ours, in chains of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Whole chains, in order.
    pub(super) owned: BTreeMap<Chain, Vec<String>>,
    /// Rules in chains that all Services share.
    pub(super) shared: BTreeMap<Chain, Vec<String>>,
    /// The rule that must stay last in such a chain.
    pub(super) last: BTreeMap<Chain, String>,
}

impl Rules {
    /// No rules, but every shared chain.
    pub(super) fn with_shared_chains() -> Self {
        let shared = SHARED.iter().map(|(table, chain)| ((*table, (*chain).to_owned()), Vec::new()));
        Self { shared: shared.collect(), ..Self::default() }
    }

    pub(super) fn own(&mut self, table: Table, chain: &str) -> &mut Vec<String> {
        self.owned.entry((table, chain.to_owned())).or_default()
    }

    pub(super) fn share(&mut self, table: Table, chain: &str, rule: String) {
        self.shared.entry((table, chain.to_owned())).or_default().push(rule);
    }

    /// How many rules a table holds.
    pub(super) fn count(&self, table: Table) -> usize {
        let chains = self.owned.iter().chain(&self.shared).filter(|((of, _), _)| *of == table);
        let last = self.last.keys().filter(|(of, _)| *of == table).count();
        chains.map(|(_, rules)| rules.len()).sum::<usize>() + last
    }
}

impl Rules {
    /// What deletes every chain here. Jumps into them from elsewhere must be gone.
    pub(super) fn removal(&self) -> Script {
        let mut script = Script::default();
        for (table, chain) in self.owned.keys().chain(self.shared.keys()) {
            script.section(*table).delete(chain);
        }
        script
    }

    /// As [`Self::removal`], but piece by piece: all chains are emptied first, then each goes on its own.
    pub(super) fn removals(&self) -> impl Iterator<Item = String> {
        let chains = || self.owned.keys().chain(self.shared.keys());
        let one = |(table, chain): &Chain, line: String| {
            format!("*{}\n:{chain} - [0:0]\n{line}COMMIT\n", table.name())
        };
        let emptied = chains().map(move |key| one(key, String::new()));
        emptied.chain(chains().map(move |key| one(key, format!("-X {}\n", key.1))))
    }
}

/// Whether a chain is ours and shared by all Services.
pub(super) fn is_shared(table: Table, chain: &str) -> bool {
    SHARED.contains(&(table, chain))
}

/// Whether a chain is ours at all.
pub(super) fn is_ours(table: Table, chain: &str) -> bool {
    is_shared(table, chain)
        || FIXED.contains(&(table, chain))
        || (table == Table::Nat && names::is_service_chain(chain))
}

/// Whether what is there and not wanted is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    Delete,
    Keep,
}

/// What to feed to `iptables-restore --noflush` so that `actual` becomes `wanted`, over the union of both; empty when
/// there is nothing to do.
pub(super) fn difference(actual: &Rules, wanted: &Rules, stale: Stale) -> Script {
    let mut script = Script::default();
    let chains: BTreeSet<&Chain> = actual.owned.keys().chain(wanted.owned.keys()).collect();
    for key @ (table, chain) in chains {
        match (actual.owned.get(key), wanted.owned.get(key)) {
            (Some(old), Some(new)) if old == new => {}
            (_, Some(new)) => script.section(*table).rewrite(chain, new),
            (_, None) if stale == Stale::Keep => {}
            (_, None) => script.section(*table).delete(chain),
        }
    }
    let chains: BTreeSet<&Chain> = actual.shared.keys().chain(wanted.shared.keys()).collect();
    for key @ (table, chain) in chains {
        let last = wanted.last.get(key);
        let (old, new) = (actual.shared.get(key), wanted.shared.get(key));
        script.section(*table).adjust(chain, old, new, last, stale);
    }
    script
}

/// Input for `iptables-restore`.
#[derive(Debug, Default)]
pub(super) struct Script {
    filter: Section,
    nat: Section,
}

impl Script {
    /// How many lines it changes; 0 when there is nothing to do.
    pub(super) fn lines(&self) -> usize {
        self.filter.lines() + self.nat.lines()
    }

    /// Adds a rule that comes first in a chain of somebody else.
    pub(super) fn jump(&mut self, table: Table, chain: &str, rule: &str) {
        self.section(table).additions.push(format!("-I {chain} {rule}"));
    }

    /// Deletes a rule from a chain of somebody else.
    pub(super) fn unjump(&mut self, table: Table, chain: &str, rule: &str) {
        self.section(table).deletions.push(format!("-D {chain} {rule}"));
    }

    fn section(&mut self, table: Table) -> &mut Section {
        match table {
            Table::Filter => &mut self.filter,
            Table::Nat => &mut self.nat,
        }
    }

    pub(super) fn text(&self) -> String {
        // A refusal is in place before the forwarding that it replaces goes, and goes after what replaces it came.
        let sections = [(Table::Filter, &self.filter), (Table::Nat, &self.nat)];
        let (first, second) = if self.filter.adds() { (0, 1) } else { (1, 0) };
        let mut text = String::new();
        for (table, section) in [sections[first], sections[second]] {
            if section.lines() > 0 {
                section.write(table, &mut text);
            }
        }
        text
    }
}

/// The lines for one table, in the order that they have to come in.
#[derive(Debug, Default)]
struct Section {
    chains: Vec<String>,
    deletions: Vec<String>,
    additions: Vec<String>,
    removals: Vec<String>,
}

impl Section {
    fn lines(&self) -> usize {
        self.chains.len() + self.deletions.len() + self.additions.len() + self.removals.len()
    }

    fn adds(&self) -> bool {
        !self.additions.is_empty()
    }

    fn write(&self, table: Table, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "*{}", table.name());
        for line in self.chains.iter().chain(&self.deletions).chain(&self.additions).chain(&self.removals) {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("COMMIT\n");
    }

    /// The line of a chain makes it, or empties it.
    fn rewrite(&mut self, chain: &str, rules: &[String]) {
        self.chains.push(format!(":{chain} - [0:0]"));
        self.additions.extend(rules.iter().map(|rule| format!("-A {chain} {rule}")));
    }

    fn delete(&mut self, chain: &str) {
        self.chains.push(format!(":{chain} - [0:0]"));
        self.removals.push(format!("-X {chain}"));
    }

    fn adjust(
        &mut self,
        chain: &str,
        old: Option<&Vec<String>>,
        new: Option<&Vec<String>>,
        last: Option<&String>,
        stale: Stale,
    ) {
        if old.is_none() {
            self.chains.push(format!(":{chain} - [0:0]"));
        }
        let mut old: Vec<&String> = old.into_iter().flatten().collect();
        let last_stands = last.is_some() && old.last().copied() == last;
        if last_stands {
            old.pop();
        }
        let new: Vec<&String> = new.into_iter().flatten().collect();
        let surplus = minus(&old, &new);
        let missing = minus(&new, &old);
        if stale == Stale::Delete || last.is_some() && !last_stands {
            let unwanted = surplus.iter().filter(|rule| stale == Stale::Delete || Some(**rule) == last);
            self.deletions.extend(unwanted.map(|rule| format!("-D {chain} {rule}")));
        }
        // In front of the last rule, where there is or may be one; else at the end, which reads better.
        let appends = last.is_some() && !last_stands || !has_last(chain);
        let verb = if appends { "-A" } else { "-I" };
        self.additions.extend(missing.iter().map(|rule| format!("{verb} {chain} {rule}")));
        if let Some(rule) = last.filter(|_| !last_stands) {
            self.additions.push(format!("-A {chain} {rule}"));
        }
    }
}

/// Only the dispatch of virtual addresses ends with a rule of its own (in the nat table; in the filter table the place
/// does not matter).
fn has_last(chain: &str) -> bool {
    chain == names::SERVICES
}

/// What `one` holds more often than `other`, in its order.
fn minus<'a>(one: &[&'a String], other: &[&String]) -> Vec<&'a String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in other {
        *counts.entry(rule).or_default() += 1;
    }
    let surplus = |rule: &&&String| match counts.get_mut(rule.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    one.iter().filter(surplus).copied().collect()
}
