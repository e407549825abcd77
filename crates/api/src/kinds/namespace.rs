//! Namespaces: phase, the `kubernetes` finalizer that keeps one until it is empty, and the label with its own name.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change, Update};
use crate::field::FieldError;
use crate::kind::{Column, KindInfo, Subresource};
use crate::names::NameRule;
use crate::table;

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

pub(crate) struct Namespaces;

impl Behavior for Namespaces {
    type Object = Namespace;

    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        categories: &[],
        namespaced: false,
        subresources: &[Subresource::Status, Subresource::Finalize],
        create_on_update: false,
        unconditional_update: true,
    };
    const NAMES: NameRule = NameRule::Label;
    const INITIAL_STATUS: Option<&'static str> = Some(r#"{"phase":"Active"}"#);
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] =
        &[table::NAME, table::text("Status", "The status of the namespace"), table::AGE];
    const SELECTABLE: &'static [&'static str] = &["name", "status.phase"];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.conditions", &["type"])];

    const DEFAULT: Option<Change<Namespace>> = Some(|namespace| {
        if let Some(name) = namespace.metadata.name.clone().filter(|name| !name.is_empty()) {
            namespace.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
    });

    const PREPARE_CREATE: Option<Change<Namespace>> = Some(|namespace| {
        let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    });

    /// Finalizers change through `/finalize` only.
    const PREPARE_UPDATE: Option<Update<Namespace>> = Some(|new, old| new.spec.clone_from(&old.spec));

    fn validate_status(new: &Namespace, _old: &Namespace, errors: &mut Vec<FieldError>) {
        let phase = new.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        let (wanted, detail) = match new.metadata.deletion_timestamp {
            None => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
            Some(_) => ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty"),
        };
        if phase != wanted {
            errors.push(FieldError::invalid("status.phase", phase, detail));
        }
    }

    fn selectable(namespace: &Namespace) -> Vec<String> {
        vec![namespace.metadata.name.clone().unwrap_or_default(), phase(namespace).to_owned()]
    }

    fn cells(namespace: &Namespace, now: Timestamp) -> Vec<Value> {
        let meta = &namespace.metadata;
        vec![table::name(meta), json!(phase(namespace)), table::age(meta, now)]
    }
}

fn phase(namespace: &Namespace) -> &str {
    namespace.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}
