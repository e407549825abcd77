//! RoleBindings: to whom a role is given in one namespace.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use serde_json::Value;

use crate::behavior::{Behavior, Change};
use crate::field::FieldError;
use crate::kind::{Column, KindInfo};
use crate::kinds::rbac;
use crate::names::NameRule;

pub(crate) struct RoleBindings;

impl Behavior for RoleBindings {
    type Object = RoleBinding;

    const INFO: &'static KindInfo = &rbac::info("RoleBinding", "rolebindings", "rolebinding", true);
    const NAMES: NameRule = NameRule::PathSegment;
    const COLUMNS: &'static [Column] = &rbac::binding_columns(
        "Users in the roleBinding",
        "Groups in the roleBinding",
        "ServiceAccounts in the roleBinding",
    );

    const DEFAULT: Option<Change<RoleBinding>> =
        Some(|binding| rbac::default_groups(&mut binding.role_ref, binding.subjects.as_mut()));

    fn validate(binding: &RoleBinding, errors: &mut Vec<FieldError>) {
        rbac::role_ref(&binding.role_ref, &["Role", "ClusterRole"], errors);
        rbac::subjects(binding.subjects.as_ref(), true, errors);
    }

    fn validate_update(new: &RoleBinding, old: &RoleBinding, errors: &mut Vec<FieldError>) {
        rbac::role_ref_stays(&new.role_ref, &old.role_ref, errors);
    }

    fn cells(binding: &RoleBinding, now: Timestamp) -> Vec<Value> {
        rbac::binding_cells(&binding.metadata, &binding.role_ref, binding.subjects.as_ref(), now)
    }
}
