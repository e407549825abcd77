//! The lab's network: a bridge on the machine, and for each node a network namespace with an `eth0` on that bridge.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};
use svcd_podnet::netns;

use crate::error::{Error, OnFile};
use crate::plan::{Layout, Node, Plan, free_subnet, overlaps};
use crate::uplink::BRIDGE;

/// Refuses a network that this machine has an address in or a route to.
///
/// # Errors
/// [`Error::SubnetTaken`] with a free one.
pub(crate) async fn check_free(subnet: &Ipv4Net) -> Result<(), Error> {
    let handle = connect()?;
    let used = used_ranges(&handle).await?;
    let Some((range, by)) = used.iter().find(|(range, _)| overlaps(range, subnet)) else { return Ok(()) };
    let ranges: Vec<Ipv4Net> = used.iter().map(|(range, _)| *range).collect();
    Err(Error::SubnetTaken { wanted: *subnet, used: format!("{range} ({by})"), free: free_subnet(&ranges) })
}

/// Every range that this machine has an address in or a route to, the default route excepted.
async fn used_ranges(handle: &Handle) -> Result<Vec<(Ipv4Net, &'static str)>, Error> {
    let mut used = Vec::new();
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await.map_err(|e| failed("list addresses", e))? {
        let local = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(std::net::IpAddr::V4(ip)) => Some(*ip),
            _ => None,
        });
        let range = local.and_then(|ip| Ipv4Net::new(ip, message.header.prefix_len).ok());
        used.extend(range.map(|range| (range.trunc(), "an address")));
    }
    let mut routes = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    while let Some(message) = routes.try_next().await.map_err(|e| failed("list routes", e))? {
        let target = message.attributes.iter().find_map(|a| match a {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(*ip),
            _ => None,
        });
        let range = target.and_then(|ip| Ipv4Net::new(ip, message.header.destination_prefix_length).ok());
        used.extend(range.filter(|r| r.prefix_len() > 0).map(|range| (range, "a route")));
    }
    Ok(used)
}

/// Makes the bridge and all namespaces.
///
/// # Errors
/// Whatever the kernel refused, with what was tried.
pub(crate) async fn create(plan: &Plan, layout: &Layout) -> Result<(), Error> {
    let handle = connect()?;
    let add = handle.link().add(LinkBridge::new(BRIDGE).up().build()).execute().await;
    add.map_err(|e| failed(format!("make the bridge {BRIDGE}"), e))?;
    let bridge = index_of(&handle, BRIDGE).await?;
    let prefix = plan.subnet.prefix_len();
    let address = handle.address().add(bridge, plan.gateway().into(), prefix).execute().await;
    address.map_err(|e| failed(format!("give {BRIDGE} the address {}", plan.gateway()), e))?;
    for (number, node) in plan.nodes.iter().enumerate() {
        let path = layout.netns(&node.name);
        netns::create(&path).await.map_err(|source| Error::Namespace { source })?;
        let file = File::open(&path).on("open network namespace", &path)?;
        let (outside, inside) = (format!("svcd-lab-{number}"), format!("svcd-lab-i{number}"));
        let veth = LinkVeth::new(&outside, &inside).controller(bridge).up().build();
        handle.link().add(veth).execute().await.map_err(|e| failed(format!("link {}", node.name), e))?;
        let peer = index_of(&handle, &inside).await?;
        let moved = LinkUnspec::new_with_index(peer).setns_by_fd(file.as_raw_fd()).build();
        handle.link().change(moved).execute().await.map_err(|e| failed(format!("move {inside}"), e))?;
        configure_inside(file, inside, node, plan)?;
    }
    Ok(())
}

/// Removes what [`create`] made, whatever of it is there.
///
/// # Errors
/// When something that is there cannot be removed.
pub(crate) async fn remove(layout: &Layout) -> Result<(), Error> {
    let handle = connect()?;
    netns::delete_all(&layout.root().join("netns")).map_err(|source| Error::Namespace { source })?;
    // The veths of namespaces that a process still holds would stay: remove the near ends by name.
    let mut links = handle.link().get().execute();
    let mut ours = Vec::new();
    while let Some(link) = links.try_next().await.map_err(|e| failed("list links", e))? {
        if name_of(&link).is_some_and(|name| name.starts_with("svcd-lab")) {
            ours.push(link.header.index);
        }
    }
    for index in ours {
        // A veth goes with its peer, so it may be gone by now.
        let _ = handle.link().del(index).execute().await;
    }
    Ok(())
}

/// Addresses and the default route of a node, set from within its namespace.
fn configure_inside(namespace: File, link: String, node: &Node, plan: &Plan) -> Result<(), Error> {
    let (address, prefix, gateway) = (node.address, plan.subnet.prefix_len(), plan.gateway());
    let name = node.name.clone();
    on_own_thread(move || {
        let what = format!("set up the network of {name}");
        let kernel = |source: std::io::Error| Error::Kernel { what: what.clone(), source };
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|e| kernel(e.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(kernel)?;
        runtime.block_on(async {
            let handle = connect()?;
            let step = |e| failed(what.clone(), e);
            let lo = index_of(&handle, "lo").await?;
            handle
                .link()
                .change(LinkUnspec::new_with_index(lo).up().build())
                .execute()
                .await
                .map_err(step)?;
            let index = index_of(&handle, &link).await?;
            let up = LinkUnspec::new_with_index(index).name("eth0").up().build();
            handle.link().change(up).execute().await.map_err(step)?;
            handle.address().add(index, address.into(), prefix).execute().await.map_err(step)?;
            let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
            handle.route().add(route).execute().await.map_err(step)
        })
    })
}

/// Runs something that changes the calling thread's namespace on a thread that ends with it.
fn on_own_thread<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    std::thread::spawn(body).join().expect("the body returns its errors")
}

fn connect() -> Result<Handle, Error> {
    let (connection, handle, _) = rtnetlink::new_connection()
        .map_err(|source| Error::Kernel { what: "open a netlink socket".into(), source })?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32, Error> {
    let found = handle.link().get().match_name(name.to_owned()).execute().try_next().await;
    let link = found.map_err(|e| failed(format!("find {name}"), e))?;
    Ok(link.expect("a link asked for by name is there or an error").header.index)
}

fn name_of(link: &rtnetlink::packet_route::link::LinkMessage) -> Option<&str> {
    use rtnetlink::packet_route::link::LinkAttribute;
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn failed(what: impl Into<String>, error: rtnetlink::Error) -> Error {
    let source = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => std::io::Error::other(other.to_string()),
    };
    Error::Kernel { what: what.into(), source }
}
