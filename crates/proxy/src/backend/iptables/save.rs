//! Reads what `iptables-save` prints: our chains and their rules, and the jumps into them from chains of others.

use super::rules::{Rules, Table, is_ours, is_shared};

/// What the kernel holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// Our chains.
    pub(super) rules: Rules,
    /// Table, chain and rule of every jump from elsewhere into a chain of ours.
    pub(super) jumps: Vec<(Table, String, String)>,
}

/// Parses the output of `iptables-save`; lines of other tables and shapes are not ours to judge.
pub(super) fn parse(text: &str) -> Saved {
    let mut saved = Saved::default();
    let mut table = None;
    for line in text.lines() {
        match line.as_bytes().first() {
            Some(b'*') => {
                table = [Table::Filter, Table::Nat].into_iter().find(|table| table.name() == &line[1..]);
            }
            Some(b':' | b'-') => {
                if let Some(table) = table {
                    saved.line(table, line);
                }
            }
            _ => {}
        }
    }
    saved
}

impl Saved {
    /// Input that removes everything of ours at once; empty when there is nothing.
    pub(super) fn removal(&self) -> String {
        let mut script = self.rules.removal();
        for (table, chain, rule) in &self.jumps {
            script.unjump(*table, chain, rule);
        }
        script.text()
    }

    /// Everything of ours, in words.
    pub(super) fn names(&self) -> Vec<String> {
        let chains = self.rules.owned.keys().chain(self.rules.shared.keys());
        let chains = chains.map(|(table, chain)| format!("chain {chain} of table {}", table.name()));
        let jump = |(table, chain, rule): &(Table, String, String)| {
            format!("rule of chain {chain} of table {}: {rule}", table.name())
        };
        chains.chain(self.jumps.iter().map(jump)).collect()
    }

    fn line(&mut self, table: Table, line: &str) {
        if let Some(chain) = line.strip_prefix(':') {
            let chain = chain.split(' ').next().unwrap_or_default();
            if is_ours(table, chain) {
                self.chain(table, chain);
            }
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            if is_ours(table, chain) {
                self.chain(table, chain).push(rule.to_owned());
            } else if jump_target(rule).is_some_and(|target| is_ours(table, target)) {
                self.jumps.push((table, chain.to_owned(), rule.to_owned()));
            }
        }
    }

    pub(super) fn chain(&mut self, table: Table, chain: &str) -> &mut Vec<String> {
        let rules = &mut self.rules;
        let chains = if is_shared(table, chain) { &mut rules.shared } else { &mut rules.owned };
        chains.entry((table, chain.to_owned())).or_default()
    }
}

/// The chain that a rule ends in; targets of ours have no options, so it is the last word.
fn jump_target(rule: &str) -> Option<&str> {
    let mut words = rule.rsplit(' ');
    let target = words.next()?;
    matches!(words.next()?, "-j" | "-g").then_some(target)
}
