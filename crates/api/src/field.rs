//! Errors about one field, worded as upstream's `field.Error`.

use serde_json::{Value, json};

/// What is wrong with a field; the name is upstream's `CauseType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are upstream's")]
pub enum Rule {
    Required,
    Invalid,
    Duplicate,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
    InternalError,
    TypeInvalid,
}

/// One thing wrong with one field.
#[derive(Clone, Debug)]
pub struct FieldError {
    /// `spec.ports[0].port`.
    pub field: String,
    /// Which rule it breaks.
    pub rule: Rule,
    /// The text after the field: `Invalid value: 70000: must be between 1 and 65535, inclusive`.
    pub message: String,
}

impl FieldError {
    /// `Invalid value: VALUE: DETAIL`. Strings are quoted as upstream quotes them.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: impl AsRef<str>) -> Self {
        Self { field: field.into(), rule: Rule::Invalid, message: format!("Invalid value: {value}: {}", detail.as_ref()) }
    }

    /// `Required value: DETAIL`, or `Required value`.
    pub fn required(field: impl Into<String>, detail: impl AsRef<str>) -> Self {
        let detail = detail.as_ref();
        let message =
            if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self { field: field.into(), rule: Rule::Required, message }
    }

    /// `Forbidden: DETAIL`.
    pub fn forbidden(field: impl Into<String>, detail: impl AsRef<str>) -> Self {
        Self { field: field.into(), rule: Rule::Forbidden, message: format!("Forbidden: {}", detail.as_ref()) }
    }

    /// `Duplicate value: VALUE`.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self { field: field.into(), rule: Rule::Duplicate, message: format!("Duplicate value: {value}") }
    }

    /// `Unsupported value: VALUE: supported values: "A", "B"`.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list = supported.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
        Self {
            field: field.into(),
            rule: Rule::NotSupported,
            message: format!("Unsupported value: {value}: supported values: {list}"),
        }
    }

    /// The `details.causes` entry.
    pub fn cause(&self) -> Value {
        let reason = match self.rule {
            Rule::Required => "FieldValueRequired",
            Rule::Invalid => "FieldValueInvalid",
            Rule::Duplicate => "FieldValueDuplicate",
            Rule::NotSupported => "FieldValueNotSupported",
            Rule::Forbidden => "FieldValueForbidden",
            Rule::TooLong => "FieldValueTooLong",
            Rule::TooMany => "FieldValueTooMany",
            Rule::NotFound => "FieldValueNotFound",
            Rule::InternalError => "InternalError",
            Rule::TypeInvalid => "FieldValueTypeInvalid",
        };
        json!({ "reason": reason, "message": self.message, "field": self.field })
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}
