//! Pods: containers that share a network and a fate. After creation little of the spec can change.

mod qos;
mod table;
mod update;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus, Toleration};
use serde_json::Value;

use crate::behavior::{Behavior, Change, DeletionGrace, Warnings};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo, Subresource};
use crate::{pod_spec, warnings};

/// How long a pod stays on a node that is not ready or not reachable.
const EVICTION_SECONDS: i64 = 300;

pub(crate) struct Pods;

impl Behavior for Pods {
    type Object = Pod;

    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Subresource::Status, Subresource::Binding, Subresource::Eviction],
        create_on_update: false,
        unconditional_update: true,
    };
    const GENERATION: &'static [&'static str] = &["spec"];
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = table::COLUMNS;
    const SELECTABLE: &'static [&'static str] = &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] = &[
        ("status.conditions", &["type"]),
        ("status.podIPs", &["ip"]),
        ("status.hostIPs", &["ip"]),
        ("status.resourceClaimStatuses", &["name"]),
    ];
    const POD_SPEC: Option<&'static str> = Some("spec");
    const WARNINGS: Option<Warnings<Pod>> = Some(warnings);
    const DELETION_GRACE: Option<DeletionGrace<Pod>> = Some(deletion_grace_seconds);

    const DEFAULT: Option<Change<Pod>> = Some(|pod| {
        let spec = pod.spec.get_or_insert_default();
        spec.enable_service_links.get_or_insert(true);
        pod_spec::default(spec);
        pod_spec::default_requests(spec);
    });

    const PREPARE_CREATE: Option<Change<Pod>> = Some(|pod| {
        let spec = pod.spec.get_or_insert_default();
        tolerate_short_outages(spec);
        let class = qos::class(spec);
        pod.status = Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(class.to_owned()),
            ..PodStatus::default()
        });
    });

    fn validate(pod: &Pod, errors: &mut Vec<FieldError>) {
        let empty = PodSpec::default();
        pod_spec::validate(&Path::new("spec"), pod.spec.as_ref().unwrap_or(&empty), errors);
    }

    fn validate_update(new: &Pod, old: &Pod, errors: &mut Vec<FieldError>) {
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            update::validate(new, old, errors);
        }
    }

    fn validate_status(new: &Pod, old: &Pod, errors: &mut Vec<FieldError>) {
        update::validate_status(new, old, errors);
    }

    fn selectable(pod: &Pod) -> Vec<String> {
        let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
        let of_spec =
            |field: fn(&PodSpec) -> &Option<String>| spec.and_then(|s| field(s).clone()).unwrap_or_default();
        let of_status = |field: fn(&PodStatus) -> &Option<String>| {
            status.and_then(|s| field(s).clone()).unwrap_or_default()
        };
        vec![
            of_spec(|s| &s.node_name),
            of_spec(|s| &s.restart_policy),
            of_spec(|s| &s.scheduler_name),
            of_spec(|s| &s.service_account_name),
            spec.and_then(|s| s.host_network).unwrap_or(false).to_string(),
            of_status(|s| &s.phase),
            of_status(|s| &s.pod_ip),
            of_status(|s| &s.nominated_node_name),
        ]
    }

    fn cells(pod: &Pod, now: Timestamp) -> Vec<Value> {
        table::cells(pod, now)
    }
}

/// A pod without a node, or one that has ended, has nothing to wind down.
fn deletion_grace_seconds(pod: &Pod) -> Option<i64> {
    let spec = pod.spec.as_ref()?;
    let is_assigned = spec.node_name.as_ref().is_some_and(|n| !n.is_empty());
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    if !is_assigned || matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    spec.termination_grace_period_seconds.filter(|seconds| *seconds != 0)
}

/// Pods are changed by machines rather than by people: only their makers are warned.
fn warnings(new: &Pod, old: Option<&Pod>) -> Vec<String> {
    let Some(spec) = new.spec.as_ref().filter(|_| old.is_none()) else { return Vec::new() };
    let name = warnings::host_name(&new.metadata, "the Pod's hostname");
    name.into_iter().chain(pod_spec::warn::pod(&Path::Root, &new.metadata, spec)).collect()
}

fn tolerate_short_outages(spec: &mut PodSpec) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = spec.tolerations.get_or_insert_default();
        let is_covered = tolerations.iter().any(|t| {
            let fits_key = t.key.as_deref().is_none_or(|k| k.is_empty() || k == key);
            let fits_effect = t.effect.as_deref().is_none_or(|e| e.is_empty() || e == "NoExecute");
            fits_key && fits_effect
        });
        if !is_covered {
            tolerations.push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(EVICTION_SECONDS),
                value: None,
            });
        }
    }
}
