//! StatefulSets: pods with stable names, one after the other. Claims of volumes are refused: there are no volumes.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change, Warnings};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo, Subresource};
use crate::{pod_spec, rules, table, workload};

const MUTABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
    'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
    forbidden";
const NO_VOLUMES: &str = "persistent volume claims are not served by this cluster; leave the templates out, or use \
    volumes of other kinds in the pod template";

pub(crate) struct StatefulSets;

impl Behavior for StatefulSets {
    type Object = StatefulSet;

    const INFO: &'static KindInfo = &KindInfo {
        group: "apps",
        version: "v1",
        kind: "StatefulSet",
        plural: "statefulsets",
        singular: "statefulset",
        short_names: &["sts"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Subresource::Status, Subresource::Scale],
        create_on_update: false,
        unconditional_update: true,
    };
    const INITIAL_STATUS: Option<&'static str> = Some(r#"{"replicas":0,"availableReplicas":0}"#);
    const GENERATION: &'static [&'static str] = &["spec"];
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text("Ready", "Number of the pod with ready state"),
        table::AGE,
        workload::WIDE[0],
        workload::WIDE[1],
    ];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.conditions", &["type"])];
    const POD_SPEC: Option<&'static str> = Some("spec.template.spec");
    const WARNINGS: Option<Warnings<StatefulSet>> = Some(|new, old| {
        workload::warnings((&new.metadata, Some(&new.spec.template)), old.map(|old| &old.metadata))
    });

    const DEFAULT: Option<Change<StatefulSet>> = Some(|set| {
        let spec = &mut set.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.pod_management_policy.get_or_insert_with(|| "OrderedReady".to_owned());
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        retention.when_deleted.get_or_insert_with(|| "Retain".to_owned());
        retention.when_scaled.get_or_insert_with(|| "Retain".to_owned());
        let strategy = spec.update_strategy.get_or_insert_default();
        let kind = strategy.type_.get_or_insert_with(|| "RollingUpdate".to_owned());
        if kind == "RollingUpdate" {
            strategy.rolling_update.get_or_insert_default().partition.get_or_insert(0);
        }
        pod_spec::default(spec.template.spec.get_or_insert_default());
    });

    fn validate(set: &StatefulSet, errors: &mut Vec<FieldError>) {
        let spec = &set.spec;
        let counts = [
            ("replicas", spec.replicas),
            ("minReadySeconds", spec.min_ready_seconds),
            ("revisionHistoryLimit", spec.revision_history_limit),
        ];
        workload::counts(&counts, errors);
        validate_policies(spec, errors);
        workload::validate("statefulset", &spec.selector, Some(&spec.template), errors);
        if spec.volume_claim_templates.as_ref().is_some_and(|claims| !claims.is_empty()) {
            errors.push(FieldError::forbidden("spec.volumeClaimTemplates", NO_VOLUMES));
        }
    }

    fn validate_update(new: &StatefulSet, old: &StatefulSet, errors: &mut Vec<FieldError>) {
        let fixed = |spec: &StatefulSetSpec| {
            (
                spec.selector.clone(),
                spec.service_name.clone(),
                spec.pod_management_policy.clone(),
                spec.volume_claim_templates.clone(),
            )
        };
        if fixed(&new.spec) != fixed(&old.spec) {
            errors.push(FieldError::forbidden("spec", MUTABLE));
        }
    }

    fn cells(set: &StatefulSet, now: Timestamp) -> Vec<Value> {
        let spec = &set.spec;
        let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
        let [containers, images, _] = workload::wide_cells(Some(&spec.template), &spec.selector);
        vec![
            table::name(&set.metadata),
            json!(format!("{ready}/{}", spec.replicas.unwrap_or(0))),
            table::age(&set.metadata, now),
            containers,
            images,
        ]
    }
}

fn validate_policies(spec: &StatefulSetSpec, errors: &mut Vec<FieldError>) {
    let root = Path::new("spec");
    let policy = spec.pod_management_policy.as_deref().unwrap_or_default();
    rules::one_of(&root.child("podManagementPolicy"), policy, &["OrderedReady", "Parallel"], errors);
    let path = root.child("updateStrategy");
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let kind = strategy.type_.as_deref().unwrap_or_default();
    rules::one_of(&path.child("type"), kind, &["OnDelete", "RollingUpdate"], errors);
    let path = path.child("rollingUpdate");
    if let Some(rolling) = &strategy.rolling_update {
        if kind == "OnDelete" {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(path, rolling, detail));
        }
        rules::not_negative(&path.child("partition"), rolling.partition.map(i64::from), errors);
        let unavailable = path.child("maxUnavailable");
        if rules::share(&unavailable, rolling.max_unavailable.as_ref(), errors) == Some(0)
            && rolling.max_unavailable.is_some()
        {
            errors.push(FieldError::invalid(unavailable, &rolling.max_unavailable, "cannot be 0"));
        }
    }
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    rules::not_negative(&root.child("ordinals").child("start"), start.map(i64::from), errors);
    if let Some(service) = spec.service_name.as_deref().filter(|name| !name.is_empty()) {
        rules::subdomain(&root.child("serviceName"), service, errors);
    }
}
