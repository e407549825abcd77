//! Readiness: a role is ready once every guard that was taken has been dropped.
//!
//! A guard is called after what it waits for; what is waited for shows on `/readyz`. Take all guards before anything is
//! spawned, or the role is ready for a moment too early.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// Who still holds readiness back. Clones share the state.
#[derive(Clone, Debug)]
pub struct Readiness {
    pending: Arc<watch::Sender<BTreeMap<String, usize>>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { pending: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }
}

impl Readiness {
    /// Holds readiness back until the guard is dropped.
    pub fn guard(&self, name: &str) -> ReadyGuard {
        self.pending.send_modify(|pending| *pending.entry(name.to_owned()).or_insert(0) += 1);
        ReadyGuard { readiness: self.clone(), name: name.to_owned() }
    }

    /// What is still waited for.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        self.pending.borrow().keys().cloned().collect()
    }

    /// Whether nothing is waited for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pending.borrow().is_empty()
    }

    /// Waits until nothing is waited for.
    pub async fn ready(&self) {
        // The sender lives in self, so the channel cannot be closed.
        let _ = self.pending.subscribe().wait_for(BTreeMap::is_empty).await;
    }

    /// A receiver that wakes whenever the set of what is waited for changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<String, usize>> {
        self.pending.subscribe()
    }
}

/// Holds readiness back; dropping it says "ready".
#[must_use = "dropping the guard at once says that the thing is ready"]
#[derive(Debug)]
pub struct ReadyGuard {
    readiness: Readiness,
    name: String,
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        self.readiness.pending.send_modify(|pending| {
            if let Some(count) = pending.get_mut(&self.name) {
                *count -= 1;
                if *count == 0 {
                    pending.remove(&self.name);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_the_last_guard_is_gone() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let (proxy, dns, dns_again) =
            (readiness.guard("proxy"), readiness.guard("dns"), readiness.guard("dns"));
        assert_eq!(readiness.pending(), ["dns", "proxy"]);
        drop(dns);
        assert_eq!(readiness.pending(), ["dns", "proxy"]);
        let waiter = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        drop(dns_again);
        drop(proxy);
        waiter.await.unwrap();
        assert!(readiness.is_ready());
    }
}
