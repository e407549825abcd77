//! Pods of this node, from the watch to the pod manager.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use svcd_client::Objects;
use svcd_dns::ResolvConf;
use svcd_podnet::PodNet;
use svcd_pods::process::{self, ProcessRuntime};
use svcd_pods::{PodManager, PodRef};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::events::Events;
use crate::lookup::ClusterLookup;
use crate::network::v4;
use crate::pod_status::StatusWriter;
use crate::services::Directory;
use crate::watch::{Change, changes};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved keeps the real servers.
const SYSTEMD_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// Runs this node's pods until told to stop, which leaves them running.
pub(crate) async fn run(
    config: &Config,
    client: Client,
    address: IpAddr,
    network: Arc<PodNet>,
    directory: Directory,
    stop: CancellationToken,
) -> Result<(), String> {
    let fields = format!("spec.nodeName={}", config.node_name);
    let mut pods = changes(&Objects::<Pod>::all(client.clone()), Some(&fields));
    tokio::select! {
        // Containers find the Services in their environment, so these must be known.
        () = directory.complete() => {}
        () = stop.cancelled() => return Ok(()),
    }
    let sink = StatusWriter::new(client.clone(), Events::new(client.clone(), config.node_name.clone()));
    let lookup = ClusterLookup::new(client, directory);
    let address = v4(address).ok_or("pods need a node address of IPv4")?;
    let runtime = process::Config {
        state_dir: config.pods_dir(),
        self_exe: config.self_exe.clone(),
        node_address: address,
    };
    let runtime = ProcessRuntime::new(runtime, network).map_err(|error| error.to_string())?;
    let manager = PodManager::new(
        manager_config(config, address)?,
        Arc::new(runtime),
        Arc::new(lookup),
        Arc::new(sink),
        stop.clone(),
    );
    loop {
        let change = tokio::select! {
            change = pods.next() => change,
            () = stop.cancelled() => None,
        };
        match change {
            Some(Change::Reset(all)) => manager.reset(all),
            Some(Change::Apply(pod)) => manager.apply(pod),
            Some(Change::Delete(pod)) => manager.delete(&PodRef::of(&pod)),
            None => return Ok(()),
        }
    }
}

fn manager_config(config: &Config, address: Ipv4Addr) -> Result<svcd_pods::Config, String> {
    let dns_address = v4(config.cluster.dns_address).ok_or("the cluster's DNS needs an address of IPv4")?;
    Ok(svcd_pods::Config {
        node_name: config.node_name.clone(),
        node_address: address,
        cluster_domain: config.cluster.cluster_domain.clone(),
        dns_address,
        resolv_conf: host_resolv_conf(Path::new(RESOLV_CONF), Path::new(SYSTEMD_RESOLV_CONF)),
    })
}

/// The file that names real servers: a stub on this machine's loopback is of no use inside a pod.
fn host_resolv_conf(usual: &Path, behind_stub: &Path) -> PathBuf {
    let conf = std::fs::read_to_string(usual).map(|text| ResolvConf::parse(&text)).unwrap_or_default();
    let only_stubs = !conf.name_servers.is_empty() && conf.name_servers.iter().all(IpAddr::is_loopback);
    if only_stubs && behind_stub.exists() { behind_stub.to_owned() } else { usual.to_owned() }
}

/// Ends all pods of an agent that is gone, and forgets them.
pub(crate) async fn cleanup(state_dir: &Path) -> Result<(), String> {
    let state_dir = state_dir.to_owned();
    let forgotten = tokio::task::spawn_blocking(move || process::forget(&state_dir)).await;
    forgotten.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// The containers that run, of an agent that is gone.
pub(crate) async fn leftovers(state_dir: &Path) -> Result<Vec<String>, String> {
    let state_dir = state_dir.to_owned();
    let left = tokio::task::spawn_blocking(move || process::leftovers(&state_dir)).await;
    left.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_is_looked_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (usual, real) = (dir.path().join("usual"), dir.path().join("real"));
        std::fs::write(&usual, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(host_resolv_conf(&usual, &real), usual);
        std::fs::write(&real, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(host_resolv_conf(&usual, &real), real);
        std::fs::write(&usual, "nameserver 192.0.2.2\nnameserver 127.0.0.1\n").unwrap();
        assert_eq!(host_resolv_conf(&usual, &real), usual);
    }
}
