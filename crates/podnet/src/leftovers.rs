//! What of ours is on a node, looked for in the kernel and not only in our notes: what [`cleanup`](crate::cleanup()) would
//! remove.

use std::fs;
use std::path::Path;

use crate::cleanup::is_ours;
use crate::error::{Error, Result};
use crate::{Config, firewall, local, netlink, route};

/// Everything of ours that is there, in words.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn leftovers(config: &Config) -> Result<Vec<String>> {
    let handle = netlink::connect()?;
    let links = netlink::links(&handle).await?;
    let links = links.iter().filter(|link| is_ours(link, &config.bridge));
    let mut left: Vec<String> = links.map(|link| format!("link {}", link.name)).collect();
    let routes = route::actual(&handle).await?;
    left.extend(routes.iter().map(|(range, via)| format!("route {range} via {via}")));
    let addresses = local::leftovers(&handle, &config.local_dir()).await?;
    left.extend(addresses.iter().map(|address| format!("address {address} on lo")));
    left.extend(mounts(&config.netns_dir())?.into_iter().map(|at| format!("mount {at}")));
    let chains = tokio::task::spawn_blocking(firewall::leftovers).await;
    left.extend(chains.map_err(|_| Error::Thread("of this node".into()))??);
    Ok(left)
}

/// What is mounted at or below a directory.
fn mounts(dir: &Path) -> Result<Vec<String>> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let text = fs::read_to_string(MOUNTS).map_err(Error::io("read", MOUNTS))?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.filter(|point| Path::new(point).starts_with(&dir)).map(str::to_owned).collect())
}
