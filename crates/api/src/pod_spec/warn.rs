//! What the author of a pod's spec is warned of: what is outdated, what is there twice, what selects nothing. Upstream's
//! reasons and words, as far as they are about what is accepted here.

mod container;
mod volumes;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelectorTerm, PodAffinityTerm, PodSpec, PodTemplateSpec, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::field::Path;
use crate::{names, warnings};

const OLD_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#),
    ("beta.kubernetes.io/os", r#"deprecated since v1.14; use "kubernetes.io/os" instead"#),
    (
        "failure-domain.beta.kubernetes.io/region",
        r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#,
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
    ),
    (
        "beta.kubernetes.io/instance-type",
        r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#,
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", r#"use "node-role.kubernetes.io/control-plane" instead"#),
];
const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    ("security.alpha.kubernetes.io/sysctls", r#"non-functional in v1.11+; use the "sysctls" field instead"#),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
];
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// Of a template, at `spec.template`.
pub(crate) fn template(template: &PodTemplateSpec) -> Vec<String> {
    let empty = ObjectMeta::default();
    let path = Path::new("spec");
    let meta = template.metadata.as_ref().unwrap_or(&empty);
    template.spec.as_ref().map(|spec| pod(&path.child("template"), meta, spec)).unwrap_or_default()
}

/// Of a pod or a template at a path.
pub(crate) fn pod(path: &Path<'_>, meta: &ObjectMeta, spec: &PodSpec) -> Vec<String> {
    let mut said = Vec::new();
    let own = path.child("spec");
    labels(&own, spec, &mut said);
    annotations(&path.child("metadata"), meta, &mut said);
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        volumes::of(&own.child("volumes").index(index), volume, &mut said);
    }
    twice(&own, spec, &mut said);
    container::all(path, meta, spec, &mut said);
    if let Some(affinity) = &spec.affinity {
        pod_affinity(&own.child("affinity"), affinity, &mut said);
    }
    let servers = spec.dns_config.as_ref().and_then(|c| c.nameservers.as_deref()).unwrap_or_default();
    let dns = own.child("dnsConfig");
    for (index, server) in servers.iter().enumerate() {
        said.extend(warnings::ip(&dns.child("nameservers").index(index), server));
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        said.extend(warnings::ip(&own.child("hostAliases").index(index).child("ip"), &alias.ip));
    }
    said
}

fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == key).map(|(_, why)| *why)
}

fn labels(path: &Path<'_>, spec: &PodSpec, said: &mut Vec<String>) {
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        let why = old_label(key);
        said.extend(why.map(|why| format!("{}: {why}", path.child("nodeSelector").key(key))));
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let affinity_path = path.child("affinity");
    let node = affinity_path.child("nodeAffinity");
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = node.child("requiredDuringSchedulingIgnoredDuringExecution");
    for (index, one) in required.iter().flat_map(|r| &r.node_selector_terms).enumerate() {
        term(&terms.child("nodeSelectorTerms").index(index), one, false, said);
    }
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    for (index, one) in preferred.into_iter().flatten().enumerate() {
        let path = node.child("preferredDuringSchedulingIgnoredDuringExecution");
        term(&path.index(index).child("preference"), &one.preference, true, said);
    }
    for (index, spread) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let path = path.child("topologySpreadConstraints");
        let (path, key) = (path.index(index), spread.topology_key.as_str());
        said.extend(old_label(key).map(|why| format!("{}: {key} is {why}", path.child("topologyKey"))));
        if spread.label_selector.is_none() {
            said.push(format!("{}: {NO_SELECTOR}", path.child("labelSelector")));
        }
    }
}

fn term(path: &Path<'_>, term: &NodeSelectorTerm, with_values: bool, said: &mut Vec<String>) {
    for (index, expression) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions");
        let (path, key) = (path.index(index), expression.key.as_str());
        said.extend(old_label(key).map(|why| format!("{}: {key} is {why}", path.child("key"))));
        for (index, value) in expression.values.iter().flatten().enumerate().filter(|_| with_values) {
            let field = path.child("values");
            let messages = names::label_value(value).into_iter();
            said.extend(messages.map(|m| format!("{}: {value} is invalid, {m}", field.index(index))));
        }
    }
}

fn annotations(path: &Path<'_>, meta: &ObjectMeta, said: &mut Vec<String>) {
    let path = path.child("annotations");
    for (key, why) in OLD_ANNOTATIONS {
        if meta.annotations.as_ref().is_some_and(|all| all.contains_key(*key)) {
            said.push(format!("{}: {why}", path.key(key)));
        }
    }
}

fn twice(path: &Path<'_>, spec: &PodSpec, said: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        if !seen.insert(&alias.ip) {
            let path = path.child("hostAliases");
            said.push(format!("{}: duplicate ip {:?}", path.index(index).child("ip"), alias.ip));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if !seen.insert(&secret.name) {
            let path = path.child("imagePullSecrets");
            said.push(format!("{}: duplicate name {:?}", path.index(index).child("name"), secret.name));
        }
    }
}

fn pod_affinity(path: &Path<'_>, affinity: &Affinity, said: &mut Vec<String>) {
    let with = affinity.pod_affinity.as_ref().map(|a| {
        (
            a.required_during_scheduling_ignored_during_execution.as_deref(),
            a.preferred_during_scheduling_ignored_during_execution.as_deref(),
        )
    });
    let without = affinity.pod_anti_affinity.as_ref().map(|a| {
        (
            a.required_during_scheduling_ignored_during_execution.as_deref(),
            a.preferred_during_scheduling_ignored_during_execution.as_deref(),
        )
    });
    for (field, terms) in [("podAffinity", with), ("podAntiAffinity", without)] {
        let Some((required, preferred)) = terms else { continue };
        selectors(&path.child(field), required.unwrap_or_default(), preferred.unwrap_or_default(), said);
    }
}

fn selectors(
    path: &Path<'_>,
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
    said: &mut Vec<String>,
) {
    let list = path.child("requiredDuringSchedulingIgnoredDuringExecution");
    for (index, _) in required.iter().enumerate().filter(|(_, term)| term.label_selector.is_none()) {
        said.push(format!("{}: {NO_SELECTOR}", list.index(index).child("labelSelector")));
    }
    let list = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    let empty = preferred.iter().enumerate().filter(|(_, t)| t.pod_affinity_term.label_selector.is_none());
    for (index, _) in empty {
        let path = list.index(index);
        said.push(format!("{}: {NO_SELECTOR}", path.child("podAffinityTerm").child("labelSelector")));
    }
}
