//! What an agent is: joins a cluster, registers its Node, keeps its Lease, and turns one set of watches into forwarding,
//! names, routes and pods on this machine.
//!
//! Promises: losing the server changes nothing on the machine; ending the agent neither; only `cleanup` takes things away.
//! Refuses: to decide anything that the crates below decide. It moves values between them and the server.

mod cluster;
mod join;

pub use cluster::{ClusterInfo, PortRange};
pub use join::{Credentials, JoinConfig, JoinError, ServerUrl, join};
