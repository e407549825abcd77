//! The pod network of this node: started once the Node has its range, then routes to the other nodes' pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use svcd_podnet::{NodeRoute, PodNet};
use tokio::sync::watch;
use tracing::{error, warn};

use crate::Config;
use crate::config::BRIDGE;
use crate::health::{Health, Part};
use crate::own_node::OwnNode;

const RETRY: Duration = Duration::from_secs(2);

/// Keeps the pod network up.
pub(crate) struct Network {
    pub(crate) config: Arc<Config>,
    pub(crate) address: IpAddr,
    pub(crate) own: watch::Receiver<OwnNode>,
    pub(crate) routes: watch::Receiver<BTreeMap<String, NodeRoute>>,
    pub(crate) health: Health,
    /// Gets the network once it is up.
    pub(crate) up: watch::Sender<Option<Arc<PodNet>>>,
}

impl Network {
    /// Runs until it is dropped, which leaves the network as it is.
    pub(crate) async fn run(mut self) {
        let Some(range) = self.range().await else { return };
        let network = Arc::new(self.start(range).await);
        self.health.set(Part::PodNetwork, Ok(()));
        self.up.send_replace(Some(Arc::clone(&network)));
        tokio::join!(
            keep_routes(&network, self.routes.clone()),
            watch_range(range, self.own.clone(), &self.health)
        );
    }

    /// Waits for the range that the controllers give this node.
    async fn range(&mut self) -> Option<Ipv4Net> {
        loop {
            let own = self.own.borrow_and_update().clone();
            let problem = match own.pod_range() {
                // Nothing is wrong before the server has been asked.
                None if matches!(own, OwnNode::Unknown) => None,
                None => Some("waiting for a pod range (spec.podCIDR) from the control plane".to_owned()),
                Some(text) => match text.parse() {
                    Ok(range) => return Some(range),
                    Err(_) => Some(format!("its range {text:?} is not IPv4")),
                },
            };
            if let Some(problem) = problem {
                self.health.set(Part::PodNetwork, Err(problem));
            }
            self.own.changed().await.ok()?;
        }
    }

    async fn start(&self, range: Ipv4Net) -> PodNet {
        loop {
            match PodNet::start(network_config(&self.config, self.address, range)).await {
                Ok(network) => return network,
                Err(error) => self.health.set(Part::PodNetwork, Err(error.to_string())),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// What the pod network is told; `range` does not matter to a clean-up.
pub(crate) fn network_config(config: &Config, address: IpAddr, range: Ipv4Net) -> svcd_podnet::Config {
    let IpNet::V4(cluster_range) = config.cluster.pod_cidr.first() else {
        // Without an IPv4 range there is no IPv4 pod elsewhere: only our own are inside.
        return podnet(config, address, range, range);
    };
    podnet(config, address, range, cluster_range)
}

fn podnet(
    config: &Config,
    address: IpAddr,
    node_range: Ipv4Net,
    cluster_range: Ipv4Net,
) -> svcd_podnet::Config {
    svcd_podnet::Config {
        bridge: BRIDGE.to_owned(),
        node_range,
        cluster_range,
        node_address: v4(address),
        mtu: None,
        state_dir: config.network_dir(),
    }
}

pub(crate) fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// A node that cannot be reached does not make this one unready: it is said, and tried again.
async fn keep_routes(network: &PodNet, mut routes: watch::Receiver<BTreeMap<String, NodeRoute>>) {
    loop {
        let wanted: Vec<NodeRoute> = routes.borrow_and_update().values().copied().collect();
        let done = network.sync_routes(&wanted).await;
        if let Err(error) = &done {
            warn!(%error, "cannot set all routes; trying again");
        }
        let changed = async { routes.changed().await.is_ok() };
        tokio::select! {
            alive = changed => if !alive { return },
            () = tokio::time::sleep(RETRY), if done.is_err() => {}
        }
    }
}

/// Pods keep their addresses while they live, so a new range needs a new start.
async fn watch_range(range: Ipv4Net, mut own: watch::Receiver<OwnNode>, health: &Health) {
    while own.changed().await.is_ok() {
        let now: Option<Ipv4Net> = own.borrow().pod_range().and_then(|text| text.parse().ok());
        match now {
            Some(now) if now != range => {
                error!(%range, new = %now, "the pod range of this node was changed");
                let problem = format!("the pod range changed from {range} to {now}; restart the agent");
                health.set(Part::PodNetwork, Err(problem));
            }
            Some(_) => health.set(Part::PodNetwork, Ok(())),
            None => {}
        }
    }
}
