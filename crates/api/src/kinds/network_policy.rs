//! NetworkPolicies: who may talk to a set of pods. They are kept as they are written, and whoever writes one is told that
//! nothing here makes them so.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Selector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change, Warnings};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo};
use crate::selector::{self, LabelSelector};
use crate::{rules, table, warnings};

const TYPES: &[&str] = &["Ingress", "Egress"];
const NOT_ENFORCED: &str =
    "this NetworkPolicy is stored, but nothing on svcd enforces it: it restricts no traffic";

pub(crate) struct NetworkPolicies;

impl Behavior for NetworkPolicies {
    type Object = NetworkPolicy;

    const INFO: &'static KindInfo = &KindInfo {
        group: "networking.k8s.io",
        version: "v1",
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        singular: "networkpolicy",
        short_names: &["netpol"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        create_on_update: false,
        unconditional_update: true,
    };
    const GENERATION: &'static [&'static str] = &["spec"];
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text(
            "Pod-Selector",
            "podSelector selects the pods to which this NetworkPolicy object applies. The array of rules is applied to any pods selected by this field. An empty selector matches all pods in the policy's namespace. Multiple network policies can select the same set of pods. In this case, the ingress rules for each are combined additively. This field is optional. If it is not specified, it defaults to an empty selector.",
        ),
        table::AGE,
    ];
    const WARNINGS: Option<Warnings<NetworkPolicy>> = Some(warnings);

    const DEFAULT: Option<Change<NetworkPolicy>> = Some(|policy| {
        let spec = policy.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_default();
        let from = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        let to = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        for port in from.chain(to) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        let sides = if spec.egress.is_some() { TYPES } else { &TYPES[..1] };
        spec.policy_types.get_or_insert_with(|| sides.iter().map(|side| (*side).to_owned()).collect());
    });

    fn validate(policy: &NetworkPolicy, errors: &mut Vec<FieldError>) {
        let empty = NetworkPolicySpec::default();
        let spec = policy.spec.as_ref().unwrap_or(&empty);
        let root = Path::new("spec");
        if let Some(pods) = &spec.pod_selector {
            selector::validate(&root.child("podSelector"), pods, errors);
        }
        for side in sides(spec) {
            let path = root.child(side.field);
            let path = path.index(side.index);
            for (index, port) in side.ports.iter().enumerate() {
                validate_port(&path.child("ports").index(index), port, errors);
            }
            for (index, peer) in side.peers.iter().enumerate() {
                validate_peer(&path.child(side.peers_field).index(index), peer, errors);
            }
        }
        validate_types(&root.child("policyTypes"), spec.policy_types.as_deref().unwrap_or_default(), errors);
    }

    fn cells(policy: &NetworkPolicy, now: Timestamp) -> Vec<Value> {
        let pods = policy.spec.as_ref().and_then(|s| s.pod_selector.clone()).unwrap_or_default();
        vec![table::name(&policy.metadata), json!(shown(&pods)), table::age(&policy.metadata, now)]
    }
}

/// One rule, of either direction.
struct Side<'a> {
    field: &'static str,
    index: usize,
    ports: &'a [NetworkPolicyPort],
    peers_field: &'static str,
    peers: &'a [NetworkPolicyPeer],
}

fn sides(spec: &NetworkPolicySpec) -> impl Iterator<Item = Side<'_>> {
    let ingress = spec.ingress.iter().flatten().enumerate().map(|(index, rule)| Side {
        field: "ingress",
        index,
        ports: rule.ports.as_deref().unwrap_or_default(),
        peers_field: "from",
        peers: rule.from.as_deref().unwrap_or_default(),
    });
    let egress = spec.egress.iter().flatten().enumerate().map(|(index, rule)| Side {
        field: "egress",
        index,
        ports: rule.ports.as_deref().unwrap_or_default(),
        peers_field: "to",
        peers: rule.to.as_deref().unwrap_or_default(),
    });
    ingress.chain(egress)
}

fn validate_port(path: &Path<'_>, port: &NetworkPolicyPort, errors: &mut Vec<FieldError>) {
    if let Some(protocol) = &port.protocol {
        rules::one_of(&path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"], errors);
    }
    let end = path.child("endPort");
    match (&port.port, port.end_port) {
        (None, Some(last)) => {
            errors.push(FieldError::invalid(end, last, "may not be specified when `port` is not specified"));
        }
        (Some(IntOrString::String(_)), Some(last)) => {
            errors.push(FieldError::invalid(end, last, "may not be specified when `port` is non-numeric"));
        }
        (Some(IntOrString::Int(first)), Some(last)) if last < *first => {
            errors.push(FieldError::invalid(end, last, "must be greater than or equal to `port`"));
        }
        _ => {}
    }
    if let Some(first) = &port.port {
        rules::port_or_name(&path.child("port"), first, errors);
    }
    if let (Some(IntOrString::Int(_)), Some(last)) = (&port.port, port.end_port) {
        rules::port(&end, last, errors);
    }
}

fn validate_peer(path: &Path<'_>, peer: &NetworkPolicyPeer, errors: &mut Vec<FieldError>) {
    let selectors = [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)];
    for (field, wanted) in &selectors {
        if let Some(wanted) = wanted {
            selector::validate(&path.child(field), wanted, errors);
        }
    }
    let selects = selectors.iter().any(|(_, wanted)| wanted.is_some());
    match &peer.ip_block {
        Some(block) => {
            validate_block(&path.child("ipBlock"), block, errors);
            if selects {
                errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
            }
        }
        None if !selects => errors.push(FieldError::required(path, "must specify a peer")),
        None => {}
    }
}

fn validate_block(path: &Path<'_>, block: &IPBlock, errors: &mut Vec<FieldError>) {
    if block.cidr.is_empty() {
        errors.push(FieldError::required(path.child("cidr"), ""));
        return;
    }
    let Some(range) = rules::cidr(&path.child("cidr"), &block.cidr, errors) else { return };
    for (index, text) in block.except.iter().flatten().enumerate() {
        let path = path.child("except");
        let path = path.index(index);
        let Some(except) = rules::cidr(&path, text, errors) else { continue };
        if !range.contains(&except.network()) || range.prefix_len() >= except.prefix_len() {
            errors.push(FieldError::invalid(path, text, "must be a strict subset of `cidr`"));
        }
    }
}

fn validate_types(path: &Path<'_>, types: &[String], errors: &mut Vec<FieldError>) {
    if types.len() > TYPES.len() {
        errors.push(FieldError::invalid(path, types, "may not specify more than two policyTypes"));
        return;
    }
    for (index, one) in types.iter().enumerate() {
        rules::one_of(&path.index(index), one, TYPES, errors);
    }
}

fn shown(pods: &Selector) -> String {
    let selector = LabelSelector::from_object(pods).map(|selector| selector.to_string());
    selector.map_or_else(|_| "<error>".to_owned(), table::or_none)
}

fn warnings(new: &NetworkPolicy, _: Option<&NetworkPolicy>) -> Vec<String> {
    let mut said = vec![NOT_ENFORCED.to_owned()];
    for side in new.spec.iter().flat_map(sides) {
        for (index, block) in
            side.peers.iter().enumerate().filter_map(|(i, p)| Some((i, p.ip_block.as_ref()?)))
        {
            let (root, index_in) = (Path::new("spec"), side.index);
            let rules = root.child(side.field);
            let rule = rules.index(index_in);
            let peers = rule.child(side.peers_field);
            let peer = peers.index(index);
            let path = peer.child("ipBlock");
            said.extend(warnings::cidr(&path.child("cidr"), &block.cidr));
            for (index, except) in block.except.iter().flatten().enumerate() {
                said.extend(warnings::cidr(&path.child("except").index(index), except));
            }
        }
    }
    said
}
