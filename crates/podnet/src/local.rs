//! Addresses that the node itself answers at, on `lo`: the cluster DNS's VIP. Each is remembered in a file, so that
//! clean-up removes those we added and leaves those that somebody else put there.

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use rtnetlink::Handle;

use crate::error::{Error, Result};
use crate::netlink::{self, Link};

/// Puts `address` on `lo`. Remembered first: a crash in between leaves a note of nothing, not an address of nobody.
pub(crate) async fn add(handle: &Handle, notes: &Path, address: Ipv4Addr) -> Result<()> {
    let lo = loopback(handle).await?;
    let net = Ipv4Net::from(address);
    if netlink::addresses(handle, lo.index).await?.iter().any(|(existing, _)| *existing == net) {
        return Ok(());
    }
    fs::create_dir_all(notes).map_err(Error::io("create", notes))?;
    let note = notes.join(address.to_string());
    fs::write(&note, "").map_err(Error::io("write", &note))?;
    netlink::add_address(handle, &lo, net).await.map(drop)
}

/// Takes `address` off `lo` again, if we put it there.
pub(crate) async fn remove(handle: &Handle, notes: &Path, address: Ipv4Addr) -> Result<()> {
    let note = notes.join(address.to_string());
    if !note.exists() {
        return Ok(());
    }
    let lo = loopback(handle).await?;
    let net = Ipv4Net::from(address);
    for (existing, message) in netlink::addresses(handle, lo.index).await? {
        if existing == net {
            netlink::remove_address(handle, net, message).await?;
        }
    }
    fs::remove_file(&note).map_err(Error::io("remove", note))
}

/// What we put there, as far as it is still there.
pub(crate) async fn leftovers(handle: &Handle, notes: &Path) -> Result<Vec<Ipv4Addr>> {
    let Some(lo) = netlink::link(handle, "lo").await? else { return Ok(Vec::new()) };
    let there = netlink::addresses(handle, lo.index).await?;
    Ok(noted(notes)?.into_iter().filter(|ours| there.iter().any(|(net, _)| net.addr() == *ours)).collect())
}

/// Takes off all that we put there.
pub(crate) async fn remove_all(handle: &Handle, notes: &Path) -> Result<()> {
    for address in noted(notes)? {
        remove(handle, notes, address).await?;
    }
    Ok(())
}

/// What is remembered.
fn noted(notes: &Path) -> Result<Vec<Ipv4Addr>> {
    let entries = match fs::read_dir(notes) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("list", notes))?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

async fn loopback(handle: &Handle) -> Result<Link> {
    let lo = netlink::link(handle, "lo").await?;
    let lo = lo.ok_or_else(|| Error::netlink("find link lo")(rtnetlink::Error::RequestFailed))?;
    if !lo.up {
        let up = rtnetlink::LinkUnspec::new_with_index(lo.index).up().build();
        netlink::change(handle, "set up lo".to_owned(), up).await?;
    }
    Ok(lo)
}
