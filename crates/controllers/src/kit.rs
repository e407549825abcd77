//! What every controller is made of: a shared cache for each kind, a queue, a loop, and readers of common fields.
//!
//! One watch stream and one cache a kind serve all controllers. A controller's own writes go into the cache with the
//! answer of the server ([`store::Store::wrote`]), so that its next decision sees them even if the watch is behind.

pub(crate) mod amount;
pub(crate) mod drive;
pub(crate) mod events;
pub(crate) mod hash;
pub(crate) mod informer;
pub(crate) mod kinds;
pub(crate) mod meta;
pub(crate) mod nodes;
pub(crate) mod pods;
pub(crate) mod queue;
pub(crate) mod selector;
pub(crate) mod shelf;
pub(crate) mod store;
pub(crate) mod taints;
pub(crate) mod workload;
pub(crate) mod world;
