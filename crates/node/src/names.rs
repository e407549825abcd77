//! The node's DNS: at the cluster's VIP, at the pods' bridge, and at a node-local address, all of this very node.
//!
//! An address that cannot be had (another server has its port 53) is left out and said; the others answer meanwhile.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use svcd_podnet::PodNet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Config;
use crate::health::{Health, Part};
use crate::network::v4;
use crate::services::Directory;

const PORT: u16 = 53;
const RETRY: Duration = Duration::from_secs(5);

/// Serves names until told to stop; an error is the end of the DNS.
pub(crate) async fn run(
    config: &Config,
    network: Arc<PodNet>,
    directory: Directory,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), String> {
    let server = tokio::select! {
        server = bind(config, &network, &health) => server?,
        () = shutdown.cancelled() => return Ok(()),
    };
    directory.set_names(server.handle());
    let serving = server.run(shutdown);
    tokio::pin!(serving);
    tokio::select! {
        // Until everything was seen once, names of the cluster would be answered with a failure.
        () = directory.complete() => {}
        ended = &mut serving => return ended.map_err(|error| error.to_string()),
    }
    health.set(Part::Dns, Ok(()));
    serving.await.map_err(|error| error.to_string())
}

/// Binds as many of the addresses as can be had; tries until it is one at least.
async fn bind(config: &Config, network: &PodNet, health: &Health) -> Result<svcd_dns::Server, String> {
    loop {
        let wanted = addresses(config, network).await;
        match bind_some(config, wanted) {
            Ok(server) => return Ok(server),
            Err(svcd_dns::Error::NoAddress) => {
                health.set(Part::Dns, Err(format!("port {PORT} is busy at every address of the DNS")));
            }
            Err(error) => return Err(error.to_string()),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The addresses to answer at. Those that are not the bridge's are put on `lo`.
async fn addresses(config: &Config, network: &PodNet) -> Vec<IpAddr> {
    let local = [v4(config.cluster.dns_address), config.node_dns_address];
    let mut addresses = Vec::with_capacity(3);
    for address in local.into_iter().flatten() {
        match network.add_local_address(address).await {
            Ok(()) => addresses.push(address.into()),
            Err(error) => warn!(%address, %error, "the DNS cannot answer there"),
        }
    }
    addresses.push(network.gateway().into());
    addresses
}

fn bind_some(config: &Config, mut wanted: Vec<IpAddr>) -> Result<svcd_dns::Server, svcd_dns::Error> {
    loop {
        let listen = wanted.iter().map(|address| SocketAddr::new(*address, PORT)).collect();
        match config.metrics.register(|registry| svcd_dns::Server::bind(settings(config, listen), registry)) {
            Err(svcd_dns::Error::Bind { address, protocol, source }) => {
                warn!(%address, protocol, error = %source, "the DNS cannot answer there; something else has the port?");
                wanted.retain(|wanted| *wanted != address.ip());
            }
            other => return other,
        }
    }
}

fn settings(config: &Config, listen: Vec<SocketAddr>) -> svcd_dns::Config {
    svcd_dns::Config {
        cluster_domain: config.cluster.cluster_domain.clone(),
        listen,
        service_addresses: vec![config.cluster.dns_address],
        networks: vec![config.cluster.service_cidr, config.cluster.pod_cidr],
        ..svcd_dns::Config::default()
    }
}
