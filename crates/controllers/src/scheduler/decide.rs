//! Which node a pod goes to: a pure function of the pod and the nodes with what runs on them.

use std::fmt;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use crate::kit::taints::{UNSCHEDULABLE, tolerated, tolerations};
use crate::kit::{meta, nodes, selector};

/// A node that may be chosen.
pub(super) struct Candidate<'a, P> {
    pub(super) node: &'a Node,
    /// Pods of the same owner or Service on it.
    pub(super) siblings: usize,
    /// All pods on it.
    pub(super) pods: usize,
    /// The host's ports in use; asked for only when it matters.
    pub(super) taken_ports: P,
}

/// Why a node is not for a pod, worded as upstream words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    Unschedulable,
    Selector,
    Taint { key: String, value: String },
    Full,
    Ports,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::Selector => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::Taint { key, value } => write!(f, "node(s) had untolerated taint {{{key}: {value}}}"),
            Self::Full => f.write_str("Too many pods"),
            Self::Ports => f.write_str("node(s) didn't have free ports for the requested pod ports"),
        }
    }
}

/// A port on the host: address, protocol, number.
pub(super) type HostPort = (String, String, i32);

/// The host's ports that a pod takes.
pub(super) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let host = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let address =
            port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
        Some((address, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number))
    };
    ports.filter_map(host).collect()
}

fn collide(a: &HostPort, b: &HostPort) -> bool {
    let any = |address: &str| address == "0.0.0.0" || address == "::";
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || any(&a.0) || any(&b.0))
}

/// The node with the fewest siblings, then the fewest pods, then the first by name; or what is wrong with each.
pub(super) fn choose<'a, P: Fn() -> Vec<HostPort>>(
    pod: &Pod,
    candidates: impl Iterator<Item = Candidate<'a, P>>,
) -> Result<String, Vec<Unfit>> {
    let mut unfit = Vec::new();
    let mut best: Option<(Rank, &str)> = None;
    for candidate in candidates {
        if let Some(reason) = obstacle(pod, &candidate) {
            unfit.push(reason);
            continue;
        }
        let name = meta::name(&candidate.node.metadata);
        let rank = Rank {
            avoided: avoided(pod, candidate.node),
            siblings: candidate.siblings,
            preference: -preference(pod, candidate.node),
            pods: candidate.pods,
        };
        if best.as_ref().is_none_or(|(held, other)| (&rank, name) < (held, *other)) {
            best = Some((rank, name));
        }
    }
    best.map(|(_, name)| name.to_owned()).ok_or(unfit)
}

/// Less is better.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    avoided: usize,
    preference: i32,
    siblings: usize,
    pods: usize,
}

fn obstacle<P: Fn() -> Vec<HostPort>>(pod: &Pod, candidate: &Candidate<'_, P>) -> Option<Unfit> {
    let node = candidate.node;
    taint(pod, node)
        .or_else(|| (!is_selected(pod, node)).then_some(Unfit::Selector))
        .or_else(|| capacity(node).is_some_and(|most| candidate.pods >= most).then_some(Unfit::Full))
        .or_else(|| {
            let wanted = host_ports(pod);
            let taken = if wanted.is_empty() { Vec::new() } else { (candidate.taken_ports)() };
            let free = wanted.iter().all(|port| !taken.iter().any(|other| collide(port, other)));
            (!free).then_some(Unfit::Ports)
        })
}

fn taint(pod: &Pod, node: &Node) -> Option<Unfit> {
    let spec = node.spec.as_ref();
    let own = |key: &str| Taint { key: key.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    if spec.and_then(|spec| spec.unschedulable) == Some(true)
        && !tolerated(&own(UNSCHEDULABLE), tolerations(pod))
    {
        return Some(Unfit::Unschedulable);
    }
    // What the node says of itself counts before anyone has put the taint on it.
    let unready = (!nodes::is_ready(node)).then(|| own(crate::kit::taints::NOT_READY));
    let listed = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten().cloned();
    let hard = listed.filter(|taint| taint.effect != "PreferNoSchedule").chain(unready);
    let found = hard.into_iter().find(|taint| !tolerated(taint, tolerations(pod)))?;
    Some(Unfit::Taint { key: found.key, value: found.value.unwrap_or_default() })
}

/// How many taints that ask to stay away the pod does not tolerate.
fn avoided(pod: &Pod, node: &Node) -> usize {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    taints.filter(|t| t.effect == "PreferNoSchedule" && !tolerated(t, tolerations(pod))).count()
}

/// Whether a pod's node selector and required affinity hold for a node.
pub(crate) fn is_selected(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = node.metadata.labels.as_ref();
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    spec.node_selector.as_ref().is_none_or(|wanted| selector::is_subset(wanted, labels))
        && required.is_none_or(|required| {
            let name = meta::name(&node.metadata);
            required.node_selector_terms.iter().any(|term| selector::term_matches(term, name, labels))
        })
}

/// The weight of the pod's preferences that a node meets.
fn preference(pod: &Pod, node: &Node) -> i32 {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let terms = affinity.and_then(|node| node.preferred_during_scheduling_ignored_during_execution.as_ref());
    let labels = node.metadata.labels.as_ref();
    let met = |term: &&k8s_openapi::api::core::v1::PreferredSchedulingTerm| {
        selector::term_matches(&term.preference, meta::name(&node.metadata), labels)
    };
    terms.into_iter().flatten().filter(met).map(|term| term.weight).sum()
}

/// How many pods a node takes, if it says so.
fn capacity(node: &Node) -> Option<usize> {
    node.status.as_ref()?.allocatable.as_ref()?.get("pods")?.0.parse().ok()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
