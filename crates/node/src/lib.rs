//! What an agent is: joins a cluster, registers its Node, keeps its Lease, and turns one set of watches into forwarding,
//! names, routes and pods on this machine.
//!
//! Promises: losing the server changes nothing on the machine; ending the agent neither; only [`cleanup`] takes things away.
//! Refuses: to decide anything that the crates below decide. It moves values between them and the server.

mod address;
mod agent;
mod cleanup;
mod client;
mod cluster;
mod config;
mod error;
mod events;
mod health;
mod health_checks;
mod join;
mod lease;
mod ledger;
mod leftovers;
mod lock;
mod lookup;
mod names;
mod network;
mod node_object;
mod nodes;
mod own_node;
mod pod_status;
mod pods;
mod renewal;
mod services;
mod system;
mod watch;

pub use address::pick as pick_address;
pub use agent::run;
pub use cleanup::cleanup;
pub use client::connect;
pub use cluster::{ClusterInfo, PortRange, Ranges};
pub use config::{AGENT_DIR, Config, Heartbeat, Role, control_plane_taint};
pub use error::Error;
pub use join::{Credentials, JoinConfig, JoinError, ServerUrl, join};
pub use leftovers::leftovers;
pub use renewal::Renewal;
