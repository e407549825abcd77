//! Makes the kernel forward what is sent to Services: virtual addresses, node ports and outside addresses.
//!
//! The middle is pure: [`Planner`] turns a Service with its endpoints and the facts of this node into a plan (who
//! serves, what is refused, what is dropped), the same for every mode. A [`Backend`] makes the kernel hold exactly the
//! plans: wanted minus actual, actual minus wanted. One task ([`Proxy`]) feeds it and never waits with a change.
//! All state in the kernel is derived: what an earlier run left is read and only the difference is written, and
//! stopping leaves everything in place. It sees neither the API server nor a client, and it refuses to touch rules and
//! chains that are not its own.

mod backend;
mod config;
mod conntrack;
mod error;
mod metrics;
mod plan;
mod sync;
mod sysctl;

pub use backend::{Backend, Iptables, Report, Wanted};
pub use config::{Config, Mode};
pub use error::{CleanupError, Error};
pub use metrics::Metrics;
pub use plan::{Planner, PortPlan, ServicePlan, Target};
pub use sync::{Handle, Proxy, Status};
pub use sysctl::wanted as kernel_parameters;

/// Removes every rule and chain of ours, of every mode, from the kernel; tries all and lists what failed. Blocks.
pub fn cleanup() -> Result<(), CleanupError> {
    let errors = backend::cleanup();
    if errors.is_empty() { Ok(()) } else { Err(CleanupError(errors)) }
}

/// What of ours is in the kernel, of every mode, in words: what [`cleanup`] would remove. Blocks.
pub fn leftovers() -> Result<Vec<String>, Error> {
    backend::leftovers()
}
