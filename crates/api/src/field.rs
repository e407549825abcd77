//! Errors about one field, worded as upstream's `field.Error`, and the paths that name the field.
//!
//! A [`Path`] is borrowed from its parent and becomes text only when an error needs it, so that validating a good
//! object allocates nothing for names.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

/// Where a field stands: `spec.ports[0].port`.
#[derive(Clone, Copy, Debug)]
pub enum Path<'a> {
    /// The object itself.
    Root,
    /// A named field.
    Field(&'a Self, &'a str),
    /// A list's element.
    Index(&'a Self, usize),
    /// A map's entry: `metadata.labels[app]`.
    Key(&'a Self, &'a str),
}

impl<'a> Path<'a> {
    /// A top-level field.
    pub fn new(name: &'a str) -> Self {
        Self::Field(&Path::Root, name)
    }

    /// A field of this one.
    pub fn child(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    /// An element of this list.
    pub fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }

    /// An entry of this map.
    pub fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Path::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> Self {
        path.to_string()
    }
}

impl From<&Path<'_>> for String {
    fn from(path: &Path<'_>) -> Self {
        path.to_string()
    }
}

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// `spec.ports[0].port`.
    pub field: String,
    /// Which rule it breaks.
    pub rule: Rule,
    /// The text after the field: `Invalid value: 70000: must be between 1 and 65535, inclusive`.
    pub message: String,
}

impl FieldError {
    fn new(field: impl Into<String>, rule: Rule, message: String) -> Self {
        Self { field: field.into(), rule, message }
    }

    /// `Invalid value: VALUE: DETAIL`. Strings are quoted as upstream quotes them.
    pub fn invalid(field: impl Into<String>, value: impl Serialize, detail: impl AsRef<str>) -> Self {
        let value = shown(value);
        Self::new(field, Rule::Invalid, format!("Invalid value: {value}: {}", detail.as_ref()))
    }

    /// `Required value: DETAIL`, or `Required value`.
    pub fn required(field: impl Into<String>, detail: impl AsRef<str>) -> Self {
        Self::new(field, Rule::Required, with_detail("Required value", detail.as_ref()))
    }

    /// `Forbidden: DETAIL`.
    pub fn forbidden(field: impl Into<String>, detail: impl AsRef<str>) -> Self {
        Self::new(field, Rule::Forbidden, with_detail("Forbidden", detail.as_ref()))
    }

    /// `Duplicate value: VALUE`.
    pub fn duplicate(field: impl Into<String>, value: impl Serialize) -> Self {
        Self::new(field, Rule::Duplicate, format!("Duplicate value: {}", shown(value)))
    }

    /// `Unsupported value: VALUE: supported values: "A", "B"`.
    pub fn not_supported(field: impl Into<String>, value: impl Serialize, supported: &[&str]) -> Self {
        let list = supported.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
        let value = shown(value);
        Self::new(field, Rule::NotSupported, format!("Unsupported value: {value}: supported values: {list}"))
    }

    /// `Too long: may not be more than MAX bytes`.
    pub fn too_long(field: impl Into<String>, max: usize) -> Self {
        Self::new(field, Rule::TooLong, format!("Too long: may not be more than {max} bytes"))
    }

    /// `Too many: ACTUAL: must have at most MAX items`.
    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> Self {
        Self::new(field, Rule::TooMany, format!("Too many: {actual}: must have at most {max} items"))
    }

    /// `Not found: VALUE`.
    pub fn not_found(field: impl Into<String>, value: impl Serialize) -> Self {
        Self::new(field, Rule::NotFound, format!("Not found: {}", shown(value)))
    }

    /// `Internal error: DETAIL`.
    pub fn internal(field: impl Into<String>, detail: impl AsRef<str>) -> Self {
        Self::new(field, Rule::InternalError, with_detail("Internal error", detail.as_ref()))
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

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.field, self.message)
    }
}

fn shown(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn with_detail(what: &str, detail: &str) -> String {
    if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") }
}
