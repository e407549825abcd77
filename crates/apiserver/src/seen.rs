//! What a request turned out to be, noted on its way: for the log line, the metrics and the audit log.

use http::request::Parts;
use serde_json::Value;

use crate::audit::Record;
use crate::authz::rbac::Grounds;
use crate::metrics::Subject;
use crate::route::{Target, Verb};
use crate::user::User;

/// See the module.
pub(crate) struct Seen {
    /// Whose request it is.
    pub(crate) user: String,
    pub(crate) subject: Subject,
    pub(crate) is_watch: bool,
    pub(crate) audit: Option<Record>,
}

impl Seen {
    pub(crate) fn new(parts: &Parts, audit: Option<Record>) -> Self {
        Self { user: String::new(), subject: Subject::path(&parts.method), is_watch: false, audit }
    }

    fn note(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.audit {
            note(record);
        }
    }

    /// Who sent it.
    pub(crate) fn sender(&mut self, user: &User) {
        self.note(|record| record.user(user));
    }

    /// Whose request it is.
    pub(crate) fn acting(&mut self, user: &User) {
        self.user.clone_from(&user.name);
        self.note(|record| record.acting(user));
    }

    /// What it is about.
    pub(crate) fn object(&mut self, verb: Verb, target: &Target) {
        self.subject = Subject::object(verb, target);
        self.is_watch = verb == Verb::Watch;
        self.note(|record| record.object(verb, target));
    }

    /// It is allowed, for this reason.
    pub(crate) fn allowed(&mut self, grounds: Option<&Grounds>) {
        self.note(|record| record.decided(Some(grounds)));
    }

    /// It is not allowed.
    pub(crate) fn refused(&mut self) {
        self.note(|record| record.decided(None));
    }

    /// What was sent with it.
    pub(crate) fn body(&mut self, parts: &Parts, body: &bytes::Bytes) {
        self.note(|record| record.request(&parts.headers, body));
    }

    /// What was answered.
    pub(crate) fn answered(&mut self, code: u16, refusal: Option<Value>) {
        self.note(|record| record.answered(code, refusal));
    }
}
