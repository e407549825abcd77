//! What can go wrong around a role.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log filter does not parse.
    #[error("{filter:?} is not a log filter ({reason}); examples: info, debug, warn,svcd_proxy=debug")]
    LogFilter {
        /// What was given.
        filter: String,
        /// Why it does not parse.
        reason: String,
    },
    /// The log was already set up in this process.
    #[error("logging is already set up in this process")]
    LoggingTwice,
    /// The health port could not be opened.
    #[error("cannot listen on {address} for health checks and metrics: {source}{hint}", hint = bind_hint(source))]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Signal handlers could not be installed.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// A task without which the process has no purpose has ended.
    #[error("{name} ended: {reason}")]
    EssentialEnded {
        /// Its name.
        name: &'static str,
        /// What it said.
        reason: String,
    },
    /// Tasks did not end in time.
    #[error("still running {deadline:?} after the order to stop: {}", names.join(", "))]
    DrainTimeout {
        /// How long was waited.
        deadline: Duration,
        /// Which tasks.
        names: Vec<&'static str>,
    },
}

fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process has this port: stop it, or choose another port",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
        _ => "",
    }
}
