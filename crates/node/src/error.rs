//! What can go wrong with an agent: each variant says what was tried and with what.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// An error of this crate, besides [`JoinError`](crate::JoinError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no route to the server.
    #[error("cannot find which address of this machine reaches {server}: {source}; give it with --node-ip")]
    NoRoute {
        /// Where to.
        server: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An address cannot be a node's.
    #[error("{address} cannot be this node's address: {reason}; give another with --node-ip")]
    BadAddress {
        /// Which address.
        address: IpAddr,
        /// Why not.
        reason: String,
    },
    /// A name cannot be a node's.
    #[error(
        "{name:?} cannot be a node's name: only a-z, 0-9, '-' and '.', at most 253; give another with --node-name"
    )]
    BadName {
        /// Which name.
        name: String,
    },
    /// The lease would run out between two signs of life.
    #[error("the heartbeat interval {interval:?} must be shorter than the lease of {lease:?}")]
    Heartbeat {
        /// How often.
        interval: std::time::Duration,
        /// For how long.
        lease: std::time::Duration,
    },
    /// Addresses of a family that an agent cannot forward to yet.
    #[error(
        "this cluster has the IPv6 range {range}, and an agent forwards IPv4 only; run nodes of another kind in it, or give \
         `svcd server` IPv4 ranges alone"
    )]
    Family {
        /// Which range.
        range: ipnet::IpNet,
    },
    /// A directory could not be made.
    #[error("cannot make {path}: {source}", path = path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: svcd_pki::Error,
    },
    /// An agent uses this directory.
    #[error("an agent is running with {path}: stop it first, or use another --data-dir", path = path.display())]
    Busy {
        /// Its directory.
        path: PathBuf,
    },
    /// The lock could not be asked for.
    #[error("cannot lock {path}: {source}", path = path.display())]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The proxy could not start.
    #[error(transparent)]
    Proxy(#[from] svcd_proxy::Error),
    /// The health port could not be opened.
    #[error(transparent)]
    Health(#[from] svcd_runtime::Error),
    /// A client for the server could not be built.
    #[error("cannot set up a client for {server}: {reason}")]
    Client {
        /// Which server.
        server: String,
        /// Why not.
        reason: String,
    },
    /// A part of the agent has ended, which none may.
    #[error("{part} ended: {reason}")]
    Ended {
        /// Which part.
        part: &'static str,
        /// What it said.
        reason: String,
    },
    /// What is to be changed could not be written down.
    #[error("cannot write down what will be changed: {0}")]
    Ledger(svcd_pki::Error),
    /// The machine could not be asked what is left.
    #[error("cannot find out what is left: {0}")]
    Look(String),
    /// Some things could not be taken away.
    #[error("not everything could be removed: {}", .0.join("; "))]
    Cleanup(Vec<String>),
}
