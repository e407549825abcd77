//! IngressClasses: who serves the Ingresses that name them.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IngressClass, IngressClassParametersReference, IngressClassSpec};
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo};
use crate::{names, rules, table};

const CONTROLLER_MAX: usize = 250;
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const PATH_CHARACTERS: &str =
    "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";

pub(crate) struct IngressClasses;

impl Behavior for IngressClasses {
    type Object = IngressClass;

    const INFO: &'static KindInfo = &KindInfo {
        group: "networking.k8s.io",
        version: "v1",
        kind: "IngressClass",
        plural: "ingressclasses",
        singular: "ingressclass",
        short_names: &[],
        categories: &[],
        namespaced: false,
        subresources: &[],
        create_on_update: false,
        unconditional_update: true,
    };
    const GENERATION: &'static [&'static str] = &["spec"];
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text("Controller", "Controller that is responsible for handling this class"),
        table::text("Parameters", "A reference to a resource with additional parameters"),
        table::AGE,
    ];

    const DEFAULT: Option<Change<IngressClass>> = Some(|class| {
        let spec = class.spec.get_or_insert_default();
        if let Some(parameters) = &mut spec.parameters {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    });

    fn validate(class: &IngressClass, errors: &mut Vec<FieldError>) {
        let path = Path::new("spec");
        let empty = IngressClassSpec::default();
        let spec = class.spec.as_ref().unwrap_or(&empty);
        controller(&path.child("controller"), spec.controller.as_deref().unwrap_or_default(), errors);
        if let Some(wanted) = &spec.parameters {
            parameters(&path.child("parameters"), wanted, errors);
        }
    }

    fn validate_update(new: &IngressClass, old: &IngressClass, errors: &mut Vec<FieldError>) {
        let controller = |class: &IngressClass| class.spec.as_ref().and_then(|s| s.controller.clone());
        if controller(new) != controller(old) {
            errors.push(FieldError::invalid("spec.controller", controller(new), rules::IMMUTABLE));
        }
    }

    fn cells(class: &IngressClass, now: Timestamp) -> Vec<Value> {
        let annotation = class.metadata.annotations.as_ref().and_then(|a| a.get(IS_DEFAULT));
        let suffix = if annotation.is_some_and(|value| value == "true") { " (default)" } else { "" };
        let spec = class.spec.as_ref();
        let parameters = spec.and_then(|s| s.parameters.as_ref()).map(|p| match &p.api_group {
            Some(group) => format!("{}.{group}/{}", p.kind, p.name),
            None => format!("{}/{}", p.kind, p.name),
        });
        vec![
            json!(format!("{}{suffix}", class.metadata.name.as_deref().unwrap_or_default())),
            json!(spec.and_then(|s| s.controller.as_deref()).unwrap_or_default()),
            json!(parameters.as_deref().unwrap_or(table::NONE)),
            table::age(&class.metadata, now),
        ]
    }
}

/// A domain and a path: `example.com/ingress`.
fn controller(path: &Path<'_>, text: &str, errors: &mut Vec<FieldError>) {
    if text.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if text.len() > CONTROLLER_MAX {
        errors.push(FieldError::too_long(path, CONTROLLER_MAX));
    }
    match text.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) {
        None => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(path, text, detail));
        }
        Some((host, rest)) => {
            rules::subdomain(path, host, errors);
            if !rest.bytes().all(|c| c.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&c)) {
                errors.push(FieldError::invalid(path, rest, PATH_CHARACTERS));
            }
        }
    }
}

fn parameters(path: &Path<'_>, wanted: &IngressClassParametersReference, errors: &mut Vec<FieldError>) {
    if let Some(group) = &wanted.api_group {
        rules::subdomain(&path.child("apiGroup"), group, errors);
    }
    rules::path_segment(&path.child("kind"), &wanted.kind, errors);
    rules::path_segment(&path.child("name"), &wanted.name, errors);
    let scope = wanted.scope.as_deref().unwrap_or_default();
    let field = path.child("namespace");
    match (scope, wanted.namespace.as_deref()) {
        ("", _) => errors.push(FieldError::required(path.child("scope"), "")),
        ("Namespace", None) => {
            errors.push(FieldError::required(field, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(name)) => {
            errors.extend(names::label(name).into_iter().map(|m| FieldError::invalid(field, name, m)));
        }
        ("Cluster", Some(_)) => {
            errors.push(FieldError::forbidden(field, "`parameters.scope` is set to 'Cluster'"));
        }
        _ => rules::one_of(&path.child("scope"), scope, &["Cluster", "Namespace"], errors),
    }
}
