//! The ledger: kernel parameters that the agent sets, with what they were. Links, routes and rules of ours bear a mark in
//! the kernel; a parameter does not, so it is written down before it is changed.
//!
//! Promises: set back is only what is still as we set it, since the machine was started; whatever the machine itself, or
//! somebody else, has set since is left alone. Undoing may be repeated and interrupted.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the kernel has its parameters.
const KERNEL: &str = "/proc/sys";

/// What was done to one parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    former: String,
    ours: String,
    /// Of which start of the machine this is true.
    boot: String,
}

/// By parameter, as `net.ipv4.ip_forward`.
type Changes = BTreeMap<String, Change>;

/// The ledger of one agent.
pub(crate) struct Ledger {
    file: PathBuf,
    kernel: PathBuf,
}

impl Ledger {
    /// That of the agent with this directory.
    pub(crate) fn of(agent_dir: &Path) -> Self {
        Self { file: agent_dir.join("ledger.json"), kernel: KERNEL.into() }
    }

    /// Writes down what the parameters are that do not have the wanted value yet.
    pub(crate) fn note(&self, wanted: &[(&str, &str)]) -> Result<(), svcd_pki::Error> {
        let known = self.changes();
        let mut changes = known.clone();
        let boot = self.boot();
        for (key, ours) in wanted {
            if let Some(former) = self.value(key).filter(|value| value != ours) {
                let (ours, boot) = ((*ours).to_owned(), boot.clone());
                changes.insert((*key).to_owned(), Change { former, ours, boot });
            }
        }
        if changes == known { Ok(()) } else { self.write(&changes) }
    }

    /// Sets back what is still ours, and tells what that did not work for.
    pub(crate) fn undo(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (key, change) in self.ours() {
            if let Err(error) = fs::write(self.path(&key), &change.former) {
                failures.push(format!("cannot set {key} back to {}: {error}", change.former));
            }
        }
        if failures.is_empty() {
            match fs::remove_file(&self.file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    failures.push(format!("cannot remove {}: {error}", self.file.display()));
                }
                _ => {}
            }
        }
        failures
    }

    /// What is still as we set it, in words.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let text = |(key, change): (String, Change)| {
            format!("kernel parameter {key} is {}, it was {}", change.ours, change.former)
        };
        self.ours().map(text).collect()
    }

    fn ours(&self) -> impl Iterator<Item = (String, Change)> {
        let boot = self.boot();
        let ours = move |(key, change): &(String, Change)| {
            change.boot == boot && self.value(key).as_ref() == Some(&change.ours)
        };
        self.changes().into_iter().filter(ours)
    }

    /// A ledger that cannot be read is none: there is nothing in it to go by.
    fn changes(&self) -> Changes {
        let Ok(text) = fs::read_to_string(&self.file) else { return Changes::new() };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!(file = %self.file.display(), %error, "the ledger cannot be read");
            Changes::new()
        })
    }

    fn write(&self, changes: &Changes) -> Result<(), svcd_pki::Error> {
        let text = serde_json::to_string_pretty(changes).expect("texts are JSON");
        svcd_pki::write_secret(&self.file, text)
    }

    fn value(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.path(key)).ok().map(|value| value.trim().to_owned())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.kernel.join(key.replace('.', "/"))
    }

    fn boot(&self) -> String {
        self.value("kernel.random.boot_id").unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: [(&str, &str); 2] = [("net.a", "1"), ("net.missing", "1")];

    struct Machine {
        dir: tempfile::TempDir,
        ledger: Ledger,
    }

    impl Machine {
        fn new(value: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let kernel = dir.path().join("kernel");
            fs::create_dir_all(kernel.join("kernel/random")).unwrap();
            fs::create_dir_all(kernel.join("net")).unwrap();
            let ledger = Ledger { file: dir.path().join("ledger.json"), kernel };
            let machine = Self { dir, ledger };
            machine.boots("first", value);
            machine
        }

        fn boots(&self, id: &str, value: &str) {
            fs::write(self.dir.path().join("kernel/kernel/random/boot_id"), format!("{id}\n")).unwrap();
            self.set(value);
        }

        fn set(&self, value: &str) {
            fs::write(self.dir.path().join("kernel/net/a"), format!("{value}\n")).unwrap();
        }

        fn runs(&self) {
            self.ledger.note(&WANTED).unwrap();
            self.set("1");
        }

        fn undone(&self) -> String {
            assert_eq!(self.ledger.undo(), [""; 0]);
            assert_eq!(self.ledger.leftovers(), [""; 0]);
            self.ledger.value("net.a").unwrap()
        }
    }

    #[test]
    fn a_parameter_is_set_back_to_what_it_was() {
        let machine = Machine::new("0");
        machine.runs();
        machine.runs();
        assert_eq!(machine.ledger.leftovers(), ["kernel parameter net.a is 1, it was 0"]);
        assert_eq!(machine.undone(), "0");
        assert_eq!(machine.undone(), "0");
    }

    #[test]
    fn what_was_right_before_stays() {
        let machine = Machine::new("1");
        machine.runs();
        assert!(!machine.ledger.file.exists());
        assert_eq!(machine.undone(), "1");
    }

    #[test]
    fn what_others_have_set_since_stays() {
        let machine = Machine::new("0");
        machine.runs();
        machine.set("2");
        assert_eq!(machine.undone(), "2");
    }

    #[test]
    fn what_the_machine_sets_at_its_start_is_not_ours() {
        let machine = Machine::new("0");
        machine.runs();
        machine.boots("second", "1");
        assert_eq!(machine.undone(), "1");
    }

    #[test]
    fn after_a_reboot_the_new_value_is_what_was() {
        let machine = Machine::new("0");
        machine.runs();
        machine.boots("second", "3");
        machine.runs();
        assert_eq!(machine.undone(), "3");
    }
}
