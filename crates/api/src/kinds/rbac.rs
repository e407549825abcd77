//! What the four kinds of RBAC share: names, rules, references to roles, subjects, and their columns.

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo};
use crate::names::NameRule;
use crate::table;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
const SERVICE_ACCOUNT: &str = "ServiceAccount";
const USER: &str = "User";
const SUBJECT_GROUP: &str = "Group";

pub(crate) const fn info(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    namespaced: bool,
) -> KindInfo {
    KindInfo {
        group: GROUP,
        version: "v1",
        kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        namespaced,
        subresources: &[],
        create_on_update: true,
        unconditional_update: true,
    }
}

pub(crate) const ROLE_COLUMNS: &[Column] =
    &[table::NAME, Column { name: "Created At", kind: "date", ..table::AGE }];

pub(crate) fn role_cells(meta: &ObjectMeta) -> Vec<Value> {
    let created =
        meta.creation_timestamp.as_ref().map(|time| time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    vec![table::name(meta), json!(created.unwrap_or_default())]
}

/// The columns of a kind of binding.
pub(crate) const fn binding_columns(
    users: &'static str,
    groups: &'static str,
    accounts: &'static str,
) -> [Column; 6] {
    [
        table::NAME,
        table::text(
            "Role",
            "RoleRef can only reference a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error. This field is immutable.",
        ),
        table::AGE,
        table::wide("Users", users),
        table::wide("Groups", groups),
        table::wide("ServiceAccounts", accounts),
    ]
}

pub(crate) fn binding_cells(
    meta: &ObjectMeta,
    role: &RoleRef,
    subjects: Option<&Vec<Subject>>,
    now: jiff::Timestamp,
) -> Vec<Value> {
    let of_kind = |kind: &str| {
        let named = subjects.into_iter().flatten().filter(|s| s.kind == kind);
        let names: Vec<String> = named
            .map(|subject| match &subject.namespace {
                Some(namespace) if kind == SERVICE_ACCOUNT => format!("{namespace}/{}", subject.name),
                _ => subject.name.clone(),
            })
            .collect();
        json!(names.join(", "))
    };
    vec![
        table::name(meta),
        json!(format!("{}/{}", role.kind, role.name)),
        table::age(meta, now),
        of_kind(USER),
        of_kind(SUBJECT_GROUP),
        of_kind(SERVICE_ACCOUNT),
    ]
}

/// The rules of a role.
pub(crate) fn rules(rules: Option<&Vec<PolicyRule>>, namespaced: bool, errors: &mut Vec<FieldError>) {
    let path = Path::new("rules");
    for (index, one) in rules.into_iter().flatten().enumerate() {
        rule(&path.index(index), one, namespaced, errors);
    }
}

fn rule(path: &Path<'_>, rule: &PolicyRule, namespaced: bool, errors: &mut Vec<FieldError>) {
    let is_empty = |list: Option<&Vec<String>>| list.is_none_or(Vec::is_empty);
    if rule.verbs.is_empty() {
        errors.push(FieldError::required(path.child("verbs"), "verbs must contain at least one value"));
    }
    let (groups, resources) = (is_empty(rule.api_groups.as_ref()), is_empty(rule.resources.as_ref()));
    if let Some(urls) = rule.non_resource_urls.as_ref().filter(|urls| !urls.is_empty()) {
        let mut refuse =
            |detail: &str| errors.push(FieldError::invalid(path.child("nonResourceURLs"), urls, detail));
        if namespaced {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if !groups || !resources || !is_empty(rule.resource_names.as_ref()) {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if groups {
        errors.push(FieldError::required(
            path.child("apiGroups"),
            "resource rules must supply at least one api group",
        ));
    }
    if resources {
        errors.push(FieldError::required(
            path.child("resources"),
            "resource rules must supply at least one resource",
        ));
    }
}

/// Fills in the groups that references and subjects leave out.
pub(crate) fn default_groups(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    if role.api_group.as_deref().is_none_or(str::is_empty) {
        role.api_group = Some(GROUP.to_owned());
    }
    for subject in subjects.into_iter().flatten() {
        let unset = subject.api_group.as_deref().is_none_or(str::is_empty);
        if unset && matches!(subject.kind.as_str(), USER | SUBJECT_GROUP) {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

/// The role that a binding is of.
pub(crate) fn role_ref(role: &RoleRef, kinds: &[&str], errors: &mut Vec<FieldError>) {
    let path = Path::new("roleRef");
    if role.api_group.as_deref() != Some(GROUP) {
        errors.push(FieldError::not_supported(path.child("apiGroup"), &role.api_group, &[GROUP]));
    }
    if !kinds.contains(&role.kind.as_str()) {
        errors.push(FieldError::not_supported(path.child("kind"), &role.kind, kinds));
    }
    if role.name.is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    } else {
        for message in NameRule::PathSegment.check(&role.name) {
            errors.push(FieldError::invalid(path.child("name"), &role.name, message));
        }
    }
}

/// A binding is of one role for ever.
pub(crate) fn role_ref_stays(new: &RoleRef, old: &RoleRef, errors: &mut Vec<FieldError>) {
    if new != old {
        errors.push(FieldError::invalid("roleRef", new, "cannot change roleRef"));
    }
}

/// Those whom a binding is for.
pub(crate) fn subjects(subjects: Option<&Vec<Subject>>, namespaced: bool, errors: &mut Vec<FieldError>) {
    let path = Path::new("subjects");
    for (index, one) in subjects.into_iter().flatten().enumerate() {
        subject(&path.index(index), one, namespaced, errors);
    }
}

fn subject(path: &Path<'_>, subject: &Subject, namespaced: bool, errors: &mut Vec<FieldError>) {
    if subject.name.is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    }
    let group = subject.api_group.as_deref().unwrap_or_default();
    let wanted = match subject.kind.as_str() {
        SERVICE_ACCOUNT => "",
        USER | SUBJECT_GROUP => GROUP,
        other => {
            let kinds = [SERVICE_ACCOUNT, USER, SUBJECT_GROUP];
            return errors.push(FieldError::not_supported(path.child("kind"), other, &kinds));
        }
    };
    if subject.kind == SERVICE_ACCOUNT && !subject.name.is_empty() {
        for message in NameRule::Subdomain.check(&subject.name) {
            errors.push(FieldError::invalid(path.child("name"), &subject.name, message));
        }
    }
    if group != wanted {
        errors.push(FieldError::not_supported(path.child("apiGroup"), group, &[wanted]));
    }
    let placed = subject.namespace.as_deref().is_some_and(|n| !n.is_empty());
    if subject.kind == SERVICE_ACCOUNT && !namespaced && !placed {
        errors.push(FieldError::required(path.child("namespace"), ""));
    }
}
