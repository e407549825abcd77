//! The audit log: who asked for what, when, and what came of it, as lines of upstream's `audit.k8s.io/v1` Event.
//!
//! Promises: one line when a watch begins and one when any request has ended; what is in Secrets and tokens is in no line;
//! no request waits for the log. What cannot be written in time is dropped, and counted
//! (`apiserver_audit_error_total`). Refuses: policies. The level is one for all requests; upstream's stage
//! `RequestReceived` is left out, as its documentation's example policies do.

mod event;
mod sink;
mod tap;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::Value;

use crate::authn::Peer;
use crate::authz::rbac::Grounds;
use crate::route::{Target, Verb};
use crate::user::User;
use event::{Entry, ObjectRef, Sent};
use sink::Sink;
pub(crate) use tap::tap;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditLevel {
    /// Who, what, when, and the code of the answer.
    Metadata,
    /// Also what was sent.
    Request,
    /// Also what was answered.
    RequestResponse,
}

impl AuditLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditTarget {
    /// The process's standard output.
    Stdout,
    /// A file; lines are appended.
    File(PathBuf),
}

/// An open audit log; clones are the same one.
#[derive(Clone)]
pub struct AuditLog {
    level: AuditLevel,
    sink: Arc<Sink>,
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("level", &self.level).finish_non_exhaustive()
    }
}

impl AuditLog {
    /// Opens the log.
    ///
    /// # Errors
    /// When the file cannot be appended to.
    pub fn open(target: AuditTarget, level: AuditLevel) -> std::io::Result<Self> {
        Ok(Self { level, sink: Arc::new(Sink::open(target)?) })
    }

    /// Opens the file anew: for whoever has moved the old one away.
    pub fn reopen(&self) {
        self.sink.reopen();
    }

    /// Writes what is waiting. Blocks until that is done; nothing is written after it.
    pub fn close(&self) {
        self.sink.close();
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        self.sink.register(registry);
    }

    /// A request has come.
    pub(crate) fn begin(&self, parts: &Parts, peer: &Peer, id: &str) -> Record {
        Record {
            sink: Arc::clone(&self.sink),
            entry: Some(Box::new(Entry::new(self.level, parts, peer, id))),
        }
    }
}

/// What the log is going to say of one request. Says it when dropped.
pub(crate) struct Record {
    sink: Arc<Sink>,
    /// There until it has been said.
    entry: Option<Box<Entry>>,
}

impl Record {
    fn change(&mut self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = &mut self.entry {
            change(entry);
        }
    }

    /// Who asks.
    pub(crate) fn user(&mut self, user: &User) {
        self.change(|entry| entry.user = Some(user.clone()));
    }

    /// Whose request it is, when that is somebody else.
    pub(crate) fn acting(&mut self, acting: &User) {
        self.change(|entry| {
            if entry.user.as_ref() != Some(acting) {
                entry.impersonated = Some(acting.clone());
            }
        });
    }

    /// Which objects it is about.
    pub(crate) fn object(&mut self, verb: Verb, target: &Target) {
        self.change(|entry| {
            entry.verb = verb.name().into();
            entry.object = Some(ObjectRef::of(target));
            entry.level = entry.level.min(event::highest(target));
        });
    }

    /// What was decided; `None` when it was refused.
    pub(crate) fn decided(&mut self, grounds: Option<Option<&Grounds>>) {
        let allowed = grounds.is_some();
        let reason = grounds.flatten().map(ToString::to_string).unwrap_or_default();
        self.change(|entry| entry.decision = Some((allowed, reason)));
    }

    /// What was sent.
    pub(crate) fn request(&mut self, headers: &HeaderMap, body: &Bytes) {
        if !body.is_empty() {
            self.change(|entry| entry.request = Some(Sent::new(headers, body)));
        }
    }

    /// What was answered.
    pub(crate) fn answered(&mut self, code: u16, refusal: Option<Value>) {
        self.change(|entry| (entry.code, entry.refusal) = (Some(code), refusal));
    }

    /// A watch has begun: said now, and its end later.
    pub(crate) fn started(&self) {
        if let Some(entry) = &self.entry {
            self.sink.send(Box::new(entry.started()));
        }
    }

    /// Is the answer's body wanted?
    fn wants_response(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| {
            entry.level == AuditLevel::RequestResponse && entry.object.is_some() && entry.verb != "watch"
        })
    }

    fn response(&mut self, body: Option<Bytes>) {
        self.change(|entry| {
            entry.truncated |= body.is_none();
            entry.response = body;
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            entry.staged = Timestamp::now();
            self.sink.send(entry);
        }
    }
}
