//! Discovery: what is served, in the old form (a list of groups, a list of kinds for each version) and the aggregated
//! one (everything at once). Built once from the resource table.

use std::collections::HashMap;

use axum::body::Body;
use http::{HeaderMap, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use svcd_api::kind::Subresource;

use crate::document::Document;
use crate::errors::Failure;
use crate::negotiate::{DiscoveryForm, discovery_form};
use crate::resources::{Resource, Resources};
use crate::route::subresource_name;

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2_BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// The same thing in all its forms.
struct Forms {
    plain: Document,
    v2: Document,
    v2beta1: Document,
}

impl Forms {
    fn new(plain: &Value, groups: &[(&'static str, Vec<&'static str>)], resources: &Resources) -> Self {
        let items: Vec<Value> =
            groups.iter().map(|(group, versions)| aggregated(group, versions, resources)).collect();
        let list = |version: &str, content_type| {
            let value = json!({
                "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
                "metadata": {}, "items": items,
            });
            Document::new(value.to_string().into(), content_type)
        };
        Self { plain: Document::json(plain), v2: list("v2", V2), v2beta1: list("v2beta1", V2_BETA1) }
    }

    fn answer(&self, headers: &HeaderMap) -> Result<Response<Body>, Failure> {
        let document = match discovery_form(headers)? {
            DiscoveryForm::Plain => &self.plain,
            DiscoveryForm::AggregatedV2 => &self.v2,
            DiscoveryForm::AggregatedV2Beta1 => &self.v2beta1,
        };
        Ok(document.answer(headers))
    }
}

/// The documents of discovery.
pub(crate) struct Discovery {
    core: Forms,
    groups: Forms,
    group: HashMap<&'static str, Document>,
    /// By `v1`, `apps/v1`.
    version: HashMap<String, Document>,
}

impl Discovery {
    pub(crate) fn new(resources: &Resources) -> Self {
        let (core, named): (Vec<_>, Vec<_>) =
            resources.groups().into_iter().partition(|(name, _)| name.is_empty());
        let core_versions: Vec<_> = core.iter().flat_map(|(_, versions)| versions).collect();
        let versions = json!({
            "kind": "APIVersions", "versions": core_versions, "serverAddressByClientCIDRs": [],
        });
        let list: Vec<Value> = named.iter().map(|(name, versions)| api_group(name, versions)).collect();
        let groups = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list });
        let group = named.iter().map(|(name, versions)| {
            let mut value = api_group(name, versions);
            value["kind"] = "APIGroup".into();
            value["apiVersion"] = "v1".into();
            (*name, Document::json(&value))
        });
        let version = core.iter().chain(&named).flat_map(|(name, versions)| {
            versions
                .iter()
                .map(|version| (group_version(name, version), resource_list(name, version, resources)))
        });
        Self {
            core: Forms::new(&versions, &core, resources),
            groups: Forms::new(&groups, &named, resources),
            group: group.collect(),
            version: version.collect(),
        }
    }

    /// `/api`.
    pub(crate) fn core_versions(&self, headers: &HeaderMap) -> Result<Response<Body>, Failure> {
        self.core.answer(headers)
    }

    /// `/apis`.
    pub(crate) fn groups(&self, headers: &HeaderMap) -> Result<Response<Body>, Failure> {
        self.groups.answer(headers)
    }

    /// `/apis/GROUP`.
    pub(crate) fn group(&self, group: &str, headers: &HeaderMap) -> Result<Response<Body>, Failure> {
        self.group.get(group).map(|document| document.answer(headers)).ok_or_else(Failure::no_such_path)
    }

    /// `/api/v1`, `/apis/GROUP/VERSION`.
    pub(crate) fn version(
        &self,
        group: &str,
        version: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        self.version
            .get(&group_version(group, version))
            .map(|d| d.answer(headers))
            .ok_or_else(Failure::no_such_path)
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn api_group(group: &str, versions: &[&str]) -> Value {
    let version = |v: &&str| json!({ "groupVersion": group_version(group, v), "version": v });
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({ "name": group, "versions": all, "preferredVersion": all.first() })
}

/// Group, version and kind that a subresource speaks, and its verbs.
fn subresource_shape(
    resource: &Resource,
    sub: Subresource,
) -> ((&'static str, &'static str, &'static str), &'static [&'static str]) {
    let info = resource.info;
    match sub {
        Subresource::Status | Subresource::Approval => {
            ((info.group, info.version, info.kind), &["get", "patch", "update"])
        }
        Subresource::Scale => (("autoscaling", "v1", "Scale"), &["get", "patch", "update"]),
        Subresource::Binding => ((info.group, info.version, "Binding"), &["create"]),
        Subresource::Token => (("authentication.k8s.io", "v1", "TokenRequest"), &["create"]),
        Subresource::Eviction => (("policy", "v1", "Eviction"), &["create"]),
        Subresource::Finalize => ((info.group, info.version, info.kind), &["update"]),
    }
}

fn resource_list(group: &str, version: &str, resources: &Resources) -> Document {
    let mut entries = Vec::new();
    for resource in resources.of_version(group, version) {
        entries.push(resource_entry(resource));
        entries.extend(resource.info.subresources.iter().map(|sub| subresource_entry(resource, *sub)));
    }
    Document::json(&json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": group_version(group, version), "resources": entries,
    }))
}

/// Questions are asked, and nothing else can be done with them.
fn verbs(resource: &Resource) -> &'static [&'static str] {
    if resource.kind.is_virtual() { &["create"] } else { VERBS }
}

fn resource_entry(resource: &Resource) -> Value {
    let info = resource.info;
    let mut entry = json!({
        "name": info.plural, "singularName": info.singular, "namespaced": info.namespaced, "kind": info.kind,
        "verbs": verbs(resource),
    });
    if !resource.kind.is_virtual() {
        entry["storageVersionHash"] = storage_hash(resource).into();
    }
    if !info.short_names.is_empty() {
        entry["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        entry["categories"] = json!(info.categories);
    }
    entry
}

fn subresource_entry(resource: &Resource, sub: Subresource) -> Value {
    let info = resource.info;
    let ((group, version, kind), verbs) = subresource_shape(resource, sub);
    let mut entry = json!({
        "name": format!("{}/{}", info.plural, subresource_name(sub)), "singularName": "",
        "namespaced": info.namespaced, "kind": kind, "verbs": verbs,
    });
    if (group, version) != (info.group, info.version) {
        entry["group"] = group.into();
        entry["version"] = version.into();
    }
    entry
}

/// Upstream's hash of how a kind is stored: clients only compare it.
fn storage_hash(resource: &Resource) -> String {
    use base64::Engine as _;
    let info = resource.kind.renamed().map_or(resource.info, |renamed| renamed.stored().info());
    let digest = Sha256::digest(format!("{}/{}/{}", info.group, info.version, info.kind));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

fn aggregated(group: &str, versions: &[&str], resources: &Resources) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let list: Vec<Value> =
                resources.of_version(group, version).map(|r| aggregated_resource(r)).collect();
            json!({ "version": version, "resources": list, "freshness": "Current" })
        })
        .collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
    json!({ "metadata": metadata, "versions": versions })
}

fn response_kind((group, version, kind): (&str, &str, &str)) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let info = resource.info;
    let mut entry = json!({
        "resource": info.plural,
        "responseKind": response_kind((info.group, info.version, info.kind)),
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular,
        "verbs": verbs(resource),
    });
    if !info.short_names.is_empty() {
        entry["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        entry["categories"] = json!(info.categories);
    }
    let subs: Vec<Value> = info.subresources.iter().map(|sub| {
        let (shape, verbs) = subresource_shape(resource, *sub);
        json!({ "subresource": subresource_name(*sub), "responseKind": response_kind(shape), "verbs": verbs })
    }).collect();
    if !subs.is_empty() {
        entry["subresources"] = subs.into();
    }
    entry
}
