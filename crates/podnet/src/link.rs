//! The bridge and the veth pairs: what they must be, and how the kernel gets there.
//!
//! Hardware addresses follow from IP addresses (`0a:58:` and the four octets), so that a peer's neighbour cache is
//! right even when an address moves to a new pod. Our veths carry the alias `svcd:<pod id>`, by which they are known.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::errno::Errno;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::error::{Error, Result, code};
use crate::netlink::{self, Link};

/// How the host side of a pod's pair begins.
const VETH_PREFIX: &str = "veth";
/// How the alias of our links begins.
const ALIAS_PREFIX: &str = "svcd:";
/// For the kernel to notice that a pair is up.
const CARRIER: Duration = Duration::from_secs(2);
/// The pod side.
const POD_LINK: &str = "eth0";

/// Makes the bridge be there, up, with exactly this address.
pub(crate) async fn ensure_bridge(handle: &Handle, name: &str, address: Ipv4Net, mtu: u32) -> Result<Link> {
    let link = match netlink::link(handle, name).await? {
        Some(link) if !link.is_bridge => return Err(Error::NotABridge { name: name.to_owned() }),
        Some(link) => link,
        None => add_bridge(handle, name, address, mtu).await?,
    };
    if !link.up || link.mtu != mtu {
        let message = LinkUnspec::new_with_index(link.index).mtu(mtu).up().build();
        netlink::change(handle, format!("set up bridge {name}"), message).await?;
    }
    let existing = netlink::addresses(handle, link.index).await?;
    for (net, message) in existing {
        if net != address {
            netlink::remove_address(handle, net, message).await?;
        }
    }
    netlink::add_address(handle, &link, address).await?;
    Ok(link)
}

async fn add_bridge(handle: &Handle, name: &str, address: Ipv4Net, mtu: u32) -> Result<Link> {
    let message = LinkBridge::new(name).mtu(mtu).address(hardware_address(address.addr())).build();
    handle.link().add(message).execute().await.map_err(Error::netlink(format!("add bridge {name}")))?;
    netlink::link(handle, name).await?.ok_or_else(|| Error::NotABridge { name: name.to_owned() })
}

/// A pod's pair as it must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) id: &'a str,
    pub(crate) netns: &'a Path,
    pub(crate) address: Ipv4Addr,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) mtu: u32,
    pub(crate) bridge: u32,
}

/// Makes the pair be there, both sides configured. A half that stands alone is replaced.
pub(crate) async fn ensure_pair(handle: &Handle, pair: Pair<'_>) -> Result<()> {
    let inside = netlink::connect_in(pair.netns).await?;
    let pod = netlink::link(&inside, POD_LINK).await?;
    let host = netlink::link(handle, &veth_name(pair.id)).await?;
    let (pod, host) = match (pod, host) {
        (Some(pod), Some(host)) => (pod, host),
        (pod, host) => {
            remove_half(&inside, pod).await?;
            remove_half(handle, host).await?;
            add_pair(handle, &inside, pair).await?
        }
    };
    configure_host(handle, &host, pair).await?;
    configure_pod(&inside, &pod, pair).await?;
    await_carrier(handle, &host.name, &inside).await
}

/// Waits until the pair passes packets, a millisecond or so: a first packet that is lost comes again only after a second.
async fn await_carrier(handle: &Handle, host: &str, inside: &Handle) -> Result<()> {
    let deadline = Instant::now() + CARRIER;
    loop {
        let outer = netlink::link(handle, host).await?;
        let inner = netlink::link(inside, POD_LINK).await?;
        let up = outer.is_some_and(|link| link.operational && link.forwarding)
            && inner.is_some_and(|link| link.operational);
        if up {
            return Ok(());
        }
        if Instant::now() > deadline {
            // It will be, and the pod is better off with it than without.
            tracing::warn!(link = host, "a pod's link is not up yet");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn remove_half(handle: &Handle, half: Option<Link>) -> Result<()> {
    match half {
        Some(link) => netlink::remove_link(handle, &link).await,
        None => Ok(()),
    }
}

async fn add_pair(handle: &Handle, inside: &Handle, pair: Pair<'_>) -> Result<(Link, Link)> {
    let name = veth_name(pair.id);
    let what = format!("add link {name} of pod {}", pair.id);
    let netns = std::fs::File::open(pair.netns).map_err(Error::io("open network namespace", pair.netns))?;
    let peer = LinkUnspec::new_with_name(POD_LINK)
        .mtu(pair.mtu)
        .address(hardware_address(pair.address))
        .setns_by_fd(netns.as_raw_fd())
        .build();
    let message = LinkVeth::new(&name, POD_LINK)
        .mtu(pair.mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    handle.link().add(message).execute().await.map_err(Error::netlink(&what))?;
    let host = netlink::link(handle, &name).await?;
    let pod = netlink::link(inside, POD_LINK).await?;
    pod.zip(host).ok_or_else(|| Error::netlink(what)(rtnetlink::Error::RequestFailed))
}

/// Into the bridge, marked as ours, with hairpin: with `br_netfilter` a pod that reaches itself through a Service is
/// switched back to the port it came from.
async fn configure_host(handle: &Handle, host: &Link, pair: Pair<'_>) -> Result<()> {
    let alias = format!("{ALIAS_PREFIX}{}", pair.id);
    if host.up && host.controller == Some(pair.bridge) && host.alias.as_deref() == Some(&alias) {
        return Ok(());
    }
    let what = format!("put {} of pod {} into the bridge", host.name, pair.id);
    let join = LinkUnspec::new_with_index(host.index)
        .controller(pair.bridge)
        .append_extra_attribute(LinkAttribute::IfAlias(alias))
        .up()
        .build();
    netlink::change(handle, what.clone(), join).await?;
    let port = LinkBridgePort::new(host.index).hairpin(true).build();
    handle.link().set_port(port).execute().await.map_err(Error::netlink(what))
}

/// `lo` and `eth0` up, the address, the gateway on the link, everything else through the gateway.
async fn configure_pod(inside: &Handle, pod: &Link, pair: Pair<'_>) -> Result<()> {
    crate::netns::enter(pair.netns, || {
        // The bridge's side of a redirect would teach the pod a way around its node, and so around Services.
        for link in ["all", "default", POD_LINK] {
            crate::sysctl::ensure(&format!("net/ipv4/conf/{link}/accept_redirects"), "0")?;
        }
        Ok(())
    })
    .await?;
    for index in [1, pod.index] {
        let up = LinkUnspec::new_with_index(index).up().build();
        netlink::change(inside, format!("set up links of pod {}", pair.id), up).await?;
    }
    let address = Ipv4Net::from(pair.address);
    for (net, message) in netlink::addresses(inside, pod.index).await? {
        if net != address {
            netlink::remove_address(inside, net, message).await?;
        }
    }
    netlink::add_address(inside, pod, address).await?;
    let route = || RouteMessageBuilder::<Ipv4Addr>::new().output_interface(pod.index);
    let scope = rtnetlink::packet_route::route::RouteScope::Link;
    add_route(inside, pair, route().destination_prefix(pair.gateway, 32).scope(scope)).await?;
    add_route(inside, pair, route().gateway(pair.gateway)).await
}

async fn add_route(inside: &Handle, pair: Pair<'_>, route: RouteMessageBuilder<Ipv4Addr>) -> Result<()> {
    match inside.route().add(route.build()).execute().await {
        Err(error) if code(&error) == Errno::EEXIST as i32 => Ok(()),
        other => other.map_err(Error::netlink(format!("add routes to pod {}", pair.id))),
    }
}

/// Removes a pod's pair; nothing there is fine.
pub(crate) async fn remove_pair(handle: &Handle, id: &str) -> Result<()> {
    let host = netlink::link(handle, &veth_name(id)).await?;
    remove_half(handle, host.filter(is_ours)).await
}

/// Whether a link is the host side of one of our pairs. A pair that was never finished has no alias yet, but the
/// name that follows from the id, and is looked for by that.
pub(crate) fn is_ours(link: &Link) -> bool {
    match &link.alias {
        Some(alias) => alias.starts_with(ALIAS_PREFIX),
        None => link.name.starts_with(VETH_PREFIX) && link.controller.is_none(),
    }
}

/// Whether a link carries our mark.
pub(crate) fn is_marked(link: &Link) -> bool {
    link.alias.as_ref().is_some_and(|alias| alias.starts_with(ALIAS_PREFIX))
}

/// The host side's name: `veth` and eleven hexadecimal digits of the id's FNV-1a hash, 15 characters in all.
pub(crate) fn veth_name(id: &str) -> String {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{VETH_PREFIX}{:011x}", hash >> 20)
}

fn hardware_address(address: Ipv4Addr) -> Vec<u8> {
    [&[0x0a, 0x58][..], &address.octets()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let one = veth_name("6f2f8f5e-0001-4d7c-9d0c-0a1b2c3d4e5f");
        let other = veth_name("6f2f8f5e-0002-4d7c-9d0c-0a1b2c3d4e5f");
        assert_eq!((one.len(), other.len()), (15, 15));
        assert_ne!(one, other);
        assert_eq!(veth_name(""), "vethcbf29ce4842");
    }
}
