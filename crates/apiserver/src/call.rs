//! One request for objects, parsed and allowed: what every verb works from.

use std::sync::Mutex;

use http::HeaderMap;
use serde_json::Value;

use crate::authz::Guard;
use crate::errors::Failure;
use crate::negotiate::Form;
use crate::query::Query;
use crate::resources::Resource;
use crate::route::{Target, Verb};
use crate::user::User;

/// A request for objects.
pub(crate) struct Call {
    pub(crate) user: User,
    pub(crate) verb: Verb,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) form: Form,
    /// What must hold of the object besides.
    pub(crate) guard: Option<Guard>,
    warnings: Mutex<Vec<String>>,
}

impl Call {
    pub(crate) fn new(
        user: User,
        (verb, target): (Verb, Target),
        query: Query,
        headers: HeaderMap,
        (form, guard): (Form, Option<Guard>),
    ) -> Self {
        Self { user, verb, target, query, headers, form, guard, warnings: Mutex::new(Vec::new()) }
    }

    pub(crate) fn resource(&self) -> &Resource {
        &self.target.resource
    }

    /// Tells the client something that is not an error. What has been said once is not said again: a write that lost a
    /// race begins anew.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        let mut warnings = self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = text.into();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Holds the fixed rules against the object that is about to be written or removed.
    pub(crate) fn check(&self, object: &Value) -> Result<(), Failure> {
        match &self.guard {
            Some(guard) => guard.check(self, object),
            None => Ok(()),
        }
    }
}
