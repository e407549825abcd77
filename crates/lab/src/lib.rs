//! A whole cluster on one machine: each node is a network namespace on a bridge, and runs the very same `svcd server`
//! or `svcd agent` as a machine of its own would.
//!
//! Promises: `down` leaves nothing behind, also after a crash; a network that the machine uses is never touched.
//! Refuses: to be more than a lab. The nodes share the machine's files, processes and kernel.

pub mod demo;
pub mod down;
pub mod enter;
pub mod error;
mod lock;
mod net;
pub mod plan;
mod process;
pub mod rootless;
pub mod state;
pub mod status;
pub mod up;
mod uplink;

pub use down::down;
pub use error::Error;
pub use plan::{Layout, Plan};
pub use state::State;
pub use status::status;
pub use up::up;
