//! Who may do what, by fixed rules until RBAC is served: the masters everything, an agent what its node needs, a holder
//! of a join token nothing but join. Some rules need the object itself: those come as a [`Guard`] that the write path
//! holds against it.

use serde_json::Value;
use svcd_api::kind::{KindInfo, Subresource};

use crate::call::Call;
use crate::errors::Failure;
use crate::route::{Target, Verb, subresource_name};
use crate::user::{BOOTSTRAPPERS, MASTERS, User};

/// What must hold of the object of an allowed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// It has this name.
    Named(String),
    /// It is bound to this node.
    OnNode(String),
}

impl Guard {
    pub(crate) fn check(&self, call: &Call, object: &Value) -> Result<(), Failure> {
        let holds = match self {
            Self::Named(name) => object["metadata"]["name"] == name.as_str(),
            Self::OnNode(node) => object["spec"]["nodeName"] == node.as_str(),
        };
        if holds { Ok(()) } else { Err(refusal(&call.user, call.verb, &call.target)) }
    }
}

/// May the user do this? If so, under which condition on the object?
pub(crate) fn authorize(user: &User, verb: Verb, target: &Target) -> Result<Option<Guard>, Failure> {
    if user.is_in(MASTERS) {
        return Ok(None);
    }
    let allowed = user.node_name().and_then(|node| node_rule(node, verb, target));
    allowed.ok_or_else(|| refusal(user, verb, target))
}

/// The kinds that every agent reads: what its proxy, its DNS and its pods are made from. Secrets are not among them: an
/// agent has no use for them yet, and a stolen node certificate must not open them.
const READABLE: &[(&str, &[&str])] = &[
    ("", &["services", "endpoints", "nodes", "namespaces", "pods", "configmaps"]),
    ("discovery.k8s.io", &["endpointslices"]),
];
const NODE_LEASES: &str = "kube-node-lease";

/// What an agent may do; `None` forbids, `Some(None)` allows without condition.
fn node_rule(node: &str, verb: Verb, target: &Target) -> Option<Option<Guard>> {
    let KindInfo { group, plural, .. } = *target.resource.info;
    let named = || Some(Some(Guard::Named(node.to_owned())));
    match (group, plural, target.subresource, verb) {
        (_, _, None, Verb::Get | Verb::List | Verb::Watch) if reads(group, plural) => Some(None),
        ("", "nodes", None, Verb::Create | Verb::Update | Verb::Patch) => named(),
        ("", "nodes", Some(Subresource::Status), Verb::Get | Verb::Update | Verb::Patch) => named(),
        ("coordination.k8s.io", "leases", None, Verb::Create | Verb::Update | Verb::Patch)
            if target.namespace() == NODE_LEASES =>
        {
            named()
        }
        ("coordination.k8s.io", "leases", None, Verb::Get)
            if target.namespace() == NODE_LEASES && target.name() == node =>
        {
            Some(None)
        }
        ("", "pods", Some(Subresource::Status), Verb::Update | Verb::Patch)
        | ("", "pods", None, Verb::Delete) => Some(Some(Guard::OnNode(node.to_owned()))),
        ("" | "events.k8s.io", "events", None, Verb::Create | Verb::Update | Verb::Patch) => Some(None),
        _ => None,
    }
}

fn reads(group: &str, plural: &str) -> bool {
    READABLE.iter().any(|(g, plurals)| *g == group && plurals.contains(&plural))
}

/// `User "x" cannot create resource "services" in API group "" in the namespace "default"`.
fn refusal(user: &User, verb: Verb, target: &Target) -> Failure {
    let info = target.resource.info;
    let resource = match target.subresource {
        Some(subresource) => format!("{}/{}", info.plural, subresource_name(subresource)),
        None => info.plural.to_owned(),
    };
    let place = match &target.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let why = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
        user.name,
        verb.name(),
        info.group
    );
    Failure::forbidden(info, target.name(), &why)
}

/// May the user read a path that is not an object's (discovery, OpenAPI, metrics, health checks)?
pub(crate) fn authorize_path(user: &User, verb: &str, path: &str) -> Result<(), Failure> {
    let metrics = path.trim_end_matches('/') == "/metrics";
    if user.is_in(MASTERS) || (!user.is_in(BOOTSTRAPPERS) && !metrics) {
        return Ok(());
    }
    Err(Failure::forbidden_path(&user.name, verb, path))
}

/// May the user join? Whoever holds a join token, and the masters, who could make one.
pub(crate) fn authorize_join(user: &User, path: &str) -> Result<(), Failure> {
    if user.is_in(BOOTSTRAPPERS) || user.is_in(MASTERS) {
        return Ok(());
    }
    Err(Failure::forbidden_path(&user.name, "post", path))
}
