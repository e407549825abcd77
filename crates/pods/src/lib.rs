//! The life of pods on one node: from a Pod object to processes, and from what becomes of them to a PodStatus.
//!
//! Promises: plain values in ([`PodManager::apply`], [`PodManager::delete`], [`PodManager::reset`]), statuses out through
//! a [`Sink`]; containers outlive the agent and are adopted by the next one; nothing here polls on the way from a bound
//! pod to a ready one. What runs containers is behind one trait, [`Runtime`]; the built-in one is [`process`].
//!
//! Refuses: talking to the API (see [`Sink`] and [`Lookup`]), and pretending: a pod that asks for something the runtime
//! cannot give waits with a reason that names the field.

mod backoff;
pub mod echo;
mod env;
mod error;
mod files;
mod hook;
mod lookup;
mod manager;
mod model;
mod probe;
mod prober;
pub mod process;
mod runtime;
pub mod shim;
mod sink;
mod status;
mod time;
mod worker;

pub use error::Error;
pub use lookup::Lookup;
pub use manager::{Config, PodManager};
pub use runtime::{
    ContainerId, ContainerSpec, ExecOutput, Exit, PodSpecRef, Record, Refusal, Runtime, Sandbox, SandboxSpec,
    Signal,
};
pub use sink::{Event, PodRef, Sink};

/// The hidden first argument with which the own binary runs as a container's shim: [`shim::main`] must get the rest.
pub const SHIM_COMMAND: &str = "__pod-exec";
/// The hidden first argument with which the own binary runs as the echo server: [`echo::main`] must get the rest.
pub const ECHO_COMMAND: &str = "__echo";
