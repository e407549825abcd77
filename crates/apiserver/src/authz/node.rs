//! What an agent may do: read what its proxy, its DNS and its pods are made from, write its own Node, Lease and pods,
//! and read the Secrets and ConfigMaps that its pods name. A stolen node certificate opens nothing else.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use serde::Deserialize;

use super::{Guard, Objects};

/// The kinds that every agent reads.
const READABLE: &[(&str, &[&str])] = &[
    ("", &["services", "endpoints", "nodes", "namespaces", "pods"]),
    ("discovery.k8s.io", &["endpointslices"]),
];
const NODE_LEASES: &str = "kube-node-lease";
pub(super) const SECRETS: &str = "secrets";
pub(super) const CONFIG_MAPS: &str = "configmaps";

/// What an agent may do; `None` says nothing of it, `Some(None)` allows without condition.
pub(super) fn rule(node: &str, objects: &Objects<'_>, references: &References) -> Option<Option<Guard>> {
    let Objects { verb, group, resource, subresource, namespace, name } = *objects;
    let named = || (name.is_empty() || name == node).then(|| Some(Guard::Named(node.to_owned())));
    match (group, resource, subresource, verb) {
        (_, _, "", "get" | "list" | "watch") if reads(group, resource) => Some(None),
        ("", "nodes", "", "create" | "update" | "patch")
        | ("", "nodes", "status", "get" | "update" | "patch") => named(),
        ("coordination.k8s.io", "leases", "", "create" | "update" | "patch") if namespace == NODE_LEASES => {
            named()
        }
        ("coordination.k8s.io", "leases", "", "get") if namespace == NODE_LEASES && name == node => {
            Some(None)
        }
        ("", "pods", "status", "update" | "patch") | ("", "pods", "", "delete") => {
            Some(Some(Guard::OnNode(node.to_owned())))
        }
        ("" | "events.k8s.io", "events", "", "create" | "update" | "patch") => Some(None),
        // Which ones it may ask for is the kind's to say.
        ("certificates.k8s.io", "certificatesigningrequests", "", "create" | "get" | "list" | "watch") => {
            Some(None)
        }
        ("", SECRETS | CONFIG_MAPS, "", "get") => {
            references.has(node, resource, namespace, name).then_some(None)
        }
        _ => None,
    }
}

fn reads(group: &str, resource: &str) -> bool {
    READABLE.iter().any(|(g, resources)| *g == group && resources.contains(&resource))
}

/// One thing that a pod names: the kind's plural, and the name.
type Named = (&'static str, String);

/// Which Secrets and ConfigMaps the pods of each node name.
#[derive(Default)]
pub(super) struct References(RwLock<Tables>);

#[derive(Default)]
struct Tables {
    /// By the pod's key in the store: its node, its namespace and what it names.
    pods: HashMap<String, Pod>,
    /// By node and namespace, the pods that name something.
    nodes: HashMap<String, HashMap<String, HashSet<String>>>,
}

struct Pod {
    node: String,
    namespace: String,
    names: HashSet<Named>,
}

impl References {
    fn has(&self, node: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let pods = tables.nodes.get(node).and_then(|namespaces| namespaces.get(namespace));
        let named = |pod: &Pod| pod.names.iter().any(|(r, n)| *r == resource && n == name);
        pods.into_iter().flatten().filter_map(|key| tables.pods.get(key)).any(named)
    }

    /// Takes a pod as it is stored. One that is bound to no node or names nothing is not kept.
    pub(super) fn apply(&self, key: &str, namespace: &str, value: &[u8]) {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tables.remove(key);
        let Ok(PodObject { spec }) = serde_json::from_slice::<PodObject<'_>>(value) else {
            return tracing::warn!(key, "a stored pod cannot be read; its node cannot read what it names");
        };
        let names = spec.names();
        if spec.node_name.is_empty() || names.is_empty() {
            return;
        }
        let pod = Pod { node: spec.node_name.into_owned(), namespace: namespace.to_owned(), names };
        let namespaces = tables.nodes.entry(pod.node.clone()).or_default();
        namespaces.entry(pod.namespace.clone()).or_default().insert(key.to_owned());
        tables.pods.insert(key.to_owned(), pod);
    }

    pub(super) fn delete(&self, key: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Knows what other references know, and nothing else.
    pub(super) fn replace(&self, other: Self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            other.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    }
}

impl Tables {
    fn remove(&mut self, key: &str) {
        let Some(Pod { node, namespace, .. }) = self.pods.remove(key) else { return };
        let Some(namespaces) = self.nodes.get_mut(&node) else { return };
        if let Some(pods) = namespaces.get_mut(&namespace) {
            pods.remove(key);
            if pods.is_empty() {
                namespaces.remove(&namespace);
            }
        }
        if namespaces.is_empty() {
            self.nodes.remove(&node);
        }
    }
}

/// What of a pod says what it names. Everything else is skipped while reading.
#[derive(Deserialize)]
struct PodObject<'a> {
    #[serde(borrow, default)]
    spec: Spec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec<'a> {
    #[serde(borrow)]
    node_name: Cow<'a, str>,
    #[serde(borrow)]
    containers: Vec<Container<'a>>,
    #[serde(borrow)]
    init_containers: Vec<Container<'a>>,
    #[serde(borrow)]
    ephemeral_containers: Vec<Container<'a>>,
    #[serde(borrow)]
    volumes: Vec<Volume<'a>>,
    #[serde(borrow)]
    image_pull_secrets: Vec<Reference<'a>>,
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow, default, alias = "secretName")]
    name: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container<'a> {
    #[serde(borrow)]
    env: Vec<Variable<'a>>,
    #[serde(borrow)]
    env_from: Vec<Source<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Variable<'a> {
    #[serde(borrow)]
    value_from: Option<Source<'a>>,
}

/// Where a variable, a set of variables or a volume comes from, by whichever name the field has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    #[serde(borrow, alias = "secretRef", alias = "secret")]
    secret_key_ref: Option<Reference<'a>>,
    #[serde(borrow, alias = "configMapRef", alias = "configMap")]
    config_map_key_ref: Option<Reference<'a>>,
}

#[derive(Deserialize)]
struct Volume<'a> {
    #[serde(borrow, flatten)]
    source: Source<'a>,
    #[serde(borrow)]
    projected: Option<Projected<'a>>,
}

#[derive(Deserialize)]
struct Projected<'a> {
    #[serde(borrow, default)]
    sources: Vec<Source<'a>>,
}

impl Spec<'_> {
    fn names(&self) -> HashSet<Named> {
        let containers =
            self.containers.iter().chain(&self.init_containers).chain(&self.ephemeral_containers);
        let from_containers = containers.flat_map(|container| {
            let single = container.env.iter().filter_map(|variable| variable.value_from.as_ref());
            single.chain(&container.env_from)
        });
        let from_volumes = self.volumes.iter().flat_map(|volume| {
            std::iter::once(&volume.source).chain(volume.projected.iter().flat_map(|p| &p.sources))
        });
        let named = |resource, reference: &Reference<'_>| (resource, reference.name.clone().into_owned());
        from_containers
            .chain(from_volumes)
            .flat_map(|source| {
                let secret = source.secret_key_ref.as_ref().map(|r| named(SECRETS, r));
                secret.into_iter().chain(source.config_map_key_ref.as_ref().map(|r| named(CONFIG_MAPS, r)))
            })
            .chain(self.image_pull_secrets.iter().map(|r| named(SECRETS, r)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(node: &str) -> Vec<u8> {
        json!({ "spec": { "nodeName": node,
            "containers": [{ "name": "c",
                "env": [{ "name": "A", "value": "1" },
                    { "name": "B", "valueFrom": { "secretKeyRef": { "name": "one", "key": "k" } } },
                    { "name": "C", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }],
                "envFrom": [{ "configMapRef": { "name": "two" } }] }],
            "initContainers": [{ "envFrom": [{ "secretRef": { "name": "three" } }] }],
            "imagePullSecrets": [{ "name": "four" }],
            "volumes": [{ "name": "v", "secret": { "secretName": "five" } },
                { "name": "w", "configMap": { "name": "six" } },
                { "name": "x", "projected": { "sources": [{ "secret": { "name": "seven" } }] } },
                { "name": "y", "emptyDir": {} }] } })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_node_reads_what_its_pods_name_while_they_are_its_own() {
        let references = References::default();
        references.apply("/p", "ns", &pod("n1"));
        let secrets = ["one", "three", "four", "five", "seven"];
        assert!(secrets.iter().all(|name| references.has("n1", SECRETS, "ns", name)));
        assert!(["two", "six"].iter().all(|name| references.has("n1", CONFIG_MAPS, "ns", name)));
        for (node, resource, namespace, name) in [
            ("n2", SECRETS, "ns", "one"),
            ("n1", CONFIG_MAPS, "ns", "one"),
            ("n1", SECRETS, "other", "one"),
            ("n1", SECRETS, "ns", ""),
        ] {
            assert!(!references.has(node, resource, namespace, name), "{node} {resource} {namespace} {name}");
        }
        references.apply("/p", "ns", &pod("n2"));
        assert!(!references.has("n1", SECRETS, "ns", "one") && references.has("n2", SECRETS, "ns", "one"));
        references.delete("/p");
        assert!(!references.has("n2", SECRETS, "ns", "one"));
        references.apply("/q", "ns", b"{\"spec\":{\"nodeName\":\"n1\"}}");
        assert!(references.0.read().unwrap().pods.is_empty(), "pods that name nothing are not kept");
    }
}
