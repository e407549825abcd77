//! The address under which the other nodes reach this one.
//!
//! Unless told, it is that of the interface that reaches the server: the kernel is asked by connecting a UDP socket, which
//! sends nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::Error;

/// The node's address: the one given if it can be one, else the one that the route to the server has.
///
/// # Errors
/// [`Error::NoRoute`] when no route leads to the server, [`Error::BadAddress`] when other nodes could not use it.
pub fn pick(server: SocketAddr, given: Option<IpAddr>) -> Result<IpAddr, Error> {
    let address = match given {
        Some(address) => check_ours(address)?,
        None => toward(server).map_err(|source| Error::NoRoute { server, source })?,
    };
    check_usable(address, server.ip())?;
    Ok(address)
}

fn toward(server: SocketAddr) -> io::Result<IpAddr> {
    // The server's "every address" is this machine's loopback for whoever connects.
    let target = if server.ip().is_unspecified() { loopback(server) } else { server };
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

fn loopback(server: SocketAddr) -> SocketAddr {
    let address: IpAddr =
        if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(address, server.port())
}

/// Only an address that this machine has can be bound.
fn check_ours(address: IpAddr) -> Result<IpAddr, Error> {
    UdpSocket::bind((address, 0)).map(|_| address).map_err(|source| Error::BadAddress {
        address,
        reason: format!("this machine does not have it ({source})"),
    })
}

fn check_usable(address: IpAddr, server: IpAddr) -> Result<(), Error> {
    let bad = |reason: &str| Err(Error::BadAddress { address, reason: reason.to_owned() });
    if address.is_ipv6() {
        return bad("pods are reached over IPv4 only");
    }
    if address.is_unspecified() || address.is_multicast() {
        return bad("other nodes cannot send to it");
    }
    if address.is_loopback() && !server.is_loopback() && !server.is_unspecified() {
        return bad("it is a loopback address, and the server is on another machine");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_route_to_the_server_decides() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(pick(server("127.0.0.1:6443"), None).unwrap(), loopback);
        assert_eq!(pick(server("0.0.0.0:6443"), None).unwrap(), loopback);
    }

    #[test]
    fn loopback_is_no_address_for_a_server_elsewhere() {
        let error = pick(server("192.0.2.1:6443"), Some([127, 0, 0, 1].into())).unwrap_err().to_string();
        assert!(error.contains("loopback"), "{error}");
    }

    #[test]
    fn addresses_of_others_are_refused() {
        let error = pick(server("127.0.0.1:6443"), Some([192, 0, 2, 77].into())).unwrap_err();
        assert!(matches!(error, Error::BadAddress { .. }), "{error}");
        for bad in ["0.0.0.0", "::1"] {
            let error = check_usable(bad.parse().unwrap(), [127, 0, 0, 1].into()).unwrap_err();
            assert!(matches!(error, Error::BadAddress { .. }), "{error}");
        }
    }
}
