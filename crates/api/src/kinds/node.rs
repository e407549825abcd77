//! Nodes: machines that run pods. Their pod range is given once.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus, Taint};
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change, Warnings};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo, Subresource};
use crate::{names, rules, table, warnings};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(crate) struct Nodes;

impl Behavior for Nodes {
    type Object = Node;

    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        categories: &[],
        namespaced: false,
        subresources: &[Subresource::Status],
        create_on_update: false,
        unconditional_update: true,
    };
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text("Status", "The status of the node"),
        table::text("Roles", "The roles of the node"),
        table::AGE,
        table::text("Version", "Kubelet Version reported by the node."),
        table::wide("Internal-IP", "List of addresses reachable to the node."),
        table::wide("External-IP", "List of addresses reachable to the node."),
        table::wide(
            "OS-Image",
            "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).",
        ),
        table::wide(
            "Kernel-Version",
            "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).",
        ),
        table::wide(
            "Container-Runtime",
            "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).",
        ),
    ];
    const SELECTABLE: &'static [&'static str] = &["spec.unschedulable"];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[("spec.podCIDRs", &[]), ("status.conditions", &["type"]), ("status.addresses", &["type"])];

    const WARNINGS: Option<Warnings<Node>> = Some(|node, _| {
        let path = Path::new("spec");
        let ranges = node.spec.iter().flat_map(|s| s.pod_cidrs.iter().flatten()).enumerate();
        ranges
            .flat_map(|(index, range)| warnings::cidr(&path.child("podCIDRs").index(index), range))
            .collect()
    });

    /// The two spellings of the pod range follow each other; the older one wins.
    const DEFAULT: Option<Change<Node>> = Some(|node| {
        if let Some(spec) = &mut node.spec {
            let first = spec.pod_cidrs.as_ref().and_then(|list| list.first());
            if spec.pod_cidr.is_none() {
                spec.pod_cidr = first.cloned();
            } else if spec.pod_cidr.as_ref() != first {
                spec.pod_cidrs = spec.pod_cidr.clone().map(|cidr| vec![cidr]);
            }
        }
        if let Some(status) = &mut node.status
            && status.allocatable.is_none()
        {
            status.allocatable.clone_from(&status.capacity);
        }
        node.spec.get_or_insert_default();
        node.status.get_or_insert_default();
    });

    /// Not ready until its agent and the controllers say so (upstream's admission plugin `TaintNodesByCondition`): nothing is
    /// placed on a node that has only been named.
    const PREPARE_CREATE: Option<Change<Node>> = Some(|node| {
        let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
        if !taints.iter().any(|taint| taint.key == NOT_READY && taint.effect == "NoSchedule") {
            let effect = "NoSchedule".to_owned();
            taints.push(Taint { key: NOT_READY.to_owned(), effect, ..Taint::default() });
        }
    });

    fn validate(node: &Node, errors: &mut Vec<FieldError>) {
        let Some(spec) = &node.spec else { return };
        let path = Path::new("spec");
        validate_ranges(&path.child("podCIDRs"), spec.pod_cidrs.as_deref().unwrap_or_default(), errors);
        validate_taints(&path.child("taints"), spec.taints.as_deref().unwrap_or_default(), errors);
        validate_addresses(node.status.as_ref(), errors);
    }

    fn validate_update(new: &Node, old: &Node, errors: &mut Vec<FieldError>) {
        let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
        if old.pod_cidrs.is_some() && new.pod_cidrs != old.pod_cidrs {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden("spec.podCIDRs", detail));
        }
        if old.provider_id.is_some() && new.provider_id != old.provider_id {
            let detail = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden("spec.providerID", detail));
        }
    }

    fn validate_status(new: &Node, _old: &Node, errors: &mut Vec<FieldError>) {
        validate_addresses(new.status.as_ref(), errors);
    }

    fn selectable(node: &Node) -> Vec<String> {
        vec![is_unschedulable(node).to_string()]
    }

    fn cells(node: &Node, now: Timestamp) -> Vec<Value> {
        let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
        let known = |text: Option<&String>| {
            text.filter(|t| !t.is_empty()).cloned().unwrap_or_else(|| "<unknown>".to_owned())
        };
        let mut kernel = known(info.map(|i| &i.kernel_version));
        if let Some(architecture) = info.map(|i| &i.architecture).filter(|a| !a.is_empty()) {
            kernel = format!("{kernel} ({architecture})");
        }
        vec![
            table::name(&node.metadata),
            json!(status(node)),
            json!(roles(node)),
            table::age(&node.metadata, now),
            json!(info.map(|i| i.kubelet_version.as_str()).unwrap_or_default()),
            json!(address(node.status.as_ref(), "InternalIP")),
            json!(address(node.status.as_ref(), "ExternalIP")),
            json!(known(info.map(|i| &i.os_image))),
            json!(kernel),
            json!(known(info.map(|i| &i.container_runtime_version))),
        ]
    }
}

/// At most one range of each family.
fn validate_ranges(path: &Path<'_>, ranges: &[String], errors: &mut Vec<FieldError>) {
    let parsed: Vec<_> =
        ranges.iter().enumerate().map(|(i, range)| rules::cidr(&path.index(i), range, errors)).collect();
    let of_family = |v4: bool| parsed.iter().flatten().filter(|range| range.addr().is_ipv4() == v4).count();
    if of_family(true) > 1 || of_family(false) > 1 {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(path, ranges, detail));
    }
}

fn validate_taints(path: &Path<'_>, taints: &[Taint], errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        let messages = names::qualified(&taint.key);
        errors.extend(messages.into_iter().map(|m| FieldError::invalid(path.child("key"), &taint.key, m)));
        let value = taint.value.as_deref().unwrap_or_default();
        let messages = names::label_value(value);
        errors.extend(messages.into_iter().map(|m| FieldError::invalid(path.child("value"), value, m)));
        match taint.effect.as_str() {
            "" => errors.push(FieldError::required(path.child("effect"), "")),
            effect => rules::one_of(&path.child("effect"), effect, EFFECTS, errors),
        }
        if !seen.insert((&taint.key, &taint.effect)) {
            errors.push(FieldError::duplicate(path, taint));
        }
    }
}

fn validate_addresses(status: Option<&NodeStatus>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    let path = Path::new("status");
    for (index, address) in status.iter().flat_map(|s| s.addresses.iter().flatten()).enumerate() {
        if !seen.insert((&address.type_, &address.address)) {
            errors.push(FieldError::duplicate(path.child("addresses").index(index), address));
        }
    }
}

fn is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false)
}

fn status(node: &Node) -> String {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|c| c.type_ == "Ready");
    let word = match ready.map(|c| c.status.as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if is_unschedulable(node) { format!("{word},SchedulingDisabled") } else { word.to_owned() }
}

fn roles(node: &Node) -> String {
    let roles: BTreeSet<&str> = node
        .metadata
        .labels
        .iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (key == ROLE_LABEL).then_some(value.as_str()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    table::or_none(Vec::from_iter(roles).join(","))
}

fn address<'a>(status: Option<&'a NodeStatus>, kind: &str) -> &'a str {
    status
        .and_then(|s| s.addresses.as_deref())
        .and_then(|list| list.iter().find(|a| a.type_ == kind))
        .map_or(table::NONE, |a| a.address.as_str())
}
