//! PUT, and what PATCH ends in: hold the new version against the stored one, carry over what is not the client's to
//! change, validate, commit. What changes nothing is not written.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use svcd_api::addresses::Cluster;
use svcd_api::field::FieldError;
use svcd_api::kind::Subresource;
use svcd_store::Record;

use crate::body;
use crate::call::Call;
use crate::errors::Failure;
use crate::managed::{self, Managing};
use crate::metadata;
use crate::query::WriteOptions;
use crate::record;
use crate::resources::Resource;
use crate::server::ApiServer;
use crate::write::{ATTEMPTS, Miss, Written, answer};

impl ApiServer {
    /// PUT on an object, its status or its finalizers.
    pub(crate) async fn update(&self, call: &Call, bytes: &Bytes) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
        let parsed = body::parse_object(&call.headers, bytes)?;
        let mut object = body::decode(call, parsed, options.field_validation)?;
        metadata::place(&mut object, &call.target)?;
        let resource = call.resource();
        let key = resource.key(call.target.namespace(), call.target.name());
        for _ in 0..ATTEMPTS {
            let Some(stored) = self.store.get(&key).await? else {
                return self.put_missing(call, object, options.dry_run).await;
            };
            let old = record::parse(resource, &stored.value);
            require_version(resource, &object)?;
            match self.replace(call, &stored, &old, object.clone(), options.dry_run).await {
                Ok(written) => return answer(call, StatusCode::OK, &written),
                Err(Miss::Raced(_)) => {}
                Err(Miss::Refused(failure)) => return Err(failure),
            }
        }
        Err(Failure::modified(resource.info, call.target.name()))
    }

    /// PUT on a name that does not exist: some kinds create it.
    async fn put_missing(
        &self,
        call: &Call,
        object: Value,
        dry_run: bool,
    ) -> Result<Response<Body>, Failure> {
        let resource = call.resource();
        let creates = resource.info.create_on_update && call.target.subresource.is_none();
        if !creates || !metadata::text(&object, "uid").is_empty() {
            return Err(Failure::not_found(resource.info, call.target.name()));
        }
        if !metadata::text(&object, "resourceVersion").is_empty() {
            return Err(Failure::modified(resource.info, call.target.name()));
        }
        let written = self.create_object(call, object, (&Managing::by(call), dry_run)).await?;
        answer(call, StatusCode::CREATED, &written)
    }

    /// Puts a new version in the place of the stored one.
    pub(crate) async fn replace(
        &self,
        call: &Call,
        stored: &Arc<Record>,
        old: &Value,
        new: Value,
        dry_run: bool,
    ) -> Result<Written, Miss> {
        self.replace_as(call, stored, old, new, (&Managing::by(call), dry_run)).await
    }

    /// As `replace`, with managers decided otherwise.
    pub(crate) async fn replace_as(
        &self,
        call: &Call,
        stored: &Arc<Record>,
        old: &Value,
        new: Value,
        (managing, dry_run): (&Managing, bool),
    ) -> Result<Written, Miss> {
        let resource = call.resource();
        metadata::check_preconditions(resource, &new, old)?;
        call.check(old)?;
        let how = (call.target.subresource, managing, &self.cluster_facts);
        let new = prepare(resource, how, new, old)?;
        call.check(&new)?;
        self.check_grants(call, &new, Some(old)).await?;
        if call.target.subresource.is_none() {
            resource.kind.warnings(&new, Some(old)).into_iter().for_each(|text| call.warn(text));
        }
        self.check_admission(call, &new, Some(old)).await?;
        if new == *old && !metadata::is_finished(resource, &new) {
            return Ok(Written::Stored(Arc::clone(stored)));
        }
        self.put_next(resource, stored, old, new, dry_run).await
    }
}

/// Some kinds want to be told which version an update is based on.
fn require_version(resource: &Resource, object: &Value) -> Result<(), Failure> {
    let version = metadata::text(object, "resourceVersion");
    if resource.info.unconditional_update || !(version.is_empty() || version == "0") {
        return Ok(());
    }
    let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
    let name = metadata::text(object, "name");
    Err(Failure::invalid(resource.info.group, resource.info.kind, name, &[error]))
}

/// The new version as it would be stored.
fn prepare(
    resource: &Resource,
    (subresource, managing, cluster): (Option<Subresource>, &Managing, &Cluster),
    mut new: Value,
    old: &Value,
) -> Result<Value, Failure> {
    let kind = resource.kind;
    let sent = metadata::of(&mut new).remove("managedFields");
    metadata::carry_over(&mut new, old);
    let errors = match subresource {
        Some(part @ (Subresource::Status | Subresource::Approval)) => {
            kind.set_defaults(&mut new);
            kind.prepare_part(part, &mut new, old, jiff::Timestamp::now());
            kind.validate_part(part, &new, old)
        }
        Some(Subresource::Finalize) => {
            new = with_spec_finalizers(old, &new);
            Vec::new()
        }
        // Made from the stored object by `svcd_api::binding`, status included.
        Some(Subresource::Binding) => Vec::new(),
        _ => {
            kind.set_defaults(&mut new);
            if resource.is_namespacing() {
                // Only /finalize touches these.
                new = with_spec_finalizers(&new, old);
            }
            let impossible = kind.prepare_update(&mut new, old, cluster);
            if impossible.is_empty() { kind.validate(&new, Some(old)) } else { impossible }
        }
    };
    if errors.is_empty() {
        managing.settle(managed::scope(resource, subresource), old, &mut new, sent.as_ref());
        return Ok(new);
    }
    let name = metadata::text(old, "name");
    Err(Failure::invalid(resource.info.group, resource.info.kind, name, &errors))
}

/// `object` with the `spec.finalizers` of `from`.
fn with_spec_finalizers(object: &Value, from: &Value) -> Value {
    let mut object = object.clone();
    let wanted = from["spec"].get("finalizers").filter(|list| list.as_array().is_some_and(|l| !l.is_empty()));
    match (wanted, object["spec"].as_object_mut()) {
        (Some(list), Some(spec)) => {
            spec.insert("finalizers".to_owned(), list.clone());
        }
        (Some(list), None) => object["spec"] = json!({ "finalizers": list }),
        (None, Some(spec)) => {
            spec.remove("finalizers");
        }
        (None, None) => {}
    }
    object
}
