//! The one error of this crate: what was tried, with what, and what to do where a user can do something.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

/// Why the pod network could not be made as wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a link, address or route.
    #[error("cannot {what}: {reason}{}", advice(*.code), reason = netlink_reason(.source))]
    Netlink {
        /// What was tried.
        what: String,
        /// The kernel's error number, 0 when it is not the kernel that refused.
        code: i32,
        /// The answer.
        source: Box<rtnetlink::Error>,
    },
    /// A file, kernel parameter or mount.
    #[error("cannot {what} {}: {source}{}", path.display(), advice(source.raw_os_error().unwrap_or(0)))]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// `iptables` is missing or refused a rule.
    #[error("cannot {what} with iptables: {message}")]
    Iptables {
        /// What was tried.
        what: String,
        /// What iptables said, and what to do.
        message: String,
    },
    /// Every address of the node's range is in use.
    #[error(
        "no free pod address: all {capacity} addresses of {range} are in use; delete pods of this node or give nodes larger ranges"
    )]
    Exhausted {
        /// The node's range.
        range: Ipv4Net,
        /// How many pods it can hold.
        capacity: u32,
    },
    /// The range cannot hold a bridge and a pod.
    #[error("pod range {0} is too small: it must have at least 4 addresses (/30)")]
    RangeTooSmall(Ipv4Net),
    /// A link of our name is something else.
    #[error(
        "{name} exists and is not a bridge; remove it (ip link del {name}) or choose another bridge name"
    )]
    NotABridge {
        /// The link.
        name: String,
    },
    /// Some routes could not be set; all others were.
    #[error("cannot route to {} of the other nodes: {}", .0.len(), join(.0))]
    Routes(Vec<RouteFailure>),
    /// A thread that should enter a namespace died.
    #[error("a thread for network namespace {} ended without an answer", .0.display())]
    Thread(PathBuf),
}

/// One route that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error(
    "{range} via {via} ({source}); pods reach other nodes through a network that all nodes share, is {via} on it?"
)]
pub struct RouteFailure {
    /// The other node's pod range.
    pub range: Ipv4Net,
    /// The other node.
    pub via: Ipv4Addr,
    /// What the kernel said.
    pub source: Box<rtnetlink::Error>,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    pub(crate) fn errno(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(nix::errno::Errno) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source: source.into() }
    }

    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Netlink { what, code: code(&source), source: Box::new(source) }
    }
}

/// The kernel's error number as a positive number, 0 for anything else.
pub(crate) fn code(error: &rtnetlink::Error) -> i32 {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code().abs(),
        _ => 0,
    }
}

fn netlink_reason(error: &rtnetlink::Error) -> String {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().to_string(),
        other => other.to_string(),
    }
}

fn advice(code: i32) -> &'static str {
    if code == nix::errno::Errno::EPERM as i32 { "; run as root" } else { "" }
}

fn join(failures: &[RouteFailure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_say_what_to_do() {
        let denied = Error::errno("mount", "/run/x")(nix::errno::Errno::EPERM);
        assert_eq!(
            denied.to_string(),
            "cannot mount /run/x: Operation not permitted (os error 1); run as root"
        );
        let other = Error::errno("mount", "/run/x")(nix::errno::Errno::ENOSPC);
        assert!(!other.to_string().contains("root"), "{other}");
    }
}
