//! What of ours is on this machine, asked of the machine itself: what [`cleanup`](crate::cleanup()) would take away.

use std::path::Path;

use crate::cleanup::network;
use crate::ledger::Ledger;
use crate::{AGENT_DIR, Error, pods};

/// Everything that an agent with this data directory has left, in words. Nothing is changed.
///
/// # Errors
/// [`Error::Look`] when the machine cannot be asked.
pub async fn leftovers(data_dir: &Path) -> Result<Vec<String>, Error> {
    let agent_dir = data_dir.join(AGENT_DIR);
    let mut left = pods::leftovers(&agent_dir.join("pods")).await.map_err(Error::Look)?;
    let rules = tokio::task::spawn_blocking(svcd_proxy::leftovers).await;
    let rules = rules.map_err(|error| Error::Look(error.to_string()))?;
    left.extend(rules.map_err(|error| Error::Look(error.to_string()))?);
    let network = svcd_podnet::leftovers(&network(&agent_dir)).await;
    left.extend(network.map_err(|error| Error::Look(error.to_string()))?);
    left.extend(Ledger::of(&agent_dir).leftovers());
    Ok(left)
}
