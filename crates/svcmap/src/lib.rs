//! The data plane's picture of Services: which exist, and who serves them, for whom.
//!
//! Owns the conversion from Kubernetes objects to plain values ([`Service`], [`Endpoint`], [`Entry`]), the [`Index`]
//! that joins Services with their EndpointSlices and tells what changed, and the rule of which endpoints a client is
//! sent to ([`select`]). It is pure: no I/O, no clock, no client.
//! It refuses to validate as an API server does: what cannot be used is logged and left out, the rest goes on.

mod convert;
mod health;
mod index;
mod select;
mod types;

pub use convert::Unusable;
pub use health::HealthCheck;
pub use index::{Index, Update};
pub use select::{Family, Place, Selection, select};
pub use types::*;
