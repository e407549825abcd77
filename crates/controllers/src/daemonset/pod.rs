//! A DaemonSet's pod: bound to one node by affinity, and staying there whatever is wrong with the node.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use crate::history::REVISION_HASH;
use crate::kit::workload::pod_of;
use crate::kit::{meta, pods};

const TEMPLATE_GENERATION: &str = "pod-template-generation";
const NODE_NAME: &str = "metadata.name";

/// What every pod of a DaemonSet tolerates: taint and effect.
const TOLERATED: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NO_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// The hash of the template that a pod was made from.
pub(super) fn hash(pod: &Pod) -> Option<&str> {
    meta::label(&pod.metadata, REVISION_HASH)
}

/// The node that a pod is on, or is meant for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    pods::node(pod).or_else(|| {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
        let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
        let named = fields.into_iter().find(|field| field.key == NODE_NAME && field.operator == "In")?;
        named.values.as_ref()?.first().map(String::as_str)
    })
}

/// The pod for a node.
pub(super) fn new(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let mut pod = pod_of(set, set.spec.template.clone());
    pod.metadata.generate_name = Some(format!("{}-", meta::name(&set.metadata)));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_HASH.to_owned(), hash.to_owned());
    if let Some(generation) = meta::annotation(&set.metadata, "deprecated.daemonset.template.generation") {
        labels.insert(TEMPLATE_GENERATION.to_owned(), generation.to_owned());
    }
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    aim(spec, node);
    pod
}

/// Adds what every pod of a DaemonSet tolerates.
pub(super) fn tolerate(spec: &mut PodSpec) {
    let without_network = (spec.host_network == Some(true)).then_some(NO_NETWORK);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.iter().copied().chain(without_network) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// The node's name takes the place of the required affinity, which the node has been held against before.
fn aim(spec: &mut PodSpec, node: &str) {
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: NODE_NAME.to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            match_expressions: None,
        }],
    });
}
