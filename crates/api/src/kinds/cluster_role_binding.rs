//! ClusterRoleBindings: to whom a role is given everywhere.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use serde_json::Value;

use crate::behavior::{Behavior, Change};
use crate::field::FieldError;
use crate::kind::{Column, KindInfo};
use crate::kinds::rbac;
use crate::names::NameRule;

pub(crate) struct ClusterRoleBindings;

impl Behavior for ClusterRoleBindings {
    type Object = ClusterRoleBinding;

    const INFO: &'static KindInfo =
        &rbac::info("ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding", false);
    const NAMES: NameRule = NameRule::PathSegment;
    const COLUMNS: &'static [Column] = &rbac::binding_columns(
        "Users in the clusterRoleBinding",
        "Groups in the clusterRoleBinding",
        "ServiceAccounts in the clusterRoleBinding",
    );

    const DEFAULT: Option<Change<ClusterRoleBinding>> =
        Some(|binding| rbac::default_groups(&mut binding.role_ref, binding.subjects.as_mut()));

    fn validate(binding: &ClusterRoleBinding, errors: &mut Vec<FieldError>) {
        rbac::role_ref(&binding.role_ref, &["ClusterRole"], errors);
        rbac::subjects(binding.subjects.as_ref(), false, errors);
    }

    fn validate_update(new: &ClusterRoleBinding, old: &ClusterRoleBinding, errors: &mut Vec<FieldError>) {
        rbac::role_ref_stays(&new.role_ref, &old.role_ref, errors);
    }

    fn cells(binding: &ClusterRoleBinding, now: Timestamp) -> Vec<Value> {
        rbac::binding_cells(&binding.metadata, &binding.role_ref, binding.subjects.as_ref(), now)
    }
}
