//! Taking everything of ours off this machine: pods, rules, links, routes, addresses, kernel parameters.
//!
//! Needs no server and no running agent, and may be repeated. Every step is tried; what could not be removed is told.

use std::path::Path;

use ipnet::Ipv4Net;

use crate::config::BRIDGE;
use crate::ledger::Ledger;
use crate::{AGENT_DIR, Error, lock, pods};

/// Removes all that an agent with this data directory has left. Refused while one runs.
pub async fn cleanup(data_dir: &Path) -> Result<(), Error> {
    let agent_dir = data_dir.join(AGENT_DIR);
    let _lock = if agent_dir.exists() { Some(lock::hold(&agent_dir)?) } else { None };
    let network = network(&agent_dir);
    let mut failures = Vec::new();
    // Pods first: they live in what the others take away.
    failures.extend(pods::cleanup(&agent_dir.join("pods")).await.err());
    match tokio::task::spawn_blocking(svcd_proxy::cleanup).await {
        Ok(removed) => failures.extend(removed.err().map(|error| error.to_string())),
        Err(broken) => failures.push(broken.to_string()),
    }
    failures.extend(svcd_podnet::cleanup(&network).await.err().map(|error| error.to_string()));
    // Last, so that nothing is left that needs them.
    failures.extend(Ledger::of(&agent_dir).undo());
    if failures.is_empty() { Ok(()) } else { Err(Error::Cleanup(failures)) }
}

/// The pod network of an agent that does not run: it has no ranges.
pub(crate) fn network(agent_dir: &Path) -> svcd_podnet::Config {
    svcd_podnet::Config {
        bridge: BRIDGE.to_owned(),
        node_range: Ipv4Net::default(),
        cluster_range: Ipv4Net::default(),
        node_address: None,
        mtu: None,
        state_dir: agent_dir.join("network"),
    }
}
