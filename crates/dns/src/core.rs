//! What every path into the server shares: the zone, the way out, the counters.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::forward::{ForwardSettings, Forwarder};
use crate::metrics::Metrics;
use crate::zone::Zone;

/// The shared state. The zone's lock is held for a batch of lookups or a few map operations, never across an await.
#[derive(Debug)]
pub(crate) struct Core {
    zone: RwLock<Zone>,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) metrics: Metrics,
}

impl Core {
    pub(crate) fn new(
        zone: Zone,
        forward: ForwardSettings,
        own: Vec<SocketAddr>,
        metrics: Metrics,
    ) -> Arc<Self> {
        let forwarder = Forwarder::new(forward, own, metrics.clone());
        Arc::new(Self { zone: RwLock::new(zone), forwarder, metrics })
    }

    pub(crate) fn zone(&self) -> RwLockReadGuard<'_, Zone> {
        self.zone.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn zone_mut(&self) -> RwLockWriteGuard<'_, Zone> {
        self.zone.write().unwrap_or_else(PoisonError::into_inner)
    }
}
