//! The machine's own addresses: which link has one, and that something about them has changed.

use std::net::Ipv4Addr;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use crate::error::{Error, Result};
use crate::netlink;

/// The index of the link that has an address; `None` when none has.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn link_of(address: Ipv4Addr) -> Result<Option<u32>> {
    let handle = netlink::connect()?;
    let all = netlink::all_addresses(&handle).await?;
    Ok(all.into_iter().find(|(_, net)| net.addr() == address).map(|(link, _)| link))
}

/// What the kernel tells of changes of IPv4 addresses and routes, in the network namespace in which this was made.
pub struct Changes(BoxStream<'static, ()>);

impl Changes {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the kernel cannot be asked to tell.
    pub fn listen() -> Result<Self> {
        let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route];
        let (connection, _, messages) =
            new_multicast_connection(&groups).map_err(Error::io("open", "a netlink socket"))?;
        tokio::spawn(connection);
        Ok(Self(messages.map(drop).boxed()))
    }

    /// Waits for a change; `None` when the kernel tells nothing more.
    pub async fn next(&mut self) -> Option<()> {
        self.0.next().await
    }
}
