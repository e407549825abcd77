//! The mode of most clusters: rules in kube-proxy's chains, written by `iptables-restore --noflush`.
//!
//! A small change is the difference between the rules of the old and the new plans of the Services touched: nothing is
//! read, and nothing is written of other Services. Everything else (start, repair, after any error) reads what the
//! kernel holds and writes the difference. When the kernel refuses a load, halves of it are tried until the Services to
//! blame are found; all others get their rules.

mod names;
mod render;
mod rules;
mod save;
mod tool;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};

use svcd_svcmap::{Family, ServiceName};

use self::render::{Facts, JUMPS};
use self::rules::{Rules, Stale, Table, difference};
use self::save::Saved;
use self::tool::Tool;
use super::{Backend, Report, Wanted};
use crate::{Config, Error};

/// The mode `iptables`.
pub struct Iptables {
    families: Vec<Tables>,
}

impl Iptables {
    /// Looks for the programs. IPv4 is a must; without ip6tables there is no IPv6 forwarding.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let mut families = vec![Tables::new(config, Family::V4)?];
        match Tables::new(config, Family::V6) {
            Ok(tables) => families.push(tables),
            Err(error) => tracing::info!(%error, "IPv6 Services are not forwarded"),
        }
        for tables in &families {
            tracing::info!(version = tables.tool.version(), "iptables found");
            if let Some(program) = tables.tool.other_kind_in_use() {
                tracing::warn!(program, "another program's Service rules are in the kernel too; remove them");
            }
        }
        Ok(Self { families })
    }
}

impl Backend for Iptables {
    fn full(&mut self, wanted: &Wanted) -> Report {
        merge(self.families.iter_mut().map(|tables| tables.full(wanted)))
    }

    fn partial(&mut self, wanted: &Wanted, touched: &BTreeSet<ServiceName>) -> Report {
        merge(self.families.iter_mut().map(|tables| tables.partial(wanted, touched)))
    }

    fn intact(&mut self) -> bool {
        self.families.iter().all(Tables::intact)
    }

    fn remove(&mut self) -> Vec<Error> {
        self.families.iter_mut().flat_map(|tables| remove(&tables.tool)).collect()
    }

    fn totals(&self) -> Vec<(&'static str, &'static str, usize)> {
        let each = |tables: &Tables| {
            let family = if tables.facts.family == Family::V4 { "IPv4" } else { "IPv6" };
            tables.counts.iter().map(|(table, count)| (family, table.name(), *count)).collect::<Vec<_>>()
        };
        self.families.iter().flat_map(each).collect()
    }
}

/// Removes all rules of this mode, without knowing how they came there.
pub(super) fn cleanup() -> Vec<Error> {
    match Tool::find(Family::V4) {
        Ok(tool) => {
            let v6 = Tool::find(Family::V6).ok();
            [Some(tool), v6].iter().flatten().flat_map(remove).collect()
        }
        // Without the program nothing of this mode can have been written.
        Err(Error::Tool { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![error],
    }
}

/// The chains of ours that are in the kernel, and the jumps into them.
pub(super) fn leftovers() -> Result<Vec<String>, Error> {
    let mut left = Vec::new();
    for family in [Family::V4, Family::V6] {
        match Tool::find(family) {
            Ok(tool) => left.extend(tool.save()?.names()),
            Err(Error::Tool { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            // Not every machine has IPv6, and where it is missing nothing was written.
            Err(_) if family == Family::V6 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}

fn remove(tool: &Tool) -> Vec<Error> {
    let saved = match tool.save() {
        Ok(saved) => saved,
        Err(error) => return vec![error],
    };
    let whole = saved.removal();
    if whole.is_empty() || tool.restore(&whole).is_ok() {
        return Vec::new();
    }
    // Something is in the way (somebody else's chain jumps to ours, say): everything else goes.
    let jumps = saved.jumps.iter().filter_map(|(table, chain, rule)| tool.delete(*table, chain, rule).err());
    let mut errors: Vec<Error> = jumps.collect();
    errors.extend(saved.rules.removals().filter_map(|script| tool.restore(&script).err()));
    errors
}

fn merge(reports: impl Iterator<Item = Report>) -> Report {
    let mut merged = Report::default();
    for report in reports {
        merged.written += report.written;
        merged.failed.extend(report.failed);
        merged.error = merged.error.or(report.error);
    }
    merged
}

/// The tables of one address family.
struct Tables {
    tool: Tool,
    facts: Facts,
    /// Whose rules the kernel holds, as far as we wrote them.
    applied: Wanted,
    counts: BTreeMap<Table, usize>,
}

impl Tables {
    fn new(config: &Config, family: Family) -> Result<Self, Error> {
        let tool = Tool::find(family)?;
        let facts = Facts::new(config, family, tool.random_fully());
        Ok(Self { tool, facts, applied: Wanted::new(), counts: BTreeMap::new() })
    }

    fn full(&mut self, wanted: &Wanted) -> Report {
        match self.converge(wanted, Stale::Delete) {
            Ok(written) => {
                self.applied = wanted.clone();
                Report { written, ..Report::default() }
            }
            Err(error) if error.is_environment() => Report { error: Some(error), ..Report::default() },
            Err(error) => {
                tracing::warn!(%error, "the rules were not taken; looking for the Service to blame");
                let mut report = Report::default();
                report.error = self.rescue(wanted, &mut report).err();
                report
            }
        }
    }

    fn partial(&mut self, wanted: &Wanted, touched: &BTreeSet<ServiceName>) -> Report {
        let (mut old, mut new) = (Rules::with_shared_chains(), Rules::with_shared_chains());
        for name in touched {
            self.render(&self.applied, name, &mut old);
            self.render(wanted, name, &mut new);
        }
        let script = difference(&old, &new, Stale::Delete);
        if script.lines() > 0
            && let Err(error) = self.tool.restore(&script.text())
        {
            tracing::warn!(%error, "a change was not taken; comparing with what the kernel holds");
            return self.full(wanted);
        }
        for (table, count) in &mut self.counts {
            *count = (*count + new.count(*table)).saturating_sub(old.count(*table));
        }
        for name in touched {
            match wanted.get(name) {
                Some(plan) => self.applied.insert(name.clone(), plan.clone()),
                None => self.applied.remove(name),
            };
        }
        Report { written: script.lines(), ..Report::default() }
    }

    fn render(&self, plans: &Wanted, name: &ServiceName, rules: &mut Rules) {
        for port in plans.get(name).iter().flat_map(|plan| &plan.ports) {
            self.facts.port(port, rules);
        }
    }

    /// Reads the kernel and writes what differs; returns how many lines.
    fn converge(&mut self, wanted: &Wanted, stale: Stale) -> Result<usize, Error> {
        let Saved { rules: actual, jumps } = self.tool.save()?;
        let mut rules = self.facts.frame();
        for name in wanted.keys() {
            self.render(wanted, name, &mut rules);
        }
        let mut script = difference(&actual, &rules, stale);
        let there = |(table, chain, rule): &&(Table, &str, &str)| {
            jumps.iter().any(|(t, c, r)| (t, c.as_str(), r.as_str()) == (table, *chain, *rule))
        };
        // Each is put first in its chain, so the last comes first.
        for (table, chain, rule) in JUMPS.iter().filter(|jump| !there(jump)).rev() {
            script.jump(*table, chain, rule);
        }
        if script.lines() > 0 {
            self.tool.restore(&script.text())?;
        }
        self.counts = [Table::Filter, Table::Nat].map(|table| (table, rules.count(table))).into();
        Ok(script.lines())
    }

    /// Finds the Services whose rules the kernel does not take; everybody else gets theirs. Nothing that stands is
    /// deleted before that is known.
    fn rescue(&mut self, wanted: &Wanted, report: &mut Report) -> Result<(), Error> {
        let mut good = self.applied.clone();
        good.retain(|name, _| wanted.contains_key(name));
        report.written += self.converge(&good, Stale::Keep)?;
        let suspects: Vec<&ServiceName> = wanted
            .iter()
            .filter(|(name, plan)| good.get(*name) != Some(plan))
            .map(|(name, _)| name)
            .collect();
        self.sift(&mut good, wanted, &suspects, report)?;
        report.written += self.converge(&good, Stale::Delete)?;
        self.applied = good;
        Ok(())
    }

    fn sift(
        &mut self,
        good: &mut Wanted,
        wanted: &Wanted,
        suspects: &[&ServiceName],
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut attempt = good.clone();
        attempt
            .extend(suspects.iter().filter_map(|name| Some(((*name).clone(), wanted.get(*name)?.clone()))));
        match (self.converge(&attempt, Stale::Keep), suspects) {
            (Ok(written), _) => {
                report.written += written;
                *good = attempt;
                Ok(())
            }
            (Err(error), _) if error.is_environment() => Err(error),
            (Err(error), [name]) => {
                report.failed.insert((*name).clone(), error);
                Ok(())
            }
            (Err(_), _) => {
                let (one, other) = suspects.split_at(suspects.len() / 2);
                self.sift(good, wanted, one, report)?;
                self.sift(good, wanted, other, report)
            }
        }
    }

    /// Looks at one rule of each kind that a flush of any sort would take away.
    fn intact(&self) -> bool {
        let frame = self.facts.frame();
        let last = frame.last.iter().map(|((table, chain), rule)| (*table, chain.as_str(), rule.as_str()));
        let jumps =
            JUMPS.iter().filter(|(_, chain, _)| matches!(*chain, "FORWARD" | "PREROUTING" | "POSTROUTING"));
        last.chain(jumps.copied()).all(|(table, chain, rule)| self.tool.exists(table, chain, rule))
    }
}
