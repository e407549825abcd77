//! Ingresses: names and paths that lead to Services. Stored for whoever serves them; nothing here does.

mod table;
mod validate;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{Ingress, IngressSpec};
use serde_json::Value;

use crate::behavior::{Behavior, Change, Warnings};
use crate::field::FieldError;
use crate::kind::{Column, KindInfo, Subresource};

/// The class, before there was a field for it.
const CLASS: &str = "kubernetes.io/ingress.class";

pub(crate) struct Ingresses;

impl Behavior for Ingresses {
    type Object = Ingress;

    const INFO: &'static KindInfo = &KindInfo {
        group: "networking.k8s.io",
        version: "v1",
        kind: "Ingress",
        plural: "ingresses",
        singular: "ingress",
        short_names: &["ing"],
        categories: &[],
        namespaced: true,
        subresources: &[Subresource::Status],
        create_on_update: false,
        unconditional_update: true,
    };
    const INITIAL_STATUS: Option<&'static str> = Some(r#"{"loadBalancer":{}}"#);
    const GENERATION: &'static [&'static str] = &["spec"];
    const COLUMNS: &'static [Column] = table::COLUMNS;
    const WARNINGS: Option<Warnings<Ingress>> = Some(warnings);

    const DEFAULT: Option<Change<Ingress>> = Some(|ingress| {
        ingress.spec.get_or_insert_default();
    });

    fn validate(ingress: &Ingress, errors: &mut Vec<FieldError>) {
        let empty = IngressSpec::default();
        validate::spec(ingress.spec.as_ref().unwrap_or(&empty), errors);
    }

    fn validate_create(ingress: &Ingress, errors: &mut Vec<FieldError>) {
        if let (Some(old), Some(class)) = (annotated_class(ingress), class(ingress))
            && old != class
        {
            let field = format!("annotations.{CLASS}");
            let detail = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(field, old, detail));
        }
    }

    fn validate_status(new: &Ingress, _: &Ingress, errors: &mut Vec<FieldError>) {
        validate::status(new.status.as_ref(), errors);
    }

    fn cells(ingress: &Ingress, now: Timestamp) -> Vec<Value> {
        table::cells(ingress, now)
    }
}

fn class(ingress: &Ingress) -> Option<&str> {
    ingress.spec.as_ref()?.ingress_class_name.as_deref()
}

fn annotated_class(ingress: &Ingress) -> Option<&str> {
    ingress.metadata.annotations.as_ref()?.get(CLASS).map(String::as_str)
}

fn warnings(new: &Ingress, old: Option<&Ingress>) -> Vec<String> {
    let outdated = old.is_none() && annotated_class(new).is_some() && class(new).is_none();
    let text = || format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead");
    outdated.then(text).into_iter().collect()
}
