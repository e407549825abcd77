//! Removing all of ours from a node, and only ours, whether or not an agent runs or ever finished starting.

use std::fs;
use std::io::ErrorKind;

use rtnetlink::Handle;

use crate::error::{Error, Result};
use crate::netlink::Link;
use crate::network::blocking;
use crate::route::Routes;
use crate::{Config, firewall, link, local, netlink, netns, route};

/// Removes bridge, pairs, routes, chains, local addresses, namespaces and what was remembered. Every step is tried;
/// the first error is returned.
///
/// # Errors
/// When something of ours could not be removed.
pub async fn cleanup(config: &Config) -> Result<()> {
    let handle = netlink::connect()?;
    let steps = [
        remove_links(&handle, &config.bridge).await,
        route::sync(&handle, &Routes::new()).await,
        local::remove_all(&handle, &config.local_dir()).await,
        blocking(firewall::remove).await,
        netns::delete_all(&config.netns_dir()),
    ];
    steps.into_iter().collect::<Result<()>>()?;
    for dir in [config.addresses_dir(), config.local_dir(), config.netns_dir()] {
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("remove", dir)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Pairs by their mark, wherever they hang; the bridge by its name, if it is one.
async fn remove_links(handle: &Handle, bridge: &str) -> Result<()> {
    for found in netlink::links(handle).await? {
        if is_ours(&found, bridge) {
            netlink::remove_link(handle, &found).await?;
        }
    }
    Ok(())
}

pub(crate) fn is_ours(found: &Link, bridge: &str) -> bool {
    link::is_marked(found) || (found.name == bridge && found.is_bridge)
}
