//! Reading and writing the metadata that all objects share.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::{DeleteParams, Patch, Preconditions};
use serde_json::{Value, json};

/// The object's name, empty for one that has none yet.
pub(crate) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The object's namespace, empty for kinds without.
pub(crate) fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// The object's UID.
pub(crate) fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

pub(crate) fn is_deleted(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

pub(crate) fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The owner that manages the object.
pub(crate) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// The reference that makes `owner` the manager of another object.
pub(crate) fn controlled_by<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name(owner.meta()).to_owned(),
        uid: uid(owner.meta()).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Deletes this very object, not a later one of the same name.
pub(crate) fn only_this(meta: &ObjectMeta) -> DeleteParams {
    let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: None };
    DeleteParams::background().preconditions(preconditions)
}

/// A merge patch that takes or gives up the object: it only applies to the version that was looked at.
pub(crate) fn owners_patch(meta: &ObjectMeta, owners: &[OwnerReference]) -> Patch<Value> {
    let owners = if owners.is_empty() { Value::Null } else { json!(owners) };
    Patch::Merge(json!({
        "metadata": {
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "ownerReferences": owners,
        }
    }))
}

/// Now, to the second, as times stand in objects.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

/// Whether the server's answer to a delete says that the object stays for a while.
pub(crate) fn is_lingering(meta: &ObjectMeta) -> bool {
    let finalized = meta.finalizers.iter().flatten().next().is_some();
    is_deleted(meta) && (finalized || meta.deletion_grace_period_seconds.unwrap_or_default() > 0)
}
