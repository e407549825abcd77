//! What can go wrong in this crate, said with what was tried.

use std::net::SocketAddr;

/// An error of the DNS server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster domain cannot be a zone.
    #[error("cluster domain {0:?} is not a usable DNS name: give labels of letters, digits and dashes, at most {max} bytes in all", max = crate::zone::MAX_ZONE_LENGTH)]
    ClusterDomain(String),
    /// Nothing to listen on.
    #[error("no address to answer DNS at: give at least one")]
    NoAddress,
    /// A socket could not be had.
    #[error("cannot listen for DNS at {protocol} {address}: {source}{hint}", hint = bind_hint(source))]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A worker thread could not be started.
    #[error("cannot start a DNS worker thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The server of TCP connections stopped by itself.
    #[error("the DNS server's TCP side stopped: {0}")]
    Tcp(String),
    /// A UDP worker stopped by itself.
    #[error("a DNS worker stopped reading {address}: {source}")]
    Worker {
        /// The socket's address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What to do about a socket that cannot be bound.
fn bind_hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another DNS server holds it: stop that one, or choose another address"
        }
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        std::io::ErrorKind::AddrNotAvailable => "; the address is not on this machine",
        _ => "",
    }
}
