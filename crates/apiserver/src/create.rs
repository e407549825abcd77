//! POST on a collection: decode, defaults, validation, claims, and the object in one transaction with the namespace
//! that it lives in: nothing comes to be in a namespace that is on its way out.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;
use svcd_store::{Expect, Txn};

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

/// How many generated names are tried.
const NAMES: usize = 8;

/// How a new object comes to be.
#[derive(Clone, Copy)]
pub(crate) struct Creation<'a> {
    managing: &'a Managing,
    dry_run: bool,
    /// Who asked for it; nobody, when it is the server's own.
    call: Option<&'a Call>,
}

impl<'a> Creation<'a> {
    /// Of the server's own accord.
    pub(crate) fn by_server(managing: &'a Managing) -> Self {
        Self { managing, dry_run: false, call: None }
    }
}

impl ApiServer {
    /// POST on a collection.
    pub(crate) async fn create(&self, call: &Call, bytes: &Bytes) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let parsed = body::parse_object(&call.headers, bytes)?;
        let object = body::decode(call, parsed, options.field_validation)?;
        let written = self.create_object(call, object, (&Managing::by(call), options.dry_run)).await?;
        answer(call, StatusCode::CREATED, &written)
    }

    /// Creates a decoded object.
    pub(crate) async fn create_object(
        &self,
        call: &Call,
        mut object: Value,
        (managing, dry_run): (&Managing, bool),
    ) -> Result<Written, Failure> {
        metadata::place(&mut object, &call.target)?;
        if !metadata::text(&object, "resourceVersion").is_empty() {
            return Err(Failure::bad_request("resourceVersion should not be set on objects to be created"));
        }
        call.check(&object)?;
        self.check_grants(call, &object, None).await?;
        let base = metadata::text(&object, "generateName").to_owned();
        let creation = Creation { managing, dry_run, call: Some(call) };
        if base.is_empty() || !metadata::text(&object, "name").is_empty() {
            return self.create_named(call.resource(), object, creation).await;
        }
        for _ in 1..NAMES {
            let named = metadata::named(object.clone(), metadata::generate_name(&base));
            match self.create_named(call.resource(), named, creation).await {
                Err(failure) if failure.code() == StatusCode::CONFLICT => {}
                ended => return ended,
            }
        }
        let named = metadata::named(object, metadata::generate_name(&base));
        self.create_named(call.resource(), named, creation).await
    }

    /// Creates an object that has its name.
    pub(crate) async fn create_named(
        &self,
        resource: &Resource,
        mut object: Value,
        Creation { managing, dry_run, call }: Creation<'_>,
    ) -> Result<Written, Failure> {
        let sent = metadata::of(&mut object).remove("managedFields");
        metadata::begin(&mut object);
        resource.kind.set_defaults(&mut object);
        // What the server adds from here on is nobody's.
        managing.settle(managed::scope(resource, None), &Value::Null, &mut object, sent.as_ref());
        let impossible = resource.kind.prepare_create(&mut object, &self.cluster_facts);
        if let Some(call) = call {
            resource.kind.set_author(&mut object, &call.user.author());
        }
        let name = metadata::text(&object, "name").to_owned();
        let namespace = metadata::text(&object, "namespace").to_owned();
        let mut txn = self.namespace_for(resource, &namespace, &name).await?;
        if !impossible.is_empty() {
            return Err(Failure::invalid(resource.info.group, resource.info.kind, &name, &impossible));
        }
        self.check_new(resource, &object, call).await?;
        let key = resource.key(&namespace, &name);
        for _ in 0..ATTEMPTS {
            if self.store.get(&key).await?.is_some() {
                return Err(Failure::already_exists(resource.info, &name));
            }
            match self.put_new(resource, &object, txn.clone(), dry_run).await {
                Ok(written) => return Ok(written),
                Err(Miss::Refused(failure)) => return Err(failure),
                // The namespace has changed; whatever else was lost is looked for again.
                Err(Miss::Raced(lost)) if txn.expect.iter().any(|(key, _)| *key == lost) => {
                    txn = self.namespace_for(resource, &namespace, &name).await?;
                }
                Err(Miss::Raced(_)) => {}
            }
        }
        Err(Failure::unavailable("other writers were faster again and again; try again"))
    }

    /// Holds a new object against its kind's rules; its author is told what they should know of it.
    async fn check_new(
        &self,
        resource: &Resource,
        object: &Value,
        call: Option<&Call>,
    ) -> Result<(), Failure> {
        let errors = resource.kind.validate(object, None);
        if !errors.is_empty() {
            let name = metadata::text(object, "name");
            return Err(Failure::invalid(resource.info.group, resource.info.kind, name, &errors));
        }
        let Some(call) = call else { return Ok(()) };
        resource.kind.warnings(object, None).into_iter().for_each(|text| call.warn(text));
        self.check_admission(call, object, None).await
    }

    /// What must hold of the namespace of a new object.
    async fn namespace_for(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Txn, Failure> {
        let Some(namespaces) = self.resources.namespaces().filter(|_| resource.info.namespaced) else {
            return Ok(Txn::default());
        };
        let key = namespaces.key("", namespace);
        let mut found = self.store.get(&key).await?;
        if found.is_none() && Self::is_system_namespace(namespace) {
            Box::pin(self.ensure_namespace(namespace)).await?;
            found = self.store.get(&key).await?;
        }
        let record = found.ok_or_else(|| Failure::not_found(namespaces.info, namespace))?;
        if record::is_deleting(namespaces, &record) {
            return Err(Failure::terminating(resource.info, name, namespace));
        }
        Ok(Txn { expect: vec![(key, Expect::At(record.modified))], ops: Vec::new() })
    }
}
