//! A range of pod addresses for every node, of each family that the cluster has.
//!
//! Promises: no two nodes get overlapping ranges, also across restarts: what nodes have is read from the nodes
//! themselves before anything is given out. A range is free again when its node is gone. Refuses: to give a node a part
//! of what it needs, and to change what it has.

use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::Patch;
use serde_json::json;
use svcd_client::Objects;

use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::{Again, drive};
use crate::kit::queue::Queue;
use crate::kit::store::Key;
use crate::kit::world::{Task, World};

pub(crate) fn start(world: &Arc<World>) -> Task {
    let queue = Queue::new();
    let (weak, changed) = (Arc::downgrade(world), Arc::clone(&queue));
    world.nodes.listen(move |change| {
        if let Some(node) = change.new
            && ranges(node).is_empty()
        {
            changed.add(change.key());
        }
        if change.new.is_none()
            && let Some(world) = weak.upgrade()
        {
            // A range is free again: perhaps some node waits for one.
            let waiting = world.nodes.all().into_iter().filter(|node| ranges(node).is_empty());
            waiting.for_each(|node| changed.add(Key::of(&node.metadata)));
        }
    });
    let shell = Arc::clone(world);
    // One at a time: each choice stands on all choices before it.
    let work = drive("nodeipam", queue, 1, move |key| {
        let world = Arc::clone(&shell);
        async move { reconcile(&world, &key).await }
    });
    ("nodeipam", world.when_ready(work))
}

async fn reconcile(world: &World, key: &Key) -> Result<Again, Error> {
    let Some(node) = world.nodes.get(key).filter(|node| ranges(node).is_empty()) else { return Ok(None) };
    let used: Vec<IpNet> = world.nodes.all().iter().flat_map(|node| ranges(node)).collect();
    let config = &world.config;
    let free = |of: &IpNet| {
        let mask = config.node_mask(of);
        free_range(*of, mask, &used).ok_or_else(|| format!("no /{mask} left in {of}"))
    };
    let given: Vec<IpNet> = match config.pod_ranges.iter().map(free).collect() {
        Ok(given) => given,
        Err(message) => {
            tracing::warn!(node = %key, message, "CIDRNotAvailable");
            world.events.warning("cidrAllocator", node.as_ref(), "CIDRNotAvailable", message);
            return Ok(None);
        }
    };
    let patch = json!({
        "metadata": { "uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version },
        "spec": { "podCIDR": given.first(), "podCIDRs": given },
    });
    let api: Objects<Node> = Objects::all(world.client.clone());
    let patched = api.patch(&key.name, &Patch::Merge(patch)).await;
    let doing = || format!("give node {key} the ranges {given:?}");
    unless_gone(patched.doing(doing).map(|node| world.nodes.wrote(node)))?;
    tracing::info!(node = %key, ranges = ?given, "pod ranges given");
    Ok(None)
}

/// The ranges that a node has.
pub(crate) fn ranges(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    all.filter_map(|range| range.parse().ok()).collect()
}

/// The first range of a length that overlaps no other.
fn free_range(of: IpNet, mask: u8, used: &[IpNet]) -> Option<IpNet> {
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    of.trunc().subnets(mask).ok()?.find(|range| !used.iter().any(|other| overlaps(range, other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_free_range() {
        let cases: &[(&str, u8, &[&str], Option<&str>)] = &[
            ("10.244.0.0/16", 24, &[], Some("10.244.0.0/24")),
            ("10.244.0.0/16", 24, &["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24")),
            ("10.244.0.0/16", 24, &["10.244.0.0/23"], Some("10.244.2.0/24")),
            ("10.244.0.0/16", 24, &["10.244.1.128/25", "10.244.0.0/24"], Some("10.244.2.0/24")),
            ("10.244.0.0/16", 24, &["192.168.0.0/24"], Some("10.244.0.0/24")),
            ("10.244.0.0/23", 24, &["10.244.0.0/24", "10.244.1.0/24"], None),
            ("10.244.0.0/24", 24, &[], Some("10.244.0.0/24")),
            ("10.244.7.9/16", 26, &["10.244.0.0/26"], Some("10.244.0.64/26")),
            ("fd00::/48", 64, &["fd00::/64"], Some("fd00:0:0:1::/64")),
        ];
        for (of, mask, used, expected) in cases {
            let used: Vec<IpNet> = used.iter().map(|text| net(text)).collect();
            assert_eq!(free_range(net(of), *mask, &used), expected.map(net), "{of} /{mask} without {used:?}");
        }
    }

    #[test]
    fn giving_out_all_of_them_never_overlaps() {
        let mut used = Vec::new();
        while let Some(range) = free_range(net("10.0.0.0/20"), 24, &used) {
            used.push(range);
        }
        let mut distinct = used.clone();
        distinct.dedup();
        assert_eq!((used.len(), distinct.len()), (16, 16));
    }
}
