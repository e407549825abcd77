//! What is running, kept in one file below the lab's directory, so that every later command finds it, also after a crash.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::error::{Error, OnFile};
use crate::plan::{Layout, Plan};
use crate::process::Process;

/// A lab that was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// What it is.
    pub plan: Plan,
    /// The process of each node that has been started.
    pub processes: BTreeMap<String, Process>,
    /// Kernel parameters of the machine that were changed, with their old values.
    pub sysctls: BTreeMap<String, String>,
    /// It runs in a user namespace.
    pub rootless: bool,
}

impl State {
    /// The lab in this directory, if one was started and not taken down.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn load(layout: &Layout) -> Result<Option<Self>, Error> {
        let path = layout.state();
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(std::io::Error::from).on("read", &path)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).on("read", &path),
        }
    }

    /// Writes the file whole: a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn save(&self, layout: &Layout) -> Result<(), Error> {
        let path = layout.state();
        let temporary = path.with_extension("json.new");
        let bytes = serde_json::to_vec_pretty(self).map_err(std::io::Error::from).on("write", &path)?;
        fs::write(&temporary, bytes).on("write", &temporary)?;
        fs::rename(&temporary, &path).on("write", &path)
    }

    /// Whether any of its nodes still runs.
    pub fn is_running(&self) -> bool {
        self.processes.values().any(Process::is_alive)
    }

    /// Checks that a node is one of the lab's.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`] with the names that there are.
    pub fn node(&self, name: &str) -> Result<&crate::plan::Node, Error> {
        self.plan.nodes.iter().find(|n| n.name == name).ok_or_else(|| Error::NoSuchNode {
            name: name.to_owned(),
            known: self.plan.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}
