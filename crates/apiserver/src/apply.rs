//! PATCH with a configuration: server-side apply. The configuration is merged into the newest version, or makes a new
//! object; what comes out goes the way of an update or a create, with the managers that the merge decided.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use svcd_api::apply::{self, Applied, ApplyError, Managers, Operation, Writer};
use svcd_api::field::FieldError;
use svcd_api::kind::Subresource;

use crate::body;
use crate::call::Call;
use crate::errors::Failure;
use crate::managed::{self, Managing};
use crate::metadata;
use crate::query::WriteOptions;
use crate::record;
use crate::route::Verb;
use crate::server::ApiServer;
use crate::write::{ATTEMPTS, Miss, Written, answer};

/// The media type of a configuration.
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";

const OPTIONS: &str = "PatchOptions";

/// A configuration, and who applies it.
struct Request {
    config: Value,
    writer: Writer,
    force: bool,
    options: WriteOptions,
}

impl Request {
    fn parse(call: &Call, bytes: &Bytes) -> Result<Self, Failure> {
        let options = WriteOptions::parse(&call.query, OPTIONS)?;
        if call.query.get("fieldManager").is_none() {
            let error = FieldError::required("fieldManager", "is required for apply patch");
            return Err(Failure::invalid("meta.k8s.io", OPTIONS, "", &[error]));
        }
        if call.target.subresource == Some(Subresource::Scale) {
            return Err(Failure::unsupported("a Scale cannot be applied here: send a merge patch"));
        }
        let mut config = body::parse_yaml(bytes)?.value;
        body::check_type(call.resource(), &config)?;
        if config["metadata"].get("managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        metadata::place(&mut config, &call.target)?;
        config["apiVersion"] = call.resource().api_version.as_str().into();
        config["kind"] = call.resource().info.kind.into();
        let force = call.query.flag("force").unwrap_or(false);
        Ok(Self { config, writer: managed::writer(call, Operation::Apply), force, options })
    }

    /// What the configuration makes of an object, decoded.
    fn apply(&self, call: &Call, live: &Value) -> Result<Applied, Failure> {
        let resource = call.resource();
        let scope = managed::scope(resource, call.target.subresource);
        let managers =
            live["metadata"].get("managedFields").and_then(Managers::from_value).unwrap_or_default();
        let mut applied = apply::apply(scope, live, &self.config, managers, (&self.writer, self.force))
            .map_err(|error| refusal(call, error))?;
        if self.writer.manager == "kubectl" && apply::last_applied(live).is_some() {
            apply::set_last_applied(&mut applied.object, &self.config);
        }
        let decoded = resource.kind.decode(applied.object).map_err(Failure::bad_request)?;
        applied.object = decoded.object;
        Ok(applied)
    }
}

fn refusal(call: &Call, error: ApplyError) -> Failure {
    match error {
        ApplyError::Conflicts(conflicts) => Failure::apply_conflict(&conflicts),
        ApplyError::Untyped(why) => {
            let info = call.resource().info;
            Failure::untyped(format!(
                "failed to create typed patch object ({}/{}; {}/{}, Kind={}): {why}",
                call.target.namespace(),
                call.target.name(),
                info.group,
                info.version,
                info.kind
            ))
        }
    }
}

impl ApiServer {
    /// PATCH of an object or its status with a configuration.
    pub(crate) async fn apply(&self, call: &Call, bytes: &Bytes) -> Result<Response<Body>, Failure> {
        let request = Request::parse(call, bytes)?;
        let resource = call.resource();
        let key = resource.key(call.target.namespace(), call.target.name());
        for _ in 0..ATTEMPTS {
            let Some(stored) = self.store.get(&key).await? else {
                match self.apply_new(call, &request).await {
                    // Somebody else made it meanwhile.
                    Err(failure) if failure.code() == StatusCode::CONFLICT => {
                        if self.store.get(&key).await?.is_none() {
                            return Err(failure);
                        }
                        continue;
                    }
                    other => return answer(call, StatusCode::CREATED, &other?),
                }
            };
            let old = record::parse(resource, &stored.value);
            let Applied { object, managers } = request.apply(call, &old)?;
            let managing = Managing::Applied(managers);
            match self.replace_as(call, &stored, &old, object, (&managing, request.options.dry_run)).await {
                Ok(written) => return answer(call, StatusCode::OK, &written),
                Err(Miss::Raced(_)) => {}
                Err(Miss::Refused(failure)) => return Err(failure),
            }
        }
        Err(Failure::modified(resource.info, call.target.name()))
    }

    /// A configuration of something that does not exist.
    async fn apply_new(&self, call: &Call, request: &Request) -> Result<Written, Failure> {
        let resource = call.resource();
        if call.target.subresource.is_some() {
            return Err(Failure::not_found(resource.info, call.target.name()));
        }
        if !metadata::text(&request.config, "uid").is_empty()
            || !metadata::text(&request.config, "resourceVersion").is_empty()
        {
            return Err(Failure::modified(resource.info, call.target.name()));
        }
        let (guard, _) = self.authorize(&call.user, Verb::Create, &call.target).await?;
        let Applied { object, managers } = request.apply(call, &json!({}))?;
        if let Some(guard) = guard {
            guard.check(call, &object)?;
        }
        self.create_object(call, object, (&Managing::Applied(managers), request.options.dry_run)).await
    }
}
