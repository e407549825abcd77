//! The few questions and orders that the rest of the crate puts to rtnetlink, in our own words. rtnetlink renames its
//! API from one minor version to the next; only this file, `link.rs` and `route.rs` notice.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    BridgePortState, InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    State,
};

use crate::error::{Error, Result, code};
use crate::netns;

/// What we look at in a link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) controller: Option<u32>,
    pub(crate) alias: Option<String>,
    pub(crate) is_bridge: bool,
    /// Packets can be sent: the kernel gets there a little after a link is set up.
    pub(crate) operational: bool,
    /// It is a bridge's port that passes packets on.
    pub(crate) forwarding: bool,
}

/// A connection to the kernel of the calling thread's namespace.
pub(crate) fn connect() -> Result<Handle> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(Error::io("open", "a netlink socket"))?;
    tokio::spawn(connection);
    Ok(handle)
}

/// A connection to the kernel inside another namespace: the socket is made on a thread that went there, and driven by
/// this runtime.
pub(crate) async fn connect_in(path: &Path) -> Result<Handle> {
    let runtime = tokio::runtime::Handle::current();
    netns::enter(path, move || {
        let _inside = runtime.enter();
        connect()
    })
    .await
}

pub(crate) async fn link(handle: &Handle, name: &str) -> Result<Option<Link>> {
    let found = handle.link().get().match_name(name).execute().try_next().await;
    match found {
        Ok(message) => Ok(message.map(Link::from)),
        Err(error) if code(&error) == Errno::ENODEV as i32 => Ok(None),
        Err(error) => Err(Error::netlink(format!("look up link {name}"))(error)),
    }
}

pub(crate) async fn links(handle: &Handle) -> Result<Vec<Link>> {
    let all = handle.link().get().execute().map_ok(Link::from).try_collect();
    all.await.map_err(Error::netlink("list links"))
}

pub(crate) async fn change(handle: &Handle, what: String, message: LinkMessage) -> Result<()> {
    handle.link().change(message).execute().await.map_err(Error::netlink(what))
}

pub(crate) async fn remove_link(handle: &Handle, link: &Link) -> Result<()> {
    match handle.link().del(link.index).execute().await {
        // It went by itself, with its namespace.
        Err(error) if code(&error) == Errno::ENODEV as i32 => Ok(()),
        other => other.map_err(Error::netlink(format!("remove link {}", link.name))),
    }
}

/// The IPv4 addresses of a link, with the messages that delete them.
pub(crate) async fn addresses(handle: &Handle, index: u32) -> Result<Vec<(Ipv4Net, AddressMessage)>> {
    let all = handle.address().get().set_link_index_filter(index).execute();
    let messages: Vec<_> =
        all.try_collect().await.map_err(Error::netlink(format!("list addresses of link {index}")))?;
    Ok(messages.into_iter().filter_map(|message| Some((net_of(&message)?, message))).collect())
}

/// Every IPv4 address of the machine with its link's index.
pub(crate) async fn all_addresses(handle: &Handle) -> Result<Vec<(u32, Ipv4Net)>> {
    let messages: Vec<_> =
        handle.address().get().execute().try_collect().await.map_err(Error::netlink("list addresses"))?;
    Ok(messages.iter().filter_map(|message| Some((message.header.index, net_of(message)?))).collect())
}

/// Adds an address unless it is there. Says whether it added it.
pub(crate) async fn add_address(handle: &Handle, link: &Link, net: Ipv4Net) -> Result<bool> {
    let request = handle.address().add(link.index, IpAddr::V4(net.addr()), net.prefix_len());
    match request.execute().await {
        Ok(()) => Ok(true),
        Err(error) if code(&error) == Errno::EEXIST as i32 => Ok(false),
        Err(error) => Err(Error::netlink(format!("add address {net} to {}", link.name))(error)),
    }
}

pub(crate) async fn remove_address(handle: &Handle, net: Ipv4Net, message: AddressMessage) -> Result<()> {
    match handle.address().del(message).execute().await {
        Err(error) if code(&error) == Errno::EADDRNOTAVAIL as i32 => Ok(()),
        other => other.map_err(Error::netlink(format!("remove address {net}"))),
    }
}

fn net_of(message: &AddressMessage) -> Option<Ipv4Net> {
    if message.header.family != AddressFamily::Inet {
        return None;
    }
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| message.attributes.iter().find_map(peer))?;
    Ipv4Net::new(address, message.header.prefix_len).ok()
}

fn peer(attribute: &AddressAttribute) -> Option<Ipv4Addr> {
    match attribute {
        AddressAttribute::Address(IpAddr::V4(address)) => Some(*address),
        _ => None,
    }
}

fn forwards(info: &LinkInfo) -> bool {
    let LinkInfo::PortData(InfoPortData::BridgePort(port)) = info else { return false };
    port.contains(&InfoBridgePort::State(BridgePortState::Forwarding))
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::OperState(state) => link.operational = state == State::Up,
                LinkAttribute::LinkInfo(infos) => {
                    link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
                    link.forwarding = infos.iter().any(forwards);
                }
                _ => {}
            }
        }
        link
    }
}
