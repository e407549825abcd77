//! DELETE: at once, or, where finalizers or a grace period ask for it, by a mark that says so. What is only marked goes
//! with the update that removes the last thing it waits for.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::future::join_all;
use http::{Response, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};
use svcd_api::kind::Subresource;
use svcd_store::{Op, Record};

use crate::body;
use crate::call::Call;
use crate::errors::Failure;
use crate::filter::Filter;
use crate::metadata;
use crate::query::{ListOptions, Query, Since, dry_run};
use crate::record;
use crate::represent::{View, json_response, value_response};
use crate::resources::Resource;
use crate::server::ApiServer;
use crate::write::{ATTEMPTS, Miss, Written, answer};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Namespaces that the cluster cannot do without.
const LASTING: &[&str] = &["default", "kube-system", "kube-public"];
/// How many objects of a collection are deleted at the same time.
const AT_ONCE: usize = 16;

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// `DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    grace_seconds: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    pub(crate) fn parse(query: &Query, body: &Value) -> Result<Self, Failure> {
        let grace = match body.get("gracePeriodSeconds").filter(|v| !v.is_null()) {
            Some(seconds) => {
                Some(seconds.as_i64().ok_or_else(|| bad("gracePeriodSeconds", "a whole number"))?)
            }
            None => match query.get("gracePeriodSeconds") {
                Some(text) => Some(text.parse().map_err(|_| bad("gracePeriodSeconds", "a whole number"))?),
                None => None,
            },
        };
        if grace.is_some_and(|seconds| seconds < 0) {
            return Err(Failure::bad_request(
                "gracePeriodSeconds: Invalid value: must be greater than or equal to 0",
            ));
        }
        let stages = body["dryRun"].as_array().map(Vec::as_slice).unwrap_or_default();
        let stages = stages.iter().map(|stage| stage.as_str().unwrap_or("")).chain(query.all("dryRun"));
        let precondition = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
        Ok(Self {
            grace_seconds: grace,
            propagation: propagation(query, body)?,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            dry_run: dry_run(stages)?,
        })
    }

    fn check_preconditions(&self, resource: &Resource, old: &Value) -> Result<(), Failure> {
        let name = metadata::text(old, "name");
        if let Some(uid) = self.uid.as_deref().filter(|uid| *uid != metadata::text(old, "uid")) {
            return Err(metadata::uid_mismatch(resource, name, uid, metadata::text(old, "uid")));
        }
        let found = metadata::text(old, "resourceVersion");
        if let Some(wanted) = self.resource_version.as_deref().filter(|wanted| *wanted != found) {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {found}"
            );
            return Err(Failure::conflict(resource.info, name, &why));
        }
        Ok(())
    }
}

fn bad(field: &str, wanted: &str) -> Failure {
    Failure::bad_request(format!("{field}: Invalid value: must be {wanted}"))
}

fn propagation(query: &Query, body: &Value) -> Result<Option<Propagation>, Failure> {
    let orphans = body["orphanDependents"].as_bool().or_else(|| query.flag("orphanDependents"));
    match body["propagationPolicy"].as_str().or_else(|| query.get("propagationPolicy")) {
        Some("Background") => Ok(Some(Propagation::Background)),
        Some("Foreground") => Ok(Some(Propagation::Foreground)),
        Some("Orphan") => Ok(Some(Propagation::Orphan)),
        Some(other) => Err(Failure::bad_request(format!(
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: \
             supported values: \"Background\", \"Foreground\", \"Orphan\""
        ))),
        None => Ok(orphans.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background })),
    }
}

/// What a deletion comes to for one object.
enum Plan {
    /// It goes now.
    Remove,
    /// It is marked, as this.
    Mark(Value),
    /// It is marked already, and nothing about that changes.
    Nothing,
}

fn plan(resource: &Resource, old: &Value, options: &DeleteOptions) -> Plan {
    let mut new = old.clone();
    let finalizers = wanted_finalizers(metadata::finalizers(old), options.propagation);
    metadata::set_finalizers(&mut new, &finalizers);
    let grace = match resource.kind.deletion_grace_seconds(old) {
        None => 0,
        Some(usual) => options.grace_seconds.unwrap_or(usual),
    };
    let running =
        old["metadata"]["deletionGracePeriodSeconds"].as_i64().filter(|_| metadata::is_deleting(old));
    // A second DELETE can only make it sooner.
    let grace = running.map_or(grace, |running| grace.min(running));
    if grace == 0 && !metadata::is_held(resource, &new) {
        return Plan::Remove;
    }
    mark(resource, &mut new, running, grace);
    if new == *old { Plan::Nothing } else { Plan::Mark(new) }
}

/// What becomes of an object that goes because another one gives it up: it is removed, or marked where something holds
/// it. Nothing, when it is marked already.
pub(crate) fn removal(resource: &Resource, record: &Record, object: &Value) -> Option<Op> {
    let key = record.key.to_string();
    match plan(resource, object, &DeleteOptions::default()) {
        Plan::Remove => Some(Op::Delete { key, last: Some(record::encode(resource, object)) }),
        Plan::Mark(marked) => {
            let meta = record::side_data(resource, &marked);
            Some(Op::Put { key, value: record::encode(resource, &marked), meta })
        }
        Plan::Nothing => None,
    }
}

fn mark(resource: &Resource, object: &mut Value, running: Option<i64>, grace: i64) {
    if running != Some(grace) {
        let now = jiff::Timestamp::now();
        let at = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
        let generation = object["metadata"]["generation"].as_i64();
        let metadata = metadata::of(object);
        metadata.insert("deletionTimestamp".to_owned(), metadata::timestamp(at).into());
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
        if let Some(generation) = generation.filter(|_| running.is_none()) {
            metadata.insert("generation".to_owned(), (generation + 1).into());
        }
    }
    if resource.serves(Subresource::Finalize) {
        if !object["status"].is_object() {
            object["status"] = json!({});
        }
        object["status"]["phase"] = "Terminating".into();
    }
}

fn wanted_finalizers(mut finalizers: Vec<String>, propagation: Option<Propagation>) -> Vec<String> {
    let Some(propagation) = propagation else { return finalizers };
    finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
    }
    finalizers
}

/// What became of an object.
pub(crate) enum Deleted {
    /// It is gone; this was its last state.
    Gone(Written),
    /// It is marked.
    Marked(Written),
}

impl ApiServer {
    /// DELETE of one object.
    pub(crate) async fn delete(&self, call: &Call, bytes: &Bytes) -> Result<Response<Body>, Failure> {
        let options = DeleteOptions::parse(&call.query, &body::parse_options(&call.headers, bytes)?)?;
        match self.delete_named(call, call.target.namespace(), call.target.name(), &options).await? {
            Deleted::Marked(written) => answer(call, StatusCode::OK, &written),
            Deleted::Gone(written) if call.resource().kind.returns_deleted() => {
                answer(call, StatusCode::OK, &written)
            }
            Deleted::Gone(written) => Ok(gone(call, &written)),
        }
    }

    /// DELETE of a collection.
    pub(crate) async fn delete_collection(
        &self,
        call: &Call,
        bytes: &Bytes,
    ) -> Result<Response<Body>, Failure> {
        let options = DeleteOptions::parse(&call.query, &body::parse_options(&call.headers, bytes)?)?;
        let list = ListOptions { since: Since::Any, ..ListOptions::parse(&call.query, false)? };
        let filter = Filter::new(&call.target, &list)?;
        let resource = call.resource();
        let found = self.find(resource, &filter, &list).await?;
        let head = View::new(resource, call.form, &call.query)?.list_head(&found.metadata());
        for records in found.records.chunks(AT_ONCE) {
            self.delete_records(call, records, &options).await?;
        }
        let view = View::new(resource, call.form, &call.query)?;
        let mut out = head.into_bytes();
        for (at, record) in found.records.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            view.write_item(&mut out, &record.value);
        }
        out.extend_from_slice(b"]}");
        Ok(json_response(StatusCode::OK, &call.form.content_type(), out))
    }

    /// Deletes some objects at the same time.
    async fn delete_records(
        &self,
        call: &Call,
        records: &[Arc<Record>],
        options: &DeleteOptions,
    ) -> Result<(), Failure> {
        let mut deletions = Vec::with_capacity(records.len());
        for record in records {
            let (namespace, name) = call.resource().names(&record.key);
            deletions.push(self.delete_named(call, namespace, name, options));
        }
        for result in join_all(deletions).await {
            match result {
                // Somebody else deleted it meanwhile: that is what was asked for.
                Err(failure) if failure.code() == StatusCode::NOT_FOUND => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Deletes one object, or marks it.
    pub(crate) async fn delete_named(
        &self,
        call: &Call,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Failure> {
        let resource = call.resource();
        if resource.is_namespacing() && LASTING.contains(&name) {
            return Err(Failure::forbidden(resource.info, name, "this namespace may not be deleted"));
        }
        for _ in 0..ATTEMPTS {
            let stored = self.existing(resource, namespace, name).await?;
            match self.delete_once(call, &stored, options).await {
                Ok(deleted) => return Ok(deleted),
                Err(Miss::Raced(_)) => {}
                Err(Miss::Refused(failure)) => return Err(failure),
            }
        }
        Err(Failure::modified(resource.info, name))
    }

    async fn delete_once(
        &self,
        call: &Call,
        stored: &Arc<Record>,
        options: &DeleteOptions,
    ) -> Result<Deleted, Miss> {
        let resource = call.resource();
        let old = record::parse(resource, &stored.value);
        options.check_preconditions(resource, &old)?;
        call.check(&old)?;
        match plan(resource, &old, options) {
            Plan::Nothing => Ok(Deleted::Marked(Written::Stored(Arc::clone(stored)))),
            Plan::Mark(new) => {
                Ok(Deleted::Marked(self.put_next(resource, stored, &old, new, options.dry_run).await?))
            }
            Plan::Remove => {
                Ok(Deleted::Gone(self.remove(resource, stored, &old, &old, options.dry_run).await?))
            }
        }
    }
}

/// The answer for an object that is gone at once.
fn gone(call: &Call, written: &Written) -> Response<Body> {
    let uid = match written {
        Written::Stored(record) => metadata::text(&record::decode(record), "uid").to_owned(),
        Written::Dry(object) => metadata::text(object, "uid").to_owned(),
    };
    let info = call.resource().info;
    let mut details = json!({ "name": call.target.name(), "kind": info.plural, "uid": uid });
    if !info.group.is_empty() {
        details["group"] = info.group.into();
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    value_response(StatusCode::OK, &status)
}
