//! The programs: `iptables` through its crate to look for and to delete single rules, `iptables-save` to read,
//! `iptables-restore` to write, all in one transaction. Everything here blocks.

use std::io::Write;
use std::process::{Command, Stdio};

use iptables::IPTables;
use svcd_svcmap::Family;

use super::rules::Table;
use super::save::{self, Saved};
use crate::Error;

/// How long the restore waits for another program that holds the lock.
const WAIT: &str = "--wait=30";

/// The programs of one address family.
pub(super) struct Tool {
    single: IPTables,
    name: &'static str,
    version: String,
}

impl Tool {
    /// Finds them, and whether they can be used here.
    pub(super) fn find(family: Family) -> Result<Self, Error> {
        let name = if family == Family::V4 { "iptables" } else { "ip6tables" };
        let version = run(Command::new(name).arg("--version"))?;
        let single =
            iptables::new(family == Family::V6).map_err(|error| refused(name, &[], error.to_string()))?;
        let tool = Self { single, name, version: version.trim().to_owned() };
        tool.save()?;
        Ok(tool)
    }

    /// `v1.8.9 (nf_tables)` and the like.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// `MASQUERADE --random-fully` came with 1.6.2.
    pub(super) fn random_fully(&self) -> bool {
        let number =
            self.version.split(" v").nth(1).unwrap_or_default().split(' ').next().unwrap_or_default();
        let parts: Vec<u32> = number.split('.').filter_map(|part| part.parse().ok()).collect();
        parts.as_slice() >= [1, 6, 2].as_slice()
    }

    pub(super) fn save(&self) -> Result<Saved, Error> {
        Ok(save::parse(&run(&mut Command::new(format!("{}-save", self.name)))?))
    }

    /// Whether the other of the two kinds of iptables (on the old tables, on nftables) holds Service rules too: they
    /// would all apply, and nobody would see why.
    pub(super) fn other_kind_in_use(&self) -> Option<String> {
        let other = if self.version.contains("nf_tables") { "legacy" } else { "nft" };
        let program = format!("{}-{other}-save", self.name);
        let text = run(&mut Command::new(&program)).ok()?;
        (!save::parse(&text).jumps.is_empty()).then_some(program)
    }

    /// Hands over all lines at once; each table takes all of its lines or none.
    pub(super) fn restore(&self, text: &str) -> Result<(), Error> {
        let program = format!("{}-restore", self.name);
        let cannot = |source| Error::Tool { program: program.clone(), source };
        let mut command = Command::new(&program);
        command.args(["--noflush", WAIT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(cannot)?;
        if let Some(mut input) = child.stdin.take() {
            // It may stop reading at a line that it does not take; its own words say more than our broken pipe.
            let _ = input.write_all(text.as_bytes());
        }
        let output = child.wait_with_output().map_err(cannot)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(refused(&program, &["--noflush"], format!("{}{}", said.trim(), quoted_line(&said, text))))
    }

    pub(super) fn exists(&self, table: Table, chain: &str, rule: &str) -> bool {
        self.single.exists(table.name(), chain, rule).unwrap_or(false)
    }

    pub(super) fn delete(&self, table: Table, chain: &str, rule: &str) -> Result<(), Error> {
        let deleted = self.single.delete(table.name(), chain, rule);
        deleted
            .map_err(|error| refused(self.name, &["-t", table.name(), "-D", chain, rule], error.to_string()))
    }
}

fn refused(program: &str, arguments: &[&str], message: String) -> Error {
    let words: Vec<&str> = [program].iter().chain(arguments).copied().collect();
    Error::Refused { command: words.join(" "), message: message.trim().to_owned() }
}

fn run(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|source| Error::Tool { program: program.clone(), source })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(refused(&program, &[], String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// The line that a message like `line 7 failed` speaks of.
fn quoted_line(message: &str, text: &str) -> String {
    let number =
        message.split("line").nth(1).map(|rest| rest.trim_start_matches(|c: char| !c.is_ascii_digit()));
    let number =
        number.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok());
    let line = number.and_then(|number| text.lines().nth(number.checked_sub(1)?));
    line.map(|line| format!(" ({line})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_what_to_do() {
        let error = run(&mut Command::new("iptables-that-is-not-there")).unwrap_err();
        assert!(error.is_environment());
        let text = error.to_string();
        assert!(text.contains("cannot run iptables-that-is-not-there") && text.contains("install"), "{text}");
    }

    #[test]
    fn the_line_to_blame_is_quoted() {
        let text = "*nat\n-A ONE -j TWO\nCOMMIT\n";
        for message in [
            "iptables-restore: line 2 failed",
            "Error occurred at line: 2\nTry",
            "line 2: RULE_APPEND failed",
        ] {
            assert_eq!(quoted_line(message, text), " (-A ONE -j TWO)", "{message}");
        }
        for message in ["", "line", "line 0", "line 99", "line 99999999999999999999999"] {
            assert_eq!(quoted_line(message, text), "", "{message}");
        }
    }
}
