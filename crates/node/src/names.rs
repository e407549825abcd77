//! The node's DNS: at the cluster's VIP, at the pods' bridge, and at a node-local address, all of this very node.
//!
//! An address that cannot be had (another server has its port 53) is left out and said, and taken once it is free; the others
//! answer meanwhile. Without the VIP or the bridge, where pods ask, the node is not ready.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use svcd_dns::{Error, Server};
use svcd_podnet::PodNet;
use svcd_runtime::Metrics;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Config;
use crate::health::{Health, Part};
use crate::network::v4;
use crate::services::Directory;

const PORT: u16 = 53;
const RETRY: Duration = Duration::from_secs(2);
/// A socket that was just closed may live for a moment more, in a child between its fork and its exec.
const REBINDS: u32 = 10;
const REBIND_PAUSE: Duration = Duration::from_millis(20);

/// What serving names needs.
pub(crate) struct Names {
    pub(crate) config: Arc<Config>,
    pub(crate) network: Arc<PodNet>,
    pub(crate) directory: Directory,
    pub(crate) health: Health,
}

/// A server, and the addresses it could not have.
struct Bound {
    server: Server,
    missing: Vec<IpAddr>,
}

impl Names {
    /// Serves names until told to stop; an error is the end of the DNS.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), String> {
        let mut metrics = self.config.metrics.clone();
        while !stop.is_cancelled() {
            let bound = tokio::select! {
                bound = self.bind(&metrics) => bound?,
                () = stop.cancelled() => return Ok(()),
            };
            self.serve(bound, &stop).await?;
            // Registered once: a server that takes over is not counted twice.
            metrics = Metrics::default();
        }
        Ok(())
    }

    /// Until told to stop, or until a missing address is free.
    async fn serve(&self, bound: Bound, stop: &CancellationToken) -> Result<(), String> {
        let Bound { server, missing } = bound;
        self.directory.set_names(server.handle());
        let this_one = stop.child_token();
        let serving = server.run(this_one.clone());
        tokio::pin!(serving);
        let until_better = async {
            // Until everything was seen once, names of the cluster would be answered with a failure.
            self.directory.complete().await;
            self.health.set(Part::Dns, self.verdict(&missing));
            first_free(&missing).await
        };
        tokio::select! {
            address = until_better => info!(%address, "the DNS can answer there now"),
            ended = &mut serving => return ended.map_err(|error| error.to_string()),
        }
        this_one.cancel();
        serving.await.map_err(|error| error.to_string())
    }

    /// Pods ask at the VIP, and by way of the bridge; the node-local address is an extra.
    fn verdict(&self, missing: &[IpAddr]) -> Result<(), String> {
        let needed = [self.config.cluster.dns_address, self.network.gateway().into()];
        match missing.iter().find(|address| needed.contains(address)) {
            Some(address) => {
                Err(format!("port {PORT} of {address} is taken by another DNS server; stop that one"))
            }
            None => Ok(()),
        }
    }

    /// Binds as many of the addresses as can be had; tries until it is one at least.
    async fn bind(&self, metrics: &Metrics) -> Result<Bound, String> {
        loop {
            let wanted = self.addresses().await;
            match bind_some(&self.config, metrics, wanted).await {
                Ok(bound) => return Ok(bound),
                Err(Error::NoAddress) => {
                    let busy = format!("port {PORT} is taken at every address of the DNS; stop what has it");
                    self.health.set(Part::Dns, Err(busy));
                }
                Err(error) => return Err(error.to_string()),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The addresses to answer at. Those that are not the bridge's are put on `lo`.
    async fn addresses(&self) -> Vec<IpAddr> {
        let local = [v4(self.config.cluster.dns_address), self.config.node_dns_address];
        let mut addresses = Vec::with_capacity(3);
        for address in local.into_iter().flatten() {
            if let Err(error) = self.network.add_local_address(address).await {
                warn!(%address, %error, "cannot have this address for the DNS");
            }
            addresses.push(address.into());
        }
        addresses.push(self.network.gateway().into());
        addresses
    }
}

async fn bind_some(config: &Config, metrics: &Metrics, mut wanted: Vec<IpAddr>) -> Result<Bound, Error> {
    let mut tries: BTreeMap<IpAddr, u32> = BTreeMap::new();
    let mut missing = Vec::new();
    loop {
        let listen = wanted.iter().map(|address| SocketAddr::new(*address, PORT)).collect();
        let (address, protocol, source) =
            match metrics.register(|registry| Server::bind(settings(config, listen), registry)) {
                Err(Error::Bind { address, protocol, source }) => (address.ip(), protocol, source),
                bound => return bound.map(|server| Bound { server, missing }),
            };
        let tried = tries.entry(address).or_insert(0);
        *tried += 1;
        if source.kind() == ErrorKind::AddrInUse && *tried < REBINDS {
            tokio::time::sleep(REBIND_PAUSE).await;
            continue;
        }
        warn!(%address, protocol, error = %source, "the DNS cannot answer there; it answers once that port is free");
        wanted.retain(|wanted| *wanted != address);
        missing.push(address);
    }
}

/// Waits until one of these can be bound; for ever when there is none.
async fn first_free(missing: &[IpAddr]) -> IpAddr {
    loop {
        tokio::time::sleep(RETRY).await;
        // TCP as well: which of the two was taken is not known here.
        let free = missing.iter().find(|address| {
            UdpSocket::bind((**address, PORT)).is_ok()
                && std::net::TcpListener::bind((**address, PORT)).is_ok()
        });
        if let Some(address) = free {
            return *address;
        }
    }
}

/// What the server is told.
fn settings(config: &Config, listen: Vec<SocketAddr>) -> svcd_dns::Config {
    svcd_dns::Config {
        cluster_domain: config.cluster.cluster_domain.clone(),
        listen,
        service_addresses: vec![config.cluster.dns_address],
        networks: [config.cluster.service_cidr.all(), config.cluster.pod_cidr.all()].concat(),
        ..svcd_dns::Config::default()
    }
}
