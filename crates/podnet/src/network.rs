//! [`PodNet`]: the pod network of this node, while the agent runs.
//!
//! Dropping it leaves everything in the kernel as it is, on purpose: pods and their traffic outlive the agent.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use rtnetlink::Handle;

use crate::address::{Pool, bridge_address};
use crate::error::{Error, Result};
use crate::link::{self, Pair};
use crate::route::Routes;
use crate::{Config, NodeRoute, PodAddress, firewall, local, netlink, netns, route, sysctl};

/// Without an uplink to learn from.
const DEFAULT_MTU: u32 = 1500;

/// The pod network of this node.
#[derive(Debug)]
pub struct PodNet {
    config: Config,
    handle: Handle,
    pool: Mutex<Pool>,
    mtu: u32,
    bridge: u32,
}

impl PodNet {
    /// Makes the bridge, the chains and the kernel parameters be as they must, and finds the pods of an earlier run.
    ///
    /// # Errors
    /// Without root's rights, without iptables, or when something else has our names.
    pub async fn start(config: Config) -> Result<Self> {
        let pool = Pool::open(&config.addresses_dir(), config.node_range)?;
        let handle = netlink::connect()?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => uplink_mtu(&handle, config.node_address).await?,
        };
        sysctl::ensure("net/ipv4/ip_forward", "1")?;
        let address = Ipv4Net::new(bridge_address(config.node_range), config.node_range.prefix_len())
            .map_err(|_| Error::RangeTooSmall(config.node_range))?;
        let bridge = link::ensure_bridge(&handle, &config.bridge, address, mtu).await?;
        // Pods reach each other through the bridge's address; telling them a shorter way would bypass Services.
        sysctl::ensure(&format!("net/ipv4/conf/{}/send_redirects", config.bridge), "0")?;
        let (node, cluster) = (config.node_range, config.cluster_range);
        blocking(move || firewall::ensure(node, cluster)).await?;
        tracing::info!(bridge = config.bridge, range = %node, mtu, "pod network is up");
        Ok(Self { handle, pool: Mutex::new(pool), mtu, bridge: bridge.index, config })
    }

    /// The bridge's address: the pods' gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        bridge_address(self.config.node_range)
    }

    /// The MTU of bridge and pods.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Where the namespace of a pod is, whether or not it is there yet.
    pub fn netns_path(&self, id: &str) -> PathBuf {
        self.config.netns_dir().join(id)
    }

    /// Makes the namespace of a pod; one that is there is kept.
    ///
    /// # Errors
    /// Without the right to make namespaces or mounts.
    pub async fn create_netns(&self, id: &str) -> Result<PathBuf> {
        let path = self.netns_path(id);
        netns::create(&path).await?;
        Ok(path)
    }

    /// Lets go of the namespace of a pod.
    ///
    /// # Errors
    /// When the mount cannot be removed.
    pub fn delete_netns(&self, id: &str) -> Result<()> {
        netns::delete(&self.netns_path(id))
    }

    /// Connects the namespace at `netns` to the bridge, with an address that `id` keeps until [`detach`](Self::detach).
    /// Called again it repairs what differs.
    ///
    /// # Errors
    /// When no address is free, or the kernel refuses.
    pub async fn attach(&self, netns: &Path, id: &str) -> Result<PodAddress> {
        let address = self.pool().claim(id)?;
        let gateway = self.gateway();
        let pair = Pair { id, netns, address, gateway, mtu: self.mtu, bridge: self.bridge };
        match link::ensure_pair(&self.handle, pair).await {
            Ok(()) => Ok(PodAddress { address, gateway }),
            Err(error) => {
                // Kept: the caller tries again or detaches, and either way the address is still this pod's.
                tracing::warn!(id, %address, %error, "cannot attach a pod");
                Err(error)
            }
        }
    }

    /// Removes a pod's link and frees its address. Nothing there is fine.
    ///
    /// # Errors
    /// When the kernel or the file system refuses; the address then stays taken.
    pub async fn detach(&self, id: &str) -> Result<()> {
        link::remove_pair(&self.handle, id).await?;
        self.pool().release(id)
    }

    /// Everyone who has an address.
    pub fn attached(&self) -> Vec<String> {
        self.pool().ids()
    }

    /// Makes the routes to other nodes' ranges be exactly these, and touches no route that is not ours.
    ///
    /// # Errors
    /// Names the routes that the kernel refused; all others are set.
    pub async fn sync_routes(&self, wanted: &[NodeRoute]) -> Result<()> {
        let own = self.config.node_range.trunc();
        let wanted: Routes = wanted
            .iter()
            .filter(|route| !own.contains(&route.range) && Some(route.via) != self.config.node_address)
            .map(|route| (route.range.trunc(), route.via))
            .collect();
        route::sync(&self.handle, &wanted).await
    }

    /// Lets this node answer at `address`, on `lo`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn add_local_address(&self, address: Ipv4Addr) -> Result<()> {
        local::add(&self.handle, &self.config.local_dir(), address).await
    }

    /// The opposite of [`add_local_address`](Self::add_local_address).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_local_address(&self, address: Ipv4Addr) -> Result<()> {
        local::remove(&self.handle, &self.config.local_dir(), address).await
    }

    /// A panic elsewhere cannot leave the pool between two states that matter: files are written first.
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Config {
    pub(crate) fn addresses_dir(&self) -> PathBuf {
        self.state_dir.join("addresses")
    }

    pub(crate) fn local_dir(&self) -> PathBuf {
        self.state_dir.join("local-addresses")
    }

    pub(crate) fn netns_dir(&self) -> PathBuf {
        self.state_dir.join("netns")
    }
}

/// The MTU of the interface that has the node's address, or of the first that is up and not a loopback.
async fn uplink_mtu(handle: &Handle, node_address: Option<Ipv4Addr>) -> Result<u32> {
    let addresses = netlink::all_addresses(handle).await?;
    let index = addresses.iter().find(|(_, net)| Some(net.addr()) == node_address).map(|(index, _)| *index);
    let links = netlink::links(handle).await?;
    let uplink = links.iter().find(|link| Some(link.index) == index && link.name != "lo");
    // The loopback's 65536 is no MTU for a bridge.
    Ok(uplink.map_or(DEFAULT_MTU, |link| link.mtu.min(65_535)))
}

pub(crate) async fn blocking(body: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    match tokio::task::spawn_blocking(body).await {
        Ok(result) => result,
        Err(_) => Err(Error::Thread(PathBuf::from("of this node"))),
    }
}
