//! `/scale` and `/binding`: other kinds' objects that stand for a part of this one.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use svcd_api::{binding, scale};

use crate::body;
use crate::call::Call;
use crate::errors::Failure;
use crate::query::WriteOptions;
use crate::record;
use crate::represent::value_response;
use crate::server::ApiServer;
use crate::write::{ATTEMPTS, Miss, Written};

/// The object with a Scale's replicas.
pub(crate) fn apply_scale(object: &Value, scaled: &Value) -> Result<Value, Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    scale::apply(object, scaled).map_err(|errors| Failure::invalid("autoscaling", "Scale", name, &errors))
}

/// The Scale of what was written.
pub(crate) fn scale_answer(written: &Written) -> Response<Body> {
    let scale = match written {
        Written::Stored(record) => scale::of(&record::decode(record)),
        Written::Dry(object) => scale::of(object),
    };
    value_response(StatusCode::OK, &scale)
}

impl ApiServer {
    /// GET of `/scale`.
    pub(crate) async fn get_scale(&self, call: &Call) -> Result<Response<Body>, Failure> {
        let record = self.existing(call.resource(), call.target.namespace(), call.target.name()).await?;
        Ok(value_response(StatusCode::OK, &scale::of(&record::decode(&record))))
    }

    /// PUT of `/scale`.
    pub(crate) async fn put_scale(&self, call: &Call, bytes: &Bytes) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
        let scaled = body::parse_object(&call.headers, bytes)?.value;
        let written = self.change(call, options.dry_run, |old| apply_scale(old, &scaled)).await?;
        Ok(scale_answer(&written))
    }

    /// POST of `/binding`.
    pub(crate) async fn bind(&self, call: &Call, bytes: &Bytes) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let wanted = body::parse_object(&call.headers, bytes)?.value;
        self.change(call, options.dry_run, |old| Ok(binding::bind(old, &wanted, jiff::Timestamp::now())?))
            .await?;
        let status =
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        Ok(value_response(StatusCode::CREATED, &status))
    }

    /// Changes the stored object by a function of it.
    async fn change(
        &self,
        call: &Call,
        dry_run: bool,
        change: impl Fn(&Value) -> Result<Value, Failure>,
    ) -> Result<Written, Failure> {
        let resource = call.resource();
        for _ in 0..ATTEMPTS {
            let stored = self.existing(resource, call.target.namespace(), call.target.name()).await?;
            let old = record::parse(resource, &stored.value);
            let new = change(&old)?;
            match self.replace(call, &stored, &old, new, dry_run).await {
                Ok(written) => return Ok(written),
                Err(Miss::Raced(_)) => {}
                Err(Miss::Refused(failure)) => return Err(failure),
            }
        }
        Err(Failure::modified(resource.info, call.target.name()))
    }
}
