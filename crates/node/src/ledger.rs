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
/// Turned on, it turns [`REDIRECTS`] off; turned off, it turns them on, whatever they were.
const FORWARDING: &str = "net.ipv4.ip_forward";
const REDIRECTS: &str = "net.ipv4.conf.all.accept_redirects";

/// What was done to one parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    former: String,
    ours: String,
    /// Of which start of the machine this is true.
    boot: String,
    /// Of forwarding: what redirects were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redirects: Option<String>,
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
                let redirects = (*key == FORWARDING).then(|| self.value(REDIRECTS)).flatten();
                changes.insert((*key).to_owned(), Change { former, ours, boot, redirects });
            }
        }
        if changes == known { Ok(()) } else { self.write(&changes) }
    }

    /// Sets back what is still ours, and tells what that did not work for.
    pub(crate) fn undo(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (key, change) in self.ours() {
            // On now, they were turned on since, by somebody else.
            let redirects = change.redirects.filter(|_| self.value(REDIRECTS).is_some_and(|now| now == "0"));
            failures.extend(self.set_back(&key, &change.former));
            failures.extend(redirects.and_then(|former| self.set_back(REDIRECTS, &former)));
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

    /// Why that did not work, if it did not.
    fn set_back(&self, key: &str, former: &str) -> Option<String> {
        let error = fs::write(self.path(key), former).err()?;
        Some(format!("cannot set {key} back to {former}: {error}"))
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

    /// What redirects are at the end, that were `former` before forwarding began and `now` before it ends.
    fn redirects_after(former: &str, now: &str) -> String {
        let machine = Machine::new("0");
        let set = |key: &str, value: &str| {
            let path = machine.ledger.path(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        };
        set(FORWARDING, "0");
        set(REDIRECTS, former);
        machine.ledger.note(&[(FORWARDING, "1")]).unwrap();
        set(FORWARDING, "1");
        set(REDIRECTS, now);
        assert_eq!(machine.ledger.undo(), [""; 0]);
        machine.ledger.value(REDIRECTS).unwrap()
    }

    #[test]
    fn what_forwarding_does_to_redirects_is_undone_too() {
        assert_eq!(redirects_after("1", "0"), "1");
        assert_eq!(redirects_after("0", "0"), "0");
        assert_eq!(redirects_after("0", "1"), "1");
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
