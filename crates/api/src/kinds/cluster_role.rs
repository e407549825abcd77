//! ClusterRoles: what may be done anywhere, or, with an aggregation rule, the sum of other ClusterRoles.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::Value;

use crate::behavior::Behavior;
use crate::field::FieldError;
use crate::kind::{Column, KindInfo};
use crate::kinds::rbac;
use crate::names::NameRule;

pub(crate) struct ClusterRoles;

impl Behavior for ClusterRoles {
    type Object = ClusterRole;

    const INFO: &'static KindInfo = &rbac::info("ClusterRole", "clusterroles", "clusterrole", false);
    const NAMES: NameRule = NameRule::PathSegment;
    const COLUMNS: &'static [Column] = rbac::ROLE_COLUMNS;

    fn validate(role: &ClusterRole, errors: &mut Vec<FieldError>) {
        rbac::rules(role.rules.as_ref(), false, errors);
        let Some(aggregation) = &role.aggregation_rule else { return };
        if aggregation.cluster_role_selectors.as_ref().is_none_or(Vec::is_empty) {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.push(FieldError::required("aggregationRule.clusterRoleSelectors", detail));
        }
    }

    fn cells(role: &ClusterRole, _now: Timestamp) -> Vec<Value> {
        rbac::role_cells(&role.metadata)
    }
}
