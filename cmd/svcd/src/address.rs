//! Which address of this machine others are told to call.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;

use crate::failure::Failure;

/// The one given, else the one that is listened on, else the one of the default route, else the first that is not
/// loopback; with the port that is listened on.
pub(crate) fn advertised(given: Option<IpAddr>, listen: SocketAddr) -> Result<SocketAddr, Failure> {
    let listened = Some(listen.ip()).filter(|ip| !ip.is_unspecified());
    let found = given.or(listened).or_else(of_default_route).or_else(first_interface);
    let none =
        || Failure::new("this machine has no address but loopback", "give one with --advertise-address");
    Ok(SocketAddr::new(found.ok_or_else(none)?, listen.port()))
}

/// Connecting a datagram socket sends nothing; the kernel only chooses the way, and with it the address.
fn of_default_route() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address for documentation (RFC 5737): nobody's own network.
    socket.connect((Ipv4Addr::new(192, 0, 2, 255), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

fn first_interface() -> Option<IpAddr> {
    let addresses = getifaddrs().ok()?.filter_map(|interface| interface.address);
    let mut v4 = addresses.filter_map(|a| a.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip));
    v4.find(|ip| !ip.is_loopback()).map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_or_listened_on_comes_first() {
        let any = "0.0.0.0:6443".parse().unwrap();
        let given = advertised(Some(IpAddr::from([10, 0, 0, 1])), any).unwrap();
        assert_eq!(given.to_string(), "10.0.0.1:6443");
        let listened = advertised(None, "127.0.0.1:7000".parse().unwrap()).unwrap();
        assert_eq!(listened.to_string(), "127.0.0.1:7000");
    }
}
