//! What a node's status says.

use k8s_openapi::api::core::v1::{Node, NodeCondition};

/// The node's word on whether it can run pods.
pub(crate) fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready")
}

pub(crate) fn is_ready(node: &Node) -> bool {
    ready(node).is_some_and(|c| c.status == "True")
}
