//! How much is served at once. Writes and reads have their own budgets, so that neither starves the other; watches have
//! a third, since they last; what comes from this very process is not held to any.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::errors::Failure;

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest body of a request.
    pub body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Writes at the same time.
    pub mutating: usize,
    /// Reads at the same time.
    pub read_only: usize,
    /// Watches at the same time.
    pub watches: usize,
    /// Connections at the same time.
    pub connections: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the head of a request may take to arrive.
    pub header_timeout: Duration,
    /// How long a client may read nothing while something is to be sent to it.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 3 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            mutating: 1000,
            read_only: 1000,
            watches: 20_000,
            connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// Which budget a request is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Mutating,
    ReadOnly,
    Watch,
}

/// The right to go on; given back when dropped.
pub(crate) struct Permit {
    _slot: Option<OwnedSemaphorePermit>,
    gauge: Gauge,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// The budgets.
pub(crate) struct InFlight {
    mutating: Arc<Semaphore>,
    read_only: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

impl InFlight {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            mutating: Arc::new(Semaphore::new(limits.mutating)),
            read_only: Arc::new(Semaphore::new(limits.read_only)),
            watches: Arc::new(Semaphore::new(limits.watches)),
        }
    }

    /// Lets a request in, or says 429. `gauge` counts it while it is in.
    pub(crate) fn enter(&self, class: Class, exempt: bool, gauge: Gauge) -> Result<Permit, Failure> {
        let budget = match class {
            Class::Mutating => &self.mutating,
            Class::ReadOnly => &self.read_only,
            Class::Watch => &self.watches,
        };
        let slot = if exempt {
            None
        } else {
            let slot = Arc::clone(budget).try_acquire_owned();
            Some(slot.map_err(|_| Failure::too_many_requests())?)
        };
        gauge.inc();
        Ok(Permit { _slot: slot, gauge })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_budget_says_429_until_a_permit_is_given_back() {
        let limits = Limits { mutating: 1, ..Limits::default() };
        let in_flight = InFlight::new(&limits);
        let gauge: Gauge = Gauge::default();
        let first = in_flight.enter(Class::Mutating, false, gauge.clone());
        assert!(first.is_ok());
        let refused = in_flight.enter(Class::Mutating, false, gauge.clone()).err().map(|f| f.code());
        assert_eq!(refused, Some(http::StatusCode::TOO_MANY_REQUESTS));
        assert!(in_flight.enter(Class::ReadOnly, false, gauge.clone()).is_ok());
        assert!(in_flight.enter(Class::Mutating, true, gauge.clone()).is_ok());
        drop(first);
        assert!(in_flight.enter(Class::Mutating, false, gauge.clone()).is_ok());
        assert_eq!(gauge.get(), 0);
    }
}
