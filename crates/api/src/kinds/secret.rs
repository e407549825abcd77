//! Secrets: bytes by key, at most 1 MiB, with a type that decides which keys must be there and never changes.
//! `stringData` is a way of writing only: it becomes `data`.

mod key_pair;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::config_map::{SEALED, SIZE_MAX, check_key};
use crate::behavior::{Behavior, Change, Warnings};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo};
use crate::rules::IMMUTABLE;
use crate::table;

const TLS: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const OPAQUE: &str = "Opaque";
const REDACTED: &str = "<secret contents redacted>";
const ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";

pub(crate) struct Secrets;

impl Behavior for Secrets {
    type Object = Secret;

    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        create_on_update: false,
        unconditional_update: true,
    };
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text("Type", "Used to facilitate programmatic handling of secret data."),
        table::text(
            "Data",
            "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'.",
        ),
        table::AGE,
    ];
    const SELECTABLE: &'static [&'static str] = &["type"];
    const WARNINGS: Option<Warnings<Secret>> = Some(|secret, _| unfitting(secret).into_iter().collect());

    const DEFAULT: Option<Change<Secret>> = Some(|secret| {
        for (key, value) in secret.string_data.take().into_iter().flatten() {
            secret.data.get_or_insert_default().insert(key, ByteString(value.into_bytes()));
        }
        secret.type_.get_or_insert_with(|| OPAQUE.to_owned());
    });

    fn validate(secret: &Secret, errors: &mut Vec<FieldError>) {
        let mut size = 0;
        for (key, value) in secret.data.iter().flatten() {
            check_key(&Path::new("data"), key, errors);
            size += value.0.len();
        }
        if size > SIZE_MAX {
            errors.push(FieldError::too_long("data", SIZE_MAX));
        }
        validate_type(secret, errors);
    }

    fn validate_update(new: &Secret, old: &Secret, errors: &mut Vec<FieldError>) {
        if new.type_ != old.type_ {
            errors.push(FieldError::invalid("type", &new.type_, IMMUTABLE));
        }
        if old.immutable != Some(true) {
            return;
        }
        if new.immutable != Some(true) {
            errors.push(FieldError::forbidden("immutable", SEALED));
        }
        if new.data != old.data {
            errors.push(FieldError::forbidden("data", SEALED));
        }
    }

    fn selectable(secret: &Secret) -> Vec<String> {
        vec![secret.type_.clone().unwrap_or_default()]
    }

    fn cells(secret: &Secret, now: Timestamp) -> Vec<Value> {
        let count = secret.data.as_ref().map_or(0, |d| d.len());
        let kind = secret.type_.as_deref().unwrap_or_default();
        vec![table::name(&secret.metadata), json!(kind), json!(count), table::age(&secret.metadata, now)]
    }
}

/// Why the certificate and the key of a TLS Secret are of no use together.
fn unfitting(secret: &Secret) -> Option<String> {
    let data = secret.data.as_ref().filter(|_| secret.type_.as_deref() == Some(TLS))?;
    key_pair::problem(&data.get(CERTIFICATE)?.0, &data.get(KEY)?.0).map(str::to_owned)
}

fn validate_type(secret: &Secret, errors: &mut Vec<FieldError>) {
    let data = |key: &str| secret.data.as_ref().and_then(|d| d.get(key));
    let mut require = |key: &str| {
        if data(key).is_none() {
            errors.push(FieldError::required(Path::new("data").key(key), ""));
        }
    };
    match secret.type_.as_deref().unwrap_or_default() {
        TLS => {
            require(CERTIFICATE);
            require(KEY);
        }
        "kubernetes.io/ssh-auth" => require("ssh-privatekey"),
        "kubernetes.io/basic-auth" if data("username").is_none() && data("password").is_none() => {
            require("username");
            require("password");
        }
        "kubernetes.io/dockercfg" => require_json(secret, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => require_json(secret, ".dockerconfigjson", errors),
        "kubernetes.io/service-account-token" => {
            let account = secret.metadata.annotations.as_ref().and_then(|a| a.get(ACCOUNT_ANNOTATION));
            if account.is_none_or(String::is_empty) {
                let metadata = Path::new("metadata");
                let path = metadata.child("annotations");
                errors.push(FieldError::required(path.key(ACCOUNT_ANNOTATION), ""));
            }
        }
        _ => {}
    }
}

fn require_json(secret: &Secret, key: &str, errors: &mut Vec<FieldError>) {
    let path = Path::new("data");
    let path = path.key(key);
    match secret.data.as_ref().and_then(|d| d.get(key)) {
        None => errors.push(FieldError::required(path, "")),
        Some(bytes) => {
            if let Err(e) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes.0) {
                errors.push(FieldError::invalid(path, REDACTED, e.to_string()));
            }
        }
    }
}
