//! What a check comes to.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// All is well.
    Ok,
    /// Something may not work, or not as expected.
    Warning,
    /// svcd cannot work.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `ports`, `clock`.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub message: String,
    /// What to do; empty where nothing is to be done.
    pub fix: String,
}

impl Finding {
    pub(crate) fn error(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, severity: Severity::Error, message: message.into(), fix: fix.into() }
    }

    pub(crate) fn warning(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, severity: Severity::Warning, message: message.into(), fix: fix.into() }
    }

    pub(crate) fn ok(check: &'static str) -> Self {
        Self {
            check,
            severity: Severity::Ok,
            message: "nothing stands in the way".to_owned(),
            fix: String::new(),
        }
    }
}
