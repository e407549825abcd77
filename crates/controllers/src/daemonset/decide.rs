//! Which nodes have a pod of a DaemonSet, and which should: pure functions.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use super::{pod, update};
use crate::kit::taints::{UNSCHEDULABLE, tolerated};
use crate::kit::{meta, pods};
use crate::scheduler::is_selected;

/// A node, as a DaemonSet sees it.
pub(super) struct Place {
    pub(super) node: String,
    pub(super) fit: Fit,
    /// The set's pods on it, oldest first, those that are ending too.
    pub(super) pods: Vec<Arc<Pod>>,
}

/// Whether a node is for the set's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It should have one.
    Wanted,
    /// It gets none, and keeps one that it has.
    Kept,
    /// It must not have one.
    Unwanted,
}

impl Place {
    pub(super) fn new(set: &DaemonSet, node: &Node, mut pods: Vec<Arc<Pod>>) -> Self {
        pods.sort_by_key(|pod| {
            (pod.metadata.creation_timestamp.as_ref().map(|t| t.0), pod.metadata.name.clone())
        });
        Self { node: meta::name(&node.metadata).to_owned(), fit: fit(set, node), pods }
    }

    /// The pods that count.
    pub(super) fn running(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| pods::is_active(pod))
    }
}

/// What the template's selectors and tolerations make of a node.
fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let mut wanted = Pod { spec: set.spec.template.spec.clone(), ..Pod::default() };
    let spec = wanted.spec.get_or_insert_default();
    pod::tolerate(spec);
    let named = spec.node_name.as_deref().is_none_or(|name| name == meta::name(&node.metadata));
    if !named || !is_selected(&wanted, node) {
        return Fit::Unwanted;
    }
    let spec = node.spec.as_ref();
    let cordoned = spec.and_then(|spec| spec.unschedulable) == Some(true);
    let cordoned = cordoned.then(|| Taint {
        key: UNSCHEDULABLE.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    });
    let listed = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten().cloned();
    let tolerations = crate::kit::taints::tolerations(&wanted);
    let mut fit = Fit::Wanted;
    for taint in listed.chain(cordoned).filter(|taint| !tolerated(taint, tolerations)) {
        match taint.effect.as_str() {
            "NoExecute" => return Fit::Unwanted,
            "NoSchedule" => fit = Fit::Kept,
            _ => {}
        }
    }
    fit
}

/// What is to be done.
#[derive(Default)]
pub(super) struct Plan {
    /// Nodes that get a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
}

/// Pods for nodes without, none for nodes that are not for them, and no more than one for each, save while an update
/// surges.
pub(super) fn plan(set: &DaemonSet, places: &[Place], hash: &str) -> Plan {
    let mut plan = Plan::default();
    for place in places {
        if place.fit == Fit::Unwanted {
            let living = place.pods.iter().filter(|pod| !pods::is_terminating(pod));
            plan.delete.extend(living.cloned());
            continue;
        }
        if place.fit == Fit::Wanted && place.pods.is_empty() {
            plan.create.push(place.node.clone());
        }
        let ended = place.pods.iter().filter(|pod| pods::is_terminal(pod) && !pods::is_terminating(pod));
        plan.delete.extend(ended.cloned());
        plan.delete.extend(excess(set, place, hash));
    }
    plan
}

/// The pods that a node has beyond the one that it should have.
fn excess(set: &DaemonSet, place: &Place, hash: &str) -> Vec<Arc<Pod>> {
    let running: Vec<_> = place.running().cloned().collect();
    if !update::surges(set) || running.len() < 2 {
        return running.into_iter().skip(1).collect();
    }
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| pod::hash(p) == Some(hash));
    // An old pod beside a new one stays while it alone serves.
    let keeps_old = match (new.first(), old.first()) {
        (Some(new), Some(old)) => pods::is_ready(old) && !pods::is_ready(new),
        _ => true,
    };
    let old = old.into_iter().skip(usize::from(keeps_old));
    new.into_iter().skip(1).chain(old).collect()
}

/// How long a pod must be ready to be available.
pub(super) fn min_ready(set: &DaemonSet) -> SignedDuration {
    SignedDuration::from_secs(set.spec.min_ready_seconds.unwrap_or_default().into())
}

pub(super) fn is_available(set: &DaemonSet, pod: &Pod, now: Timestamp) -> bool {
    pods::available_at(pod, min_ready(set)).is_some_and(|moment| moment <= now)
}

/// How long until some ready pod becomes available.
pub(super) fn next_available(set: &DaemonSet, places: &[Place], now: Timestamp) -> Option<Duration> {
    let running = places.iter().flat_map(Place::running);
    let moments = running.filter_map(|pod| pods::available_at(pod, min_ready(set)));
    moments.filter(|moment| *moment > now).min().map(|moment| pods::until(moment, now))
}

pub(super) fn status(set: &DaemonSet, places: &[Place], hash: &str, now: Timestamp) -> DaemonSetStatus {
    let mut status = DaemonSetStatus {
        collision_count: set.status.as_ref().and_then(|status| status.collision_count),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
        observed_generation: set.metadata.generation,
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut available) = (0, 0);
    for place in places {
        let running: Vec<_> = place.running().collect();
        if place.fit != Fit::Wanted {
            status.number_misscheduled += i32::from(!running.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        status.current_number_scheduled += i32::from(!running.is_empty());
        status.number_ready += i32::from(running.iter().any(|pod| pods::is_ready(pod)));
        available += i32::from(running.iter().any(|pod| is_available(set, pod, now)));
        updated += i32::from(running.iter().any(|p| pod::hash(p) == Some(hash)));
    }
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    status.updated_number_scheduled = some(updated);
    status.number_available = some(available);
    status.number_unavailable = some(status.desired_number_scheduled - available);
    status
}

#[cfg(test)]
#[path = "decide_tests.rs"]
pub(super) mod tests;
