//! ReplicaSets: so many pods of one template.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change, Warnings};
use crate::field::FieldError;
use crate::kind::{Column, KindInfo, Subresource};
use crate::{pod_spec, rules, table, workload};

pub(crate) struct ReplicaSets;

impl Behavior for ReplicaSets {
    type Object = ReplicaSet;

    const INFO: &'static KindInfo = &KindInfo {
        group: "apps",
        version: "v1",
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Subresource::Status, Subresource::Scale],
        create_on_update: false,
        unconditional_update: true,
    };
    const INITIAL_STATUS: Option<&'static str> = Some(r#"{"replicas":0}"#);
    const GENERATION: &'static [&'static str] = &["spec"];
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::integer(
            "Desired",
            "Replicas is the number of desired pods. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
        ),
        table::integer(
            "Current",
            "Replicas is the most recently observed number of non-terminating pods. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
        ),
        table::integer(
            "Ready",
            "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.",
        ),
        table::AGE,
        workload::WIDE[0],
        workload::WIDE[1],
        workload::WIDE[2],
    ];
    const SELECTABLE: &'static [&'static str] = &["status.replicas"];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.conditions", &["type"])];
    const POD_SPEC: Option<&'static str> = Some("spec.template.spec");
    const WARNINGS: Option<Warnings<ReplicaSet>> = Some(|new, old| {
        workload::warnings((&new.metadata, new.spec.template.as_ref()), old.map(|old| &old.metadata))
    });

    const DEFAULT: Option<Change<ReplicaSet>> = Some(|set| {
        let spec = &mut set.spec;
        spec.replicas.get_or_insert(1);
        if let Some(template) = &mut spec.template {
            pod_spec::default(template.spec.get_or_insert_default());
        }
    });

    fn validate(set: &ReplicaSet, errors: &mut Vec<FieldError>) {
        let spec = &set.spec;
        let counts = [("replicas", spec.replicas), ("minReadySeconds", spec.min_ready_seconds)];
        workload::counts(&counts, errors);
        workload::validate("ReplicaSet", &spec.selector, spec.template.as_ref(), errors);
    }

    fn validate_update(new: &ReplicaSet, old: &ReplicaSet, errors: &mut Vec<FieldError>) {
        if new.spec.selector != old.spec.selector {
            errors.push(FieldError::invalid("spec.selector", &new.spec.selector, rules::IMMUTABLE));
        }
    }

    fn selectable(set: &ReplicaSet) -> Vec<String> {
        vec![set.status.as_ref().map_or(0, |s| s.replicas).to_string()]
    }

    fn cells(set: &ReplicaSet, now: Timestamp) -> Vec<Value> {
        let spec = &set.spec;
        let status = set.status.as_ref();
        let mut cells = vec![
            table::name(&set.metadata),
            json!(spec.replicas.unwrap_or(0)),
            json!(status.map_or(0, |s| s.replicas)),
            json!(status.and_then(|s| s.ready_replicas).unwrap_or(0)),
            table::age(&set.metadata, now),
        ];
        cells.extend(workload::wide_cells(spec.template.as_ref(), &spec.selector));
        cells
    }
}
