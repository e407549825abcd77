//! OpenAPI: for v3 an index and one document for each group version, for v2 one document. Clients read from them what
//! fields mean (`kubectl explain`), how lists merge, and that the server validates fields itself: kubectl looks for a PATCH
//! of the object's kind with a `fieldValidation` parameter.
//!
//! Documents are put together when they are asked for and not kept: clients cache them by their hash.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::body::Body;
use http::{HeaderMap, Response};
use serde_json::{Map, Value, json};
use svcd_api::kind::Subresource;
use svcd_api::schema::{Definitions, type_name};

use crate::document::Document;
use crate::errors::Failure;
use crate::negotiate;
use crate::openapi_v2;
use crate::resources::{Resource, Resources};
use crate::route::subresource_name;
use crate::version::GIT_VERSION;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The documents.
#[derive(Default)]
pub(crate) struct OpenApi {
    /// The hash of each group version's document, from the first time that somebody asked.
    hashes: OnceLock<BTreeMap<String, String>>,
}

impl OpenApi {
    /// `/openapi/v3`.
    pub(crate) fn index(&self, resources: &Resources, headers: &HeaderMap) -> Response<Body> {
        let hashes = self.hashes.get_or_init(|| {
            let definitions = Definitions::unpack();
            let versions = roots(resources);
            let hash = |(group, version, root): (&str, &str, String)| {
                let text = document(&definitions, resources, (group, version), &root);
                (root, Document::new(text.into(), JSON).hash)
            };
            versions.into_iter().map(hash).collect()
        });
        let url = |(root, hash): (&String, &String)| {
            (root.clone(), json!({ "serverRelativeURL": format!("/openapi/v3/{root}?hash={hash}") }))
        };
        let paths: Map<String, Value> = hashes.iter().map(url).collect();
        Document::json(&json!({ "paths": paths })).answer(headers)
    }

    /// `/openapi/v3/{root}`.
    pub(crate) fn version(
        resources: &Resources,
        root: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        let found = roots(resources).into_iter().find(|(.., known)| known == root);
        let (group, version, root) = found.ok_or_else(Failure::no_such_path)?;
        let text = document(&Definitions::unpack(), resources, (group, version), &root);
        Ok(Document::new(text.into(), JSON).answer(headers))
    }

    /// `/openapi/v2`.
    pub(crate) fn v2(resources: &Resources, headers: &HeaderMap) -> Response<Body> {
        let types = resources.iter().flat_map(|r| types_of(r)).chain(common_types());
        let definitions = Definitions::unpack();
        let closure = definitions.closure(types);
        let paths = all_paths(resources);
        if negotiate::wants_protobuf(headers) {
            openapi_v2::protobuf(&paths, &closure, GIT_VERSION).answer(headers)
        } else {
            openapi_v2::json(&paths, &closure, GIT_VERSION).answer(headers)
        }
    }
}

const JSON: &str = "application/json";

/// Group, version and path (`api/v1`, `apis/apps/v1`) of all that is served.
fn roots(resources: &Resources) -> Vec<(&'static str, &'static str, String)> {
    let root = |group: &str, version: &str| {
        if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
    };
    let groups = resources.groups().into_iter();
    groups
        .flat_map(|(group, versions)| versions.into_iter().map(move |v| (group, v, root(group, v))))
        .collect()
}

/// The paths of all versions.
fn all_paths(resources: &Resources) -> Map<String, Value> {
    let mut paths = Map::new();
    for (group, version, root) in roots(resources) {
        for resource in resources.of_version(group, version) {
            add_paths(&mut paths, &root, resource);
        }
    }
    paths
}

/// The types that the paths of a kind speak of.
fn types_of(resource: &Resource) -> [String; 2] {
    let name = type_name(resource.info);
    [format!("{name}List"), name]
}

fn common_types() -> impl Iterator<Item = String> {
    ["DeleteOptions", "Patch", "Status"].into_iter().map(|name| format!("{META}.{name}"))
}

/// One document. The schemas stand in it as they were packed; nothing of them is parsed.
fn document(
    definitions: &Definitions,
    resources: &Resources,
    (group, version): (&str, &str),
    root: &str,
) -> String {
    let mut paths = Map::new();
    let mut types: Vec<String> = common_types().collect();
    for resource in resources.of_version(group, version) {
        add_paths(&mut paths, root, resource);
        types.extend(types_of(resource));
    }
    let info = json!({ "title": "Kubernetes", "version": GIT_VERSION });
    let mut out = format!(
        r#"{{"openapi":"3.0.0","info":{info},"paths":{},"components":{{"schemas":{{"#,
        Value::Object(paths)
    );
    for (at, (name, schema)) in definitions.closure(types).into_iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        out.push_str(&format!("{comma}\"{name}\":{schema}"));
    }
    out.push_str("}}}");
    out
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
    if resource.kind.is_virtual() {
        paths.remove(&format!("/{root}/{plural}"));
        paths.insert(collection, json!({ "post": operation(resource, "post", WRITE) }));
        return;
    }
    let item = format!("{collection}/{{name}}");
    paths.insert(
        collection,
        json!({
            "get": operation(resource, "list", &[]),
            "post": writing(resource, "post"),
            "delete": operation(resource, "deletecollection", &["dryRun"]),
        }),
    );
    for sub in resource.info.subresources {
        let path = format!("{item}/{}", subresource_name(*sub));
        let operations = match sub {
            Subresource::Status | Subresource::Approval => json!({
                "get": operation(resource, "get", &[]),
                "put": writing(resource, "put"),
                "patch": patch_operation(resource),
            }),
            Subresource::Finalize => json!({ "put": writing(resource, "put") }),
            // Of other kinds than this one.
            Subresource::Scale | Subresource::Binding | Subresource::Eviction | Subresource::Token => {
                continue;
            }
        };
        paths.insert(path, operations);
    }
    paths.insert(
        item,
        json!({
            "get": operation(resource, "get", &[]),
            "put": writing(resource, "put"),
            "patch": patch_operation(resource),
            "delete": operation(resource, "delete", &["dryRun"]),
        }),
    );
}

const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn operation(resource: &Resource, action: &str, parameters: &[&str]) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } }))
        .collect();
    let [list, item] = types_of(resource);
    let schema = match action {
        "list" => reference(&list),
        "delete" | "deletecollection" => reference(&format!("{META}.Status")),
        _ => reference(&item),
    };
    let info = resource.info;
    json!({
        "parameters": parameters,
        "responses": { "200": { "description": "OK", "content": { "application/json": { "schema": schema } } } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": { "group": info.group, "version": info.version, "kind": info.kind },
    })
}

fn writing(resource: &Resource, action: &str) -> Value {
    let mut operation = operation(resource, action, WRITE);
    let schema = reference(&type_name(resource.info));
    operation["requestBody"] = json!({ "content": { "*/*": { "schema": schema } }, "required": true });
    operation
}

fn patch_operation(resource: &Resource) -> Value {
    let mut operation = operation(resource, "patch", &[WRITE, &["force"]].concat());
    let patch = json!({ "schema": reference(&format!("{META}.Patch")) });
    operation["requestBody"] = json!({ "required": true, "content": {
        "application/json-patch+json": patch,
        "application/merge-patch+json": patch,
        "application/strategic-merge-patch+json": patch,
        "application/apply-patch+yaml": patch,
    } });
    operation
}
