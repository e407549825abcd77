//! What the cluster's Nodes mean to this one: its own, and the way to the others' pods.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use svcd_podnet::NodeRoute;
use tokio::sync::watch;
use tracing::warn;

use crate::own_node::OwnNode;
use crate::watch::Change;

/// The Nodes as they are known, and who is told of changes.
pub(crate) struct Nodes {
    own_name: String,
    own: watch::Sender<OwnNode>,
    routes: watch::Sender<BTreeMap<String, NodeRoute>>,
}

impl Nodes {
    pub(crate) fn new(own_name: impl Into<String>) -> Self {
        Self {
            own_name: own_name.into(),
            own: watch::Sender::new(OwnNode::Unknown),
            routes: watch::Sender::new(BTreeMap::new()),
        }
    }

    /// This node's own Node.
    pub(crate) fn own(&self) -> watch::Receiver<OwnNode> {
        self.own.subscribe()
    }

    /// The ways to the other nodes' pods, by node.
    pub(crate) fn routes(&self) -> watch::Receiver<BTreeMap<String, NodeRoute>> {
        self.routes.subscribe()
    }

    /// Takes in what the watch says. Readers are woken by what concerns them only.
    pub(crate) fn take(&self, change: Change<Node>) {
        match change {
            Change::Reset(all) => self.reset(all),
            Change::Apply(node) if node.name_any() == self.own_name => self.set_own(Some(node)),
            Change::Delete(node) if node.name_any() == self.own_name => self.set_own(None),
            Change::Apply(node) => self.set_route(node.name_any(), route_or_warn(&node)),
            Change::Delete(node) => self.set_route(node.name_any(), None),
        }
    }

    fn reset(&self, all: Vec<Node>) {
        let (own, others): (Vec<Node>, Vec<Node>) =
            all.into_iter().partition(|node| node.name_any() == self.own_name);
        let routes: BTreeMap<String, NodeRoute> =
            others.iter().filter_map(|node| Some((node.name_any(), route_or_warn(node)?))).collect();
        self.routes.send_if_modified(|known| {
            let changed = *known != routes;
            *known = routes;
            changed
        });
        self.set_own(own.into_iter().next());
    }

    fn set_own(&self, node: Option<Node>) {
        self.own.send_replace(node.map_or(OwnNode::Absent, |node| OwnNode::Present(Box::new(node))));
    }

    fn set_route(&self, name: String, route: Option<NodeRoute>) {
        self.routes.send_if_modified(|known| match route {
            Some(route) => known.insert(name, route) != Some(route),
            None => known.remove(&name).is_some(),
        });
    }
}

fn route_or_warn(node: &Node) -> Option<NodeRoute> {
    route(node).unwrap_or_else(|reason| {
        warn!(node = node.name_any(), reason, "its pods cannot be reached");
        None
    })
}

/// The way to a node's pods; `None` while it has no range or no address.
fn route(node: &Node) -> Result<Option<NodeRoute>, String> {
    let Some(range) = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref()) else { return Ok(None) };
    let range: Ipv4Net = range.parse().map_err(|_| format!("its podCIDR {range:?} is not an IPv4 range"))?;
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let via = addresses
        .filter(|address| address.type_ == "InternalIP")
        .find_map(|address| address.address.parse::<Ipv4Addr>().ok());
    Ok(via.map(|via| NodeRoute { range, via }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, range: Option<&str>, address: Option<&str>) -> Node {
        let addresses: Vec<_> =
            address.map(|a| json!({"type": "InternalIP", "address": a})).into_iter().collect();
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"podCIDR": range},
            "status": {"addresses": addresses},
        }))
        .unwrap()
    }

    fn whole(name: &str, third: u8) -> Node {
        node(name, Some(&format!("10.244.{third}.0/24")), Some(&format!("192.168.56.{third}")))
    }

    #[test]
    fn own_node_and_routes_are_told_apart() {
        let nodes = Nodes::new("a");
        let (mut own, mut routes) = (nodes.own(), nodes.routes());
        nodes.take(Change::Reset(vec![whole("a", 1), whole("b", 2), node("c", None, None)]));
        assert_eq!(own.borrow_and_update().pod_range(), Some("10.244.1.0/24"));
        let known = routes.borrow_and_update().clone();
        assert_eq!(known.len(), 1);
        assert_eq!(known["b"].via, Ipv4Addr::new(192, 168, 56, 2));

        nodes.take(Change::Apply(whole("b", 2)));
        assert!(!routes.has_changed().unwrap(), "nothing new");
        nodes.take(Change::Apply(whole("c", 3)));
        assert_eq!(routes.borrow_and_update().len(), 2);
        nodes.take(Change::Delete(whole("b", 2)));
        assert_eq!(routes.borrow_and_update().keys().collect::<Vec<_>>(), ["c"]);
        assert!(!own.has_changed().unwrap());

        nodes.take(Change::Delete(whole("a", 1)));
        assert!(matches!(*own.borrow_and_update(), OwnNode::Absent));
    }

    #[test]
    fn a_relist_forgets_who_is_gone() {
        let nodes = Nodes::new("a");
        let routes = nodes.routes();
        nodes.take(Change::Reset(vec![whole("b", 2), whole("c", 3)]));
        nodes.take(Change::Reset(vec![whole("c", 3)]));
        assert_eq!(routes.borrow().keys().collect::<Vec<_>>(), ["c"]);
        assert!(matches!(*nodes.own().borrow(), OwnNode::Absent));
    }

    #[test]
    fn one_bad_node_does_not_stop_the_rest() {
        let nodes = Nodes::new("a");
        nodes.take(Change::Reset(vec![node("b", Some("fd00::/64"), Some("192.168.56.2")), whole("c", 3)]));
        assert_eq!(nodes.routes().borrow().keys().collect::<Vec<_>>(), ["c"]);
    }
}
