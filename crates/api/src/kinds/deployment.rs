//! Deployments: ReplicaSets replaced one by another when the template changes.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change, Warnings};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo, Subresource};
use crate::{pod_spec, rules, table, workload};

pub(crate) struct Deployments;

impl Behavior for Deployments {
    type Object = Deployment;

    const INFO: &'static KindInfo = &KindInfo {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Subresource::Status, Subresource::Scale],
        create_on_update: false,
        unconditional_update: true,
    };
    const INITIAL_STATUS: Option<&'static str> = Some("{}");
    const GENERATION: &'static [&'static str] = &["spec"];
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text("Ready", "Number of the pod with ready state"),
        table::text(
            "Up-to-date",
            "Total number of non-terminating pods targeted by this deployment that have the desired template spec.",
        ),
        table::text(
            "Available",
            "Total number of available non-terminating pods (ready for at least minReadySeconds) targeted by this deployment.",
        ),
        table::AGE,
        workload::WIDE[0],
        workload::WIDE[1],
        workload::WIDE[2],
    ];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.conditions", &["type"])];
    const POD_SPEC: Option<&'static str> = Some("spec.template.spec");
    const WARNINGS: Option<Warnings<Deployment>> = Some(|new, old| {
        workload::warnings((&new.metadata, Some(&new.spec.template)), old.map(|old| &old.metadata))
    });

    const DEFAULT: Option<Change<Deployment>> = Some(|deployment| {
        let spec = &mut deployment.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        let strategy = spec.strategy.get_or_insert_default();
        let kind = strategy.type_.get_or_insert_with(|| "RollingUpdate".to_owned());
        if kind == "RollingUpdate" {
            let quarter = || IntOrString::String("25%".to_owned());
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        pod_spec::default(spec.template.spec.get_or_insert_default());
    });

    fn validate(deployment: &Deployment, errors: &mut Vec<FieldError>) {
        let spec = &deployment.spec;
        let counts = [
            ("replicas", spec.replicas),
            ("minReadySeconds", spec.min_ready_seconds),
            ("revisionHistoryLimit", spec.revision_history_limit),
            ("progressDeadlineSeconds", spec.progress_deadline_seconds),
        ];
        workload::counts(&counts, errors);
        if let Some(deadline) = spec.progress_deadline_seconds.filter(|s| *s >= 0)
            && deadline <= spec.min_ready_seconds.unwrap_or(0)
        {
            let detail = "must be greater than minReadySeconds";
            errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, detail));
        }
        workload::validate("deployment", &spec.selector, Some(&spec.template), errors);
        if let Some(strategy) = &spec.strategy {
            validate_strategy(strategy, errors);
        }
    }

    fn validate_update(new: &Deployment, old: &Deployment, errors: &mut Vec<FieldError>) {
        if new.spec.selector != old.spec.selector {
            errors.push(FieldError::invalid("spec.selector", &new.spec.selector, rules::IMMUTABLE));
        }
    }

    fn cells(deployment: &Deployment, now: Timestamp) -> Vec<Value> {
        let spec = &deployment.spec;
        let status = deployment.status.as_ref();
        let ready = status.and_then(|s| s.ready_replicas).unwrap_or(0);
        let mut cells = vec![
            table::name(&deployment.metadata),
            json!(format!("{ready}/{}", spec.replicas.unwrap_or(0))),
            json!(status.and_then(|s| s.updated_replicas).unwrap_or(0)),
            json!(status.and_then(|s| s.available_replicas).unwrap_or(0)),
            table::age(&deployment.metadata, now),
        ];
        cells.extend(workload::wide_cells(Some(&spec.template), &spec.selector));
        cells
    }
}

fn validate_strategy(strategy: &DeploymentStrategy, errors: &mut Vec<FieldError>) {
    let (spec, kind) = (Path::new("spec"), strategy.type_.as_deref().unwrap_or_default());
    let path = spec.child("strategy");
    rules::one_of(&path.child("type"), kind, &["Recreate", "RollingUpdate"], errors);
    let path = path.child("rollingUpdate");
    let Some(rolling) = &strategy.rolling_update else {
        if kind == "RollingUpdate" {
            errors.push(FieldError::required(path, "this should be defaulted and never be nil"));
        }
        return;
    };
    if kind == "Recreate" {
        let detail = "may not be specified when strategy `type` is 'Recreate'";
        errors.push(FieldError::forbidden(path, detail));
        return;
    }
    let (surge, unavailable) = (rolling.max_surge.as_ref(), rolling.max_unavailable.as_ref());
    let unavailable_path = path.child("maxUnavailable");
    let missing = rules::amount(&unavailable_path, unavailable, errors);
    let extra = rules::amount(&path.child("maxSurge"), surge, errors);
    if missing == Some(0) && extra == Some(0) {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(unavailable_path, unavailable, detail));
    }
    if missing.is_some_and(|n| n > 100) && matches!(unavailable, Some(IntOrString::String(_))) {
        errors.push(FieldError::invalid(unavailable_path, unavailable, "must not be greater than 100%"));
    }
}
