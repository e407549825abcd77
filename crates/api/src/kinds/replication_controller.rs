//! ReplicationControllers: what ReplicaSets were before, with a selector of plain labels.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change, Warnings};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo, Subresource};
use crate::{metadata, pod_spec, table, workload};

pub(crate) struct ReplicationControllers;

impl Behavior for ReplicationControllers {
    type Object = ReplicationController;

    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        singular: "replicationcontroller",
        short_names: &["rc"],
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
            "Replicas is the number of desired replicas. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller",
        ),
        table::integer(
            "Current",
            "Replicas is the most recently observed number of replicas. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller#what-is-a-replicationcontroller",
        ),
        table::integer("Ready", "The number of ready replicas for this replication controller."),
        table::AGE,
        workload::WIDE[0],
        workload::WIDE[1],
        workload::WIDE[2],
    ];
    const SELECTABLE: &'static [&'static str] = &["status.replicas"];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.conditions", &["type"])];
    const POD_SPEC: Option<&'static str> = Some("spec.template.spec");
    const WARNINGS: Option<Warnings<ReplicationController>> = Some(|new, old| {
        workload::warnings(
            (&new.metadata, new.spec.as_ref().and_then(|s| s.template.as_ref())),
            old.map(|old| &old.metadata),
        )
    });

    const DEFAULT: Option<Change<ReplicationController>> = Some(|controller| {
        let spec = controller.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        let Some(template) = &mut spec.template else { return };
        pod_spec::default(template.spec.get_or_insert_default());
        let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone());
        let Some(labels) = labels.filter(|labels| !labels.is_empty()) else { return };
        if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
            spec.selector = Some(labels.clone());
        }
        if controller.metadata.labels.as_ref().is_none_or(|labels| labels.is_empty()) {
            controller.metadata.labels = Some(labels);
        }
    });

    fn validate(controller: &ReplicationController, errors: &mut Vec<FieldError>) {
        let spec = controller.spec.clone().unwrap_or_default();
        let counts = [("minReadySeconds", spec.min_ready_seconds), ("replicas", spec.replicas)];
        workload::counts(&counts, errors);
        let root = Path::new("spec");
        let selector = spec.selector.unwrap_or_default();
        if selector.is_empty() {
            errors.push(FieldError::required(root.child("selector"), ""));
        }
        metadata::labels(&root.child("selector"), Some(&selector), errors);
        workload::validate_template(
            "ReplicationController",
            &selector_of(selector),
            spec.template.as_ref(),
            errors,
        );
    }

    fn selectable(controller: &ReplicationController) -> Vec<String> {
        vec![controller.status.as_ref().map_or(0, |status| status.replicas).to_string()]
    }

    fn cells(controller: &ReplicationController, now: Timestamp) -> Vec<Value> {
        let spec = controller.spec.clone().unwrap_or_default();
        let status = controller.status.as_ref();
        let mut cells = vec![
            table::name(&controller.metadata),
            json!(spec.replicas.unwrap_or(0)),
            json!(status.map_or(0, |status| status.replicas)),
            json!(status.and_then(|status| status.ready_replicas).unwrap_or(0)),
            table::age(&controller.metadata, now),
        ];
        let selector = selector_of(spec.selector.unwrap_or_default());
        cells.extend(workload::wide_cells(spec.template.as_ref(), &selector));
        cells
    }
}

fn selector_of(labels: std::collections::BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels).filter(|labels| !labels.is_empty()), match_expressions: None }
}
