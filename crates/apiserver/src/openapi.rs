//! OpenAPI v3 (and beside it v2): an index and one document for each group version. kubectl reads them to learn that the server validates
//! fields itself: it looks for a PATCH of the object's kind with a `fieldValidation` parameter. Schemas are honest and
//! short: objects of the kind whose fields this document does not list. The strategic merge patch is not announced,
//! since its merge keys would stand in those fields: kubectl then uses the ones it was built with, which are ours too.

use std::collections::BTreeMap;

use axum::body::Body;
use http::{HeaderMap, Response};
use serde_json::{Map, Value, json};
use svcd_api::kind::Subresource;

use crate::document::Document;
use crate::errors::Failure;
use crate::openapi_v2;
use crate::resources::{Resource, Resources};
use crate::route::subresource_name;

/// The documents.
pub(crate) struct OpenApi {
    index: Document,
    versions: BTreeMap<String, Document>,
    v2: Document,
}

impl OpenApi {
    pub(crate) fn new(resources: &Resources, version: &str) -> Self {
        let mut versions = BTreeMap::new();
        for (group, group_versions) in resources.groups() {
            for group_version in group_versions {
                let root = root(group, group_version);
                let document = Document::json(&document(group, group_version, &root, resources, version));
                versions.insert(root, document);
            }
        }
        let paths: Map<String, Value> = versions
            .iter()
            .map(|(root, document)| {
                let url = format!("/openapi/v3/{root}?hash={}", document.hash);
                (root.clone(), json!({ "serverRelativeURL": url }))
            })
            .collect();
        Self {
            index: Document::json(&json!({ "paths": paths })),
            versions,
            v2: openapi_v2::document(resources, version),
        }
    }

    pub(crate) fn index(&self, headers: &HeaderMap) -> Response<Body> {
        self.index.answer(headers)
    }

    pub(crate) fn v2(&self, headers: &HeaderMap) -> Response<Body> {
        self.v2.answer(headers)
    }

    pub(crate) fn version(&self, root: &str, headers: &HeaderMap) -> Result<Response<Body>, Failure> {
        self.versions.get(root).map(|document| document.answer(headers)).ok_or_else(Failure::no_such_path)
    }
}

/// `api/v1`, `apis/apps/v1`.
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn document(group: &str, version: &str, root: &str, resources: &Resources, server: &str) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in resources.of_version(group, version) {
        add_paths(&mut paths, root, resource);
        schemas.insert(schema_name(resource), schema(resource));
        schemas.insert(format!("{}List", schema_name(resource)), list_schema(resource));
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": server },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

/// Names as upstream's: `io.k8s.api.core.v1.Service`.
pub(crate) fn schema_name(resource: &Resource) -> String {
    let info = resource.info;
    let group =
        if info.group.is_empty() { "core" } else { info.group.split('.').next().unwrap_or(info.group) };
    format!("io.k8s.api.{group}.{}.{}", info.version, info.kind)
}

fn gvk(resource: &Resource) -> Value {
    let info = resource.info;
    json!({ "group": info.group, "version": info.version, "kind": info.kind })
}

fn schema(resource: &Resource) -> Value {
    json!({
        "type": "object",
        "description": format!("{} of {}.", resource.info.kind, resource.api_version),
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        },
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-group-version-kind": [gvk(resource)],
    })
}

fn list_schema(resource: &Resource) -> Value {
    let mut kind = gvk(resource);
    kind["kind"] = format!("{}List", resource.info.kind).into();
    let item = format!("#/components/schemas/{}", schema_name(resource));
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            "items": { "type": "array", "items": { "$ref": item } },
        },
        "x-kubernetes-group-version-kind": [kind],
    })
}

fn add_paths(paths: &mut Map<String, Value>, root: &str, resource: &Resource) {
    let plural = resource.info.plural;
    let collection = if resource.info.namespaced {
        let everywhere = json!({ "get": operation(resource, "list", &[]) });
        paths.insert(format!("/{root}/{plural}"), everywhere);
        format!("/{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("/{root}/{plural}")
    };
    let item = format!("{collection}/{{name}}");
    paths.insert(
        collection,
        json!({
            "get": operation(resource, "list", &[]),
            "post": operation(resource, "post", WRITE),
            "delete": operation(resource, "deletecollection", &["dryRun"]),
        }),
    );
    for sub in resource.info.subresources {
        let path = format!("{item}/{}", subresource_name(*sub));
        let operations = match sub {
            Subresource::Status => json!({
                "get": operation(resource, "get", &[]),
                "put": operation(resource, "put", WRITE),
                "patch": patch_operation(resource),
            }),
            Subresource::Finalize => json!({ "put": operation(resource, "put", WRITE) }),
            // Of other kinds than this one.
            Subresource::Scale | Subresource::Binding => continue,
        };
        paths.insert(path, operations);
    }
    paths.insert(
        item,
        json!({
            "get": operation(resource, "get", &[]),
            "put": operation(resource, "put", WRITE),
            "patch": patch_operation(resource),
            "delete": operation(resource, "delete", &["dryRun"]),
        }),
    );
}

const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];

fn operation(resource: &Resource, action: &str, parameters: &[&str]) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } }))
        .collect();
    let name =
        if action == "list" { format!("{}List", schema_name(resource)) } else { schema_name(resource) };
    let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
    json!({
        "parameters": parameters,
        "responses": { "200": { "description": "OK", "content": { "application/json": { "schema": schema } } } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk(resource),
    })
}

fn patch_operation(resource: &Resource) -> Value {
    let mut operation = operation(resource, "patch", WRITE);
    operation["requestBody"] = json!({ "content": {
        "application/json-patch+json": { "schema": { "type": "array", "items": { "type": "object" } } },
        "application/merge-patch+json": { "schema": { "type": "object" } },
    } });
    operation
}
