//! What on this machine would keep svcd from working, before it is started: each finding with its fix.
//!
//! [`gather`] looks (files of the kernel, a network namespace that is thrown away, the server to be joined) and decides
//! nothing; [`judge`] decides, and looks at nothing but what was gathered, so that each rule is a table of facts and findings.
//! What cannot be found out is no finding. Nothing on the machine is changed.
//! Refuses: to mend anything, and to guess what other programs are for.

mod facts;
mod finding;
mod gather;
mod rules;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::Ipv4Net;

pub use facts::{
    Clock, Dated, Facts, Firewall, Interface, Listener, Policy, Probe, Protocol, Resolvers, Route,
    SERVICE_PROBE, Twin,
};
pub use finding::{Finding, Severity};
pub use gather::{advertised, gather};
pub use rules::{Choice, judge};

/// What a machine is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A control plane, and a node beside it.
    Server,
    /// A worker.
    Agent,
}

/// What svcd will be started as.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the machine is to be.
    pub role: Role,
    /// The node's address, where it is given.
    pub node_ip: Option<IpAddr>,
    /// Host and port of the server to be joined.
    pub join: Option<(String, u16)>,
    /// Services' virtual addresses.
    pub services: Ipv4Net,
    /// Pods' addresses.
    pub pods: Ipv4Net,
    /// Where a server listens.
    pub listen: SocketAddr,
    /// Where it keeps what it keeps.
    pub data_dir: PathBuf,
}
