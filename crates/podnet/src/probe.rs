//! Questions about a machine before there is a pod network on it.

use ipnet::Ipv4Net;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol,
};
use rtnetlink::{LinkBridge, LinkVeth};

use crate::error::Error;
use crate::netlink;
use crate::route::{self, PROTOCOL};

/// The IPv4 routes of the main table: where to, through which link, and whether they are ours.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn routes() -> Result<Vec<(Ipv4Net, String, bool)>, Error> {
    let handle = netlink::connect()?;
    let links = netlink::links(&handle).await?;
    let name = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let messages = route::messages(&handle).await?;
    Ok(messages.iter().filter_map(|message| read(message, &name)).collect())
}

fn read(message: &RouteMessage, name: &impl Fn(u32) -> Option<String>) -> Option<(Ipv4Net, String, bool)> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    });
    let link = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => name(*index),
        _ => None,
    });
    // A default route has no destination.
    let address = destination.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
    let range = Ipv4Net::new(address, header.destination_prefix_length).ok()?;
    Some((range, link.unwrap_or_default(), header.protocol == RouteProtocol::Other(PROTOCOL)))
}

/// Makes a bridge in the network namespace of the calling thread, to see whether the kernel can. Blocks.
///
/// # Errors
/// What the kernel says.
pub fn try_bridge() -> Result<(), String> {
    add(LinkBridge::new("svcd-try").build())
}

/// Makes a veth pair in the network namespace of the calling thread, to see whether the kernel can. Blocks.
///
/// # Errors
/// What the kernel says.
pub fn try_pair() -> Result<(), String> {
    add(LinkVeth::new("svcd-one", "svcd-two").build())
}

fn add(link: LinkMessage) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let handle = netlink::connect().map_err(|error| error.to_string())?;
        handle
            .link()
            .add(link)
            .execute()
            .await
            .map_err(|error| Error::netlink("add a link")(error).to_string())
    })
}
