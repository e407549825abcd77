//! What `svcd lab status` shows: each node's process beside what the API says of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use svcd_client::Objects;

use crate::demo;
use crate::error::Error;
use crate::plan::Layout;
use crate::state::State;

/// One node's line.
#[derive(Debug)]
pub struct Line {
    /// `node1`.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its process, if that runs.
    pub pid: Option<i32>,
    /// `Ready`, `NotReady`, or `-` when the API does not know it.
    pub condition: &'static str,
}

/// The nodes of the lab.
///
/// # Errors
/// [`Error::NotRunning`] when there is none. An API that does not answer is shown, not an error.
pub async fn status(layout: &Layout) -> Result<Vec<Line>, Error> {
    let state = State::load(layout)?.ok_or(Error::NotRunning)?;
    let conditions = conditions(layout).await.unwrap_or_default();
    let line = |node: &crate::plan::Node| Line {
        name: node.name.clone(),
        address: node.address.to_string(),
        pid: state.processes.get(&node.name).filter(|p| p.is_alive()).map(|p| p.pid),
        condition: conditions.get(&node.name).copied().unwrap_or("-"),
    };
    Ok(state.plan.nodes.iter().map(line).collect())
}

async fn conditions(layout: &Layout) -> Result<BTreeMap<String, &'static str>, Error> {
    let api = Objects::<Node>::all(demo::client(layout)?);
    let nodes =
        api.list(&ListParams::default()).await.map_err(|source| demo::api("a list of nodes", source))?;
    let is_ready = |node: &Node| {
        let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let entry = |node: Node| {
        let condition = if is_ready(&node) { "Ready" } else { "NotReady" };
        (node.metadata.name.unwrap_or_default(), condition)
    };
    Ok(nodes.items.into_iter().map(entry).collect())
}
