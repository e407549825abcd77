//! What can go wrong, said as what was tried, with what, and what to do.

use std::io;

/// An error of the proxy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mode that comes later.
    #[error("proxy mode {0} is not there yet; use --proxy-mode=iptables")]
    ModeNotBuilt(String),
    /// A mode that nobody knows.
    #[error("unknown proxy mode {0:?}; use --proxy-mode=iptables")]
    UnknownMode(String),
    /// A program cannot be started.
    #[error("cannot run {program}: {source}; install the package iptables and run as root")]
    Tool {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program refused.
    #[error("{command} failed: {message}")]
    Refused {
        /// The program with its arguments.
        command: String,
        /// What it said.
        message: String,
    },
    /// The background task cannot go on.
    #[error("a proxy task ended unexpectedly: {0}")]
    Task(String),
}

impl Error {
    /// Whether the same would fail whatever the rules are.
    pub(crate) fn is_environment(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

/// What could not be removed; everything else was.
#[derive(Debug, thiserror::Error)]
#[error("not everything could be removed: {}", list(.0))]
pub struct CleanupError(pub Vec<Error>);

fn list(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
