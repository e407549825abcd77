//! DaemonSets: one pod of a template on every node that fits.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change, Update, Warnings};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo, Subresource};
use crate::{pod_spec, rules, table, workload};

/// Counts the changes of the template. Old, but older clients still look for it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) struct DaemonSets;

impl Behavior for DaemonSets {
    type Object = DaemonSet;

    const INFO: &'static KindInfo = &KindInfo {
        group: "apps",
        version: "v1",
        kind: "DaemonSet",
        plural: "daemonsets",
        singular: "daemonset",
        short_names: &["ds"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Subresource::Status],
        create_on_update: false,
        unconditional_update: true,
    };
    const INITIAL_STATUS: Option<&'static str> = Some(
        r#"{"currentNumberScheduled":0,"desiredNumberScheduled":0,"numberMisscheduled":0,"numberReady":0}"#,
    );
    const GENERATION: &'static [&'static str] = &["spec"];
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::integer(
            "Desired",
            "The total number of nodes that should be running the daemon pod (including nodes correctly running the daemon pod). More info: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
        ),
        table::integer(
            "Current",
            "The number of nodes that are running at least 1 daemon pod and are supposed to run the daemon pod. More info: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
        ),
        table::integer(
            "Ready",
            "numberReady is the number of nodes that should be running the daemon pod and have one or more of the daemon pod running with a Ready Condition.",
        ),
        table::integer("Up-to-date", "The total number of nodes that are running updated daemon pod"),
        table::integer(
            "Available",
            "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running and available (ready for at least spec.minReadySeconds)",
        ),
        table::text(
            "Node Selector",
            "NodeSelector is a selector which must be true for the pod to fit on a node. Selector which must match a node's labels for the pod to be scheduled on that node. More info: https://kubernetes.io/docs/concepts/configuration/assign-pod-node/",
        ),
        table::AGE,
        workload::WIDE[0],
        workload::WIDE[1],
        workload::WIDE[2],
    ];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.conditions", &["type"])];
    const POD_SPEC: Option<&'static str> = Some("spec.template.spec");
    const WARNINGS: Option<Warnings<DaemonSet>> = Some(|new, old| {
        workload::warnings((&new.metadata, Some(&new.spec.template)), old.map(|old| &old.metadata))
    });

    const DEFAULT: Option<Change<DaemonSet>> = Some(|set| {
        let spec = &mut set.spec;
        spec.revision_history_limit.get_or_insert(10);
        let strategy = spec.update_strategy.get_or_insert_default();
        let kind = strategy.type_.get_or_insert_with(|| "RollingUpdate".to_owned());
        if kind == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        pod_spec::default(spec.template.spec.get_or_insert_default());
    });

    const PREPARE_CREATE: Option<Change<DaemonSet>> = Some(|set| count_templates(set, 1));

    const PREPARE_UPDATE: Option<Update<DaemonSet>> = Some(|new, old| {
        let before = old.metadata.annotations.as_ref().and_then(|a| a.get(TEMPLATE_GENERATION));
        let before = before.and_then(|text| text.parse().ok()).unwrap_or(0_i64);
        count_templates(new, before + i64::from(new.spec.template != old.spec.template));
    });

    fn validate(set: &DaemonSet, errors: &mut Vec<FieldError>) {
        let spec = &set.spec;
        let counts = [
            ("minReadySeconds", spec.min_ready_seconds),
            ("revisionHistoryLimit", spec.revision_history_limit),
        ];
        workload::counts(&counts, errors);
        workload::validate("daemonset", &spec.selector, Some(&spec.template), errors);
        validate_strategy(spec, errors);
    }

    fn validate_update(new: &DaemonSet, old: &DaemonSet, errors: &mut Vec<FieldError>) {
        if new.spec.selector != old.spec.selector {
            errors.push(FieldError::invalid("spec.selector", &new.spec.selector, rules::IMMUTABLE));
        }
    }

    fn cells(set: &DaemonSet, now: Timestamp) -> Vec<Value> {
        let spec = &set.spec;
        let status = set.status.clone().unwrap_or_default();
        let pod = spec.template.spec.as_ref();
        let mut cells = vec![
            table::name(&set.metadata),
            json!(status.desired_number_scheduled),
            json!(status.current_number_scheduled),
            json!(status.number_ready),
            json!(status.updated_number_scheduled.unwrap_or(0)),
            json!(status.number_available.unwrap_or(0)),
            json!(table::labels(pod.and_then(|pod| pod.node_selector.as_ref()))),
            table::age(&set.metadata, now),
        ];
        cells.extend(workload::wide_cells(Some(&spec.template), &spec.selector));
        cells
    }
}

fn count_templates(set: &mut DaemonSet, count: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_GENERATION.to_owned(), count.to_string());
}

fn validate_strategy(spec: &DaemonSetSpec, errors: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    let path = root.child("updateStrategy");
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let kind = strategy.type_.as_deref().unwrap_or_default();
    rules::one_of(&path.child("type"), kind, &["OnDelete", "RollingUpdate"], errors);
    if kind != "RollingUpdate" {
        return;
    }
    let path = path.child("rollingUpdate");
    let Some(rolling) = &strategy.rolling_update else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let (surge, unavailable) = (rolling.max_surge.as_ref(), rolling.max_unavailable.as_ref());
    let unavailable_path = path.child("maxUnavailable");
    let missing = rules::share(&unavailable_path, unavailable, errors);
    let extra = rules::share(&path.child("maxSurge"), surge, errors);
    match (missing, extra) {
        (Some(0), Some(0)) => {
            let detail = "cannot be 0 when maxSurge is 0";
            errors.push(FieldError::invalid(unavailable_path, unavailable, detail));
        }
        (Some(1..), Some(1..)) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(path.child("maxSurge"), surge, detail));
        }
        _ => {}
    }
}
