//! PodDisruptionBudgets: how many pods of a set may be evicted at a time.

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::behavior::Behavior;
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo, Subresource};
use crate::{rules, selector, table};

pub(crate) struct PodDisruptionBudgets;

impl Behavior for PodDisruptionBudgets {
    type Object = PodDisruptionBudget;

    const INFO: &'static KindInfo = &KindInfo {
        group: "policy",
        version: "v1",
        kind: "PodDisruptionBudget",
        plural: "poddisruptionbudgets",
        singular: "poddisruptionbudget",
        short_names: &["pdb"],
        categories: &[],
        namespaced: true,
        subresources: &[Subresource::Status],
        create_on_update: false,
        unconditional_update: false,
    };
    const INITIAL_STATUS: Option<&'static str> =
        Some(r#"{"currentHealthy":0,"desiredHealthy":0,"disruptionsAllowed":0,"expectedPods":0}"#);
    const GENERATION: &'static [&'static str] = &["spec"];
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text("Min Available", "The minimum number of pods that must be available."),
        table::text("Max Unavailable", "The maximum number of pods that may be unavailable."),
        table::integer(
            "Allowed Disruptions",
            "Calculated number of pods that may be disrupted at this time.",
        ),
        table::AGE,
    ];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.conditions", &["type"])];

    fn validate(budget: &PodDisruptionBudget, errors: &mut Vec<FieldError>) {
        let spec = budget.spec.clone().unwrap_or_default();
        let root = Path::new("spec");
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid(root, &spec, detail));
        }
        rules::share(&root.child("minAvailable"), spec.min_available.as_ref(), errors);
        rules::share(&root.child("maxUnavailable"), spec.max_unavailable.as_ref(), errors);
        if let Some(wanted) = &spec.selector {
            selector::validate(&root.child("selector"), wanted, errors);
        }
        if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
            let path = root.child("unhealthyPodEvictionPolicy");
            rules::one_of(&path, policy, &["AlwaysAllow", "IfHealthyBudget"], errors);
        }
    }

    fn validate_status(new: &PodDisruptionBudget, _: &PodDisruptionBudget, errors: &mut Vec<FieldError>) {
        let status = new.status.clone().unwrap_or_default();
        let root = Path::new("status");
        for (field, number) in [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ] {
            rules::not_negative(&root.child(field), number.map(i64::from), errors);
        }
    }

    fn cells(budget: &PodDisruptionBudget, now: Timestamp) -> Vec<Value> {
        let spec = budget.spec.clone().unwrap_or_default();
        let shown = |value: Option<IntOrString>| match value {
            Some(IntOrString::Int(number)) => number.to_string(),
            Some(IntOrString::String(text)) => text,
            None => "N/A".to_owned(),
        };
        let allowed = budget.status.as_ref().and_then(|status| status.disruptions_allowed);
        vec![
            table::name(&budget.metadata),
            json!(shown(spec.min_available)),
            json!(shown(spec.max_unavailable)),
            json!(allowed.unwrap_or_default()),
            table::age(&budget.metadata, now),
        ]
    }
}
