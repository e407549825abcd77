//! Routes to the other nodes' pods: the difference between wanted and actual as a pure function, and its way into the
//! kernel. Ours carry a routing protocol number of their own, so nobody else's is ever touched.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use nix::errno::Errno;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::error::{Error, Result, RouteFailure, code};

/// The number in the kernel's routes by which ours are known (`ip route show proto 92`).
pub const PROTOCOL: u8 = 0x5c;

pub(crate) type Routes = BTreeMap<Ipv4Net, Ipv4Addr>;

/// What to do to get from one set of routes to another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) set: Routes,
    pub(crate) remove: Routes,
}

/// Wanted minus actual, and actual minus wanted. A route whose node moved is replaced, not removed first.
pub(crate) fn difference(wanted: &Routes, actual: &Routes) -> Difference {
    let missing = |from: &Routes, range: &Ipv4Net, via: &Ipv4Addr| from.get(range) != Some(via);
    Difference {
        set: wanted.iter().filter(|(range, via)| missing(actual, range, via)).map(copied).collect(),
        remove: actual.iter().filter(|(range, _)| !wanted.contains_key(range)).map(copied).collect(),
    }
}

fn copied((range, via): (&Ipv4Net, &Ipv4Addr)) -> (Ipv4Net, Ipv4Addr) {
    (*range, *via)
}

/// Our routes in the kernel.
pub(crate) async fn actual(handle: &Handle) -> Result<Routes> {
    Ok(messages(handle).await?.iter().filter_map(ours).collect())
}

/// All routes of IPv4.
pub(crate) async fn messages(handle: &Handle) -> Result<Vec<RouteMessage>> {
    let filter = RouteMessageBuilder::<Ipv4Addr>::new().build();
    handle.route().get(filter).execute().try_collect().await.map_err(Error::netlink("list routes"))
}

fn ours(message: &RouteMessage) -> Option<(Ipv4Net, Ipv4Addr)> {
    let header = &message.header;
    if header.protocol != RouteProtocol::Other(PROTOCOL) || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    })?;
    let gateway = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    });
    let range = Ipv4Net::new(destination, header.destination_prefix_length).ok()?;
    // A route of ours without a gateway is none that we would set: it differs from any wanted one.
    Some((range, gateway.unwrap_or(Ipv4Addr::UNSPECIFIED)))
}

/// Makes our routes be `wanted`. One that the kernel refuses does not keep the others from being set.
pub(crate) async fn sync(handle: &Handle, wanted: &Routes) -> Result<()> {
    let Difference { set, remove } = difference(wanted, &actual(handle).await?);
    let mut failures = Vec::new();
    for (range, via) in set {
        tracing::info!(%range, %via, "routing to another node's pods");
        if let Err(source) = handle.route().add(message(range, via)).replace().execute().await {
            failures.push(RouteFailure { range, via, source: Box::new(source) });
        }
    }
    for (range, via) in remove {
        tracing::info!(%range, %via, "no longer routing to a node's pods");
        match handle.route().del(message(range, via)).execute().await {
            Err(error) if code(&error) == Errno::ESRCH as i32 => {}
            Err(source) => failures.push(RouteFailure { range, via, source: Box::new(source) }),
            Ok(()) => {}
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::Routes(failures)) }
}

fn message(range: Ipv4Net, via: Ipv4Addr) -> RouteMessage {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range.network(), range.prefix_len())
        .protocol(RouteProtocol::Other(PROTOCOL));
    if via.is_unspecified() { route.build() } else { route.gateway(via).build() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(text: &[(&str, &str)]) -> Routes {
        text.iter().map(|(range, via)| (range.parse().unwrap(), via.parse().unwrap())).collect()
    }

    #[test]
    fn only_what_differs_is_done() {
        let actual = routes(&[
            ("10.244.1.0/24", "192.168.56.21"),
            ("10.244.2.0/24", "192.168.56.22"),
            ("10.244.3.0/24", "192.168.56.23"),
        ]);
        let wanted = routes(&[
            ("10.244.1.0/24", "192.168.56.21"),
            ("10.244.2.0/24", "192.168.56.99"),
            ("10.244.4.0/24", "192.168.56.24"),
        ]);
        let both = difference(&wanted, &actual);
        let set = routes(&[("10.244.2.0/24", "192.168.56.99"), ("10.244.4.0/24", "192.168.56.24")]);
        let remove = routes(&[("10.244.3.0/24", "192.168.56.23")]);
        assert_eq!(both, Difference { set, remove });
        assert_eq!(difference(&wanted, &wanted), Difference::default());
    }
}
