//! What a node's heartbeats mean: pure functions of the node, its pods and the time.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::kit::taints::{NOT_READY, UNREACHABLE, UNSCHEDULABLE};
use crate::kit::{nodes, pods};

const SILENT: &str = "NodeStatusUnknown";
const NEVER_HEARD: &str = "NodeStatusNeverUpdated";
/// Why a pod that runs well is not ready.
pub(super) const NODE_NOT_READY: &str = "NodeNotReady";
/// The conditions that a node itself reports.
const REPORTED: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It has been heard of within the grace period.
    Heard {
        /// By a Lease that it renews, not only by its status.
        by_lease: bool,
    },
    Silent,
}

/// We have said that the node is lost, and it has not said otherwise since.
pub(super) fn is_lost(node: &Node) -> bool {
    nodes::ready(node)
        .is_some_and(|ready| ready.status == "Unknown" && ready.reason.as_deref() == Some(SILENT))
}

/// The node has said, or we have found, that it cannot serve. A node that has said nothing yet is not down.
pub(super) fn is_down(node: &Node) -> bool {
    nodes::ready(node).is_some_and(|ready| ready.status != "True")
}

/// The node's conditions, if they must change.
pub(super) fn conditions(node: &Node, health: Health, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let held = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let next = match health {
        Health::Silent => lost(&held, now),
        Health::Heard { by_lease: true } if is_lost(node) => found(&held, now),
        Health::Heard { .. } => return None,
    };
    (next != held).then_some(next)
}

fn lost(held: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let mut next = held.to_vec();
    for kind in REPORTED {
        match next.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                set(condition, "Unknown", SILENT, "The node stopped posting node status.", now);
            }
            None => {
                let mut condition = NodeCondition { type_: kind.to_owned(), ..NodeCondition::default() };
                set(&mut condition, "Unknown", NEVER_HEARD, "The node never posted node status.", now);
                next.push(condition);
            }
        }
    }
    next
}

/// The node renews its Lease again. It may not know that we called it lost, so that it need not say anything.
fn found(held: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let mut next = held.to_vec();
    for condition in next.iter_mut().filter(|c| c.reason.as_deref() == Some(SILENT)) {
        match condition.type_.as_str() {
            "Ready" => set(condition, "True", "KubeletReady", "The node posts its heartbeat again.", now),
            "MemoryPressure" => set(condition, "False", "KubeletHasSufficientMemory", "", now),
            "DiskPressure" => set(condition, "False", "KubeletHasNoDiskPressure", "", now),
            "PIDPressure" => set(condition, "False", "KubeletHasSufficientPID", "", now),
            _ => {}
        }
    }
    next
}

fn set(condition: &mut NodeCondition, status: &str, reason: &str, message: &str, now: Timestamp) {
    condition.status = status.to_owned();
    condition.reason = Some(reason.to_owned());
    condition.message = Some(message.to_owned());
    condition.last_transition_time = Some(Time(now));
}

/// The node's taints, if they must change: those of others stay, ours follow its conditions.
pub(super) fn taints(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.as_ref();
    let held = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match nodes::ready(node).map(|ready| ready.status.as_str()) {
        Some("False") => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        Some(_) => {}
        // Not known yet: whoever registered the node may have put taints on it for that.
        None => {
            wanted.extend(held.iter().filter(|t| t.key == NOT_READY).map(|t| (NOT_READY, t.effect.as_str())))
        }
    }
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |taint: &Taint| [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str());
    let is = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let mut next: Vec<Taint> =
        held.iter().filter(|taint| !ours(taint) || wanted.iter().any(|w| is(taint, w))).cloned().collect();
    for want in &wanted {
        if !next.iter().any(|taint| is(taint, want)) {
            let time_added = (want.1 == "NoExecute").then_some(Time(now));
            next.push(Taint { key: want.0.to_owned(), effect: want.1.to_owned(), value: None, time_added });
        }
    }
    (next != held).then_some(next)
}

/// What the state of its node means for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PodChange {
    Unready,
    Ready,
}

/// A pod of a node that is down is not ready. When the node is back, what we took is given back, if the containers
/// are ready by the node's own last word; the node corrects us if they are not.
pub(super) fn pod_change(pod: &Pod, node: &Node) -> Option<PodChange> {
    if is_down(node) {
        return pods::is_ready(pod).then_some(PodChange::Unready);
    }
    let ours = pods::condition(pod, "Ready")
        .is_some_and(|ready| ready.status == "False" && ready.reason.as_deref() == Some(NODE_NOT_READY));
    let containers = pods::condition(pod, "ContainersReady").is_some_and(|c| c.status == "True");
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref());
    let open = gates.is_none_or(|gates| {
        gates
            .iter()
            .all(|gate| pods::condition(pod, &gate.condition_type).is_some_and(|c| c.status == "True"))
    });
    (nodes::is_ready(node) && ours && containers && open).then_some(PodChange::Ready)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
