//! Links, addresses and routes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use ipnet::Ipv4Net;
use nix::ifaddrs::getifaddrs;

use crate::rules::{Choice, choose};
use crate::{Interface, Plan, Route};

/// An address for documentation (RFC 5737): nobody's own network, so the default route leads there.
const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 255), 9);

pub(super) fn interfaces() -> Vec<Interface> {
    let mut links: BTreeMap<String, Vec<Ipv4Net>> = BTreeMap::new();
    for found in getifaddrs().into_iter().flatten() {
        let addresses = links.entry(found.interface_name).or_default();
        let v4 = |address: Option<nix::sys::socket::SockaddrStorage>| Some(address?.as_sockaddr_in()?.ip());
        if let (Some(address), Some(mask)) = (v4(found.address), v4(found.netmask)) {
            addresses.extend(Ipv4Net::with_netmask(address, mask));
        }
    }
    links.into_iter().map(|(name, addresses)| Interface { name, addresses }).collect()
}

pub(super) async fn routes() -> Vec<Route> {
    let found = svcd_podnet::routes().await.unwrap_or_default();
    let route = |(destination, interface, ours)| Route { destination, interface, ours };
    found.into_iter().map(route).collect()
}

/// The address that reaches the server, or the one of the default route. Connecting a datagram socket sends nothing; the
/// kernel only chooses the way.
pub(super) async fn address(plan: &Plan) -> Option<IpAddr> {
    let to = match &plan.join {
        Some((host, port)) => {
            tokio::net::lookup_host((host.as_str(), *port)).await.ok()?.find(SocketAddr::is_ipv4)?
        }
        None if !plan.listen.ip().is_unspecified() => return Some(plan.listen.ip()),
        None => ANYWHERE.into(),
    };
    let by_route = toward(to);
    if plan.join.is_some() { by_route } else { Some(choose(&interfaces(), by_route)?.address) }
}

/// The address of this machine that others are told, where nobody says which, and why it is that one. Asks the kernel.
#[must_use]
pub fn advertised() -> Option<Choice> {
    choose(&interfaces(), toward(ANYWHERE.into()))
}

fn toward(to: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}
