//! Which parts of this node work: what decides whether its Node is Ready.
//!
//! Every part starts as "not yet" and says itself when it works or why not; the Node is Ready when all do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use svcd_runtime::{Readiness, ReadyGuard};
use tokio::sync::watch;

/// A part of the node that must work before pods may be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Bridge, links and routes.
    PodNetwork,
    /// Rules for Services.
    Proxy,
    /// Names.
    Dns,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PodNetwork => "pod network",
            Self::Proxy => "proxy",
            Self::Dns => "dns",
        }
    }
}

/// What a part says before it has said anything.
const STARTING: &str = "starting";

/// What each part says of itself: `Err` with the reason while it does not work.
pub(crate) type States = BTreeMap<Part, Result<(), String>>;

/// The states of all parts. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    states: Arc<watch::Sender<States>>,
    /// Each part's, until it has worked once.
    guards: Arc<Mutex<BTreeMap<Part, ReadyGuard>>>,
}

impl Health {
    pub(crate) fn new(parts: &[Part], readiness: &Readiness) -> Self {
        let states = parts.iter().map(|part| (*part, Err(STARTING.to_owned()))).collect();
        let guards = parts.iter().map(|part| (*part, readiness.guard(part.name()))).collect();
        Self { states: Arc::new(watch::Sender::new(states)), guards: Arc::new(Mutex::new(guards)) }
    }

    /// A part's own word; nobody is woken when it is the same as before.
    pub(crate) fn set(&self, part: Part, state: Result<(), String>) {
        if state.is_ok() {
            self.guards.lock().unwrap_or_else(PoisonError::into_inner).remove(&part);
        }
        self.states.send_if_modified(|states| match states.get_mut(&part) {
            Some(before) if *before != state => {
                match &state {
                    Ok(()) => tracing::info!(part = part.name(), "works"),
                    Err(reason) => tracing::warn!(part = part.name(), reason, "does not work"),
                }
                *before = state;
                true
            }
            _ => false,
        });
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<States> {
        self.states.subscribe()
    }
}

/// Why the node is not ready; `None` when it is.
pub(crate) fn problem(states: &States) -> Option<String> {
    let problems: Vec<String> = states
        .iter()
        .filter_map(|(part, state)| Some(format!("{}: {}", part.name(), state.as_ref().err()?)))
        .collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// Whether nothing is known to be broken: every part works or has not spoken yet.
pub(crate) fn is_starting(states: &States) -> bool {
    states.values().all(|state| match state {
        Ok(()) => true,
        Err(reason) => reason == STARTING,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_part_works() {
        let readiness = Readiness::default();
        let health = Health::new(&[Part::Proxy, Part::Dns], &readiness);
        let mut receiver = health.subscribe();
        assert_eq!(problem(&receiver.borrow_and_update()).unwrap(), "proxy: starting; dns: starting");
        health.set(Part::Proxy, Ok(()));
        health.set(Part::Dns, Err("port 53 is busy".into()));
        assert_eq!(problem(&receiver.borrow_and_update()).unwrap(), "dns: port 53 is busy");
        health.set(Part::Dns, Err("port 53 is busy".into()));
        assert!(!receiver.has_changed().unwrap(), "the same word wakes nobody");
        assert_eq!(readiness.pending(), ["dns"]);
        health.set(Part::Dns, Ok(()));
        assert_eq!(problem(&receiver.borrow()), None);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_part_that_is_not_awaited_changes_nothing() {
        let health = Health::new(&[Part::Proxy], &Readiness::default());
        health.set(Part::Dns, Err("x".into()));
        assert_eq!(health.subscribe().borrow().len(), 1);
    }
}
