//! Roles: what may be done to the objects of one namespace.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::Role;
use serde_json::Value;

use crate::behavior::Behavior;
use crate::field::FieldError;
use crate::kind::{Column, KindInfo};
use crate::kinds::rbac;
use crate::names::NameRule;

pub(crate) struct Roles;

impl Behavior for Roles {
    type Object = Role;

    const INFO: &'static KindInfo = &rbac::info("Role", "roles", "role", true);
    const NAMES: NameRule = NameRule::PathSegment;
    const COLUMNS: &'static [Column] = rbac::ROLE_COLUMNS;

    fn validate(role: &Role, errors: &mut Vec<FieldError>) {
        rbac::rules(role.rules.as_ref(), true, errors);
    }

    fn cells(role: &Role, _now: Timestamp) -> Vec<Value> {
        rbac::role_cells(&role.metadata)
    }
}
