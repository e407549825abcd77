//! What a mode has to be able to do. A new mode is one more file here; the battery in `tests/` asks packet questions of
//! every one of them.
//!
//! Backends block (they run programs and talk to the kernel); the sync loop calls them on threads for blocking work.

mod iptables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use svcd_svcmap::ServiceName;

pub use iptables::Iptables;

use crate::{Error, ServicePlan};

/// The plans of all Services.
pub type Wanted = BTreeMap<ServiceName, Arc<ServicePlan>>;

/// What a sync did.
#[derive(Debug, Default)]
pub struct Report {
    /// How many lines (rules, elements, …) were written; 0 when the kernel held everything already.
    pub written: usize,
    /// Services whose plan the kernel did not take; it keeps what it held for them before.
    pub failed: BTreeMap<ServiceName, Error>,
    /// What stopped the sync as a whole.
    pub error: Option<Error>,
}

impl Report {
    /// Whether the kernel holds everything wanted.
    pub fn complete(&self) -> bool {
        self.failed.is_empty() && self.error.is_none()
    }
}

/// A mode: makes the kernel hold what is wanted.
pub trait Backend: Send {
    /// Reads what the kernel holds and writes the difference to `wanted`, whatever was there before.
    fn full(&mut self, wanted: &Wanted) -> Report;

    /// As [`Self::full`] for the Services `touched` alone, trusting what this backend wrote before. Costs what it touches.
    fn partial(&mut self, wanted: &Wanted, touched: &BTreeSet<ServiceName>) -> Report;

    /// A cheap look whether somebody else removed our rules. May say false without need.
    fn intact(&mut self) -> bool;

    /// Removes everything of this mode from the kernel, and nothing else; tries all, returns what failed.
    fn remove(&mut self) -> Vec<Error>;

    /// How many rules there are, by address family and table, for metrics.
    fn totals(&self) -> Vec<(&'static str, &'static str, usize)>;
}

/// What any mode has left.
pub(crate) fn leftovers() -> Result<Vec<String>, Error> {
    iptables::leftovers()
}

/// Removes what any mode may have left.
pub(crate) fn cleanup() -> Vec<Error> {
    iptables::cleanup()
}
