//! IPAddresses: each is the claim of one Service on the address that it is named by. The server writes them with their
//! Services; one made by hand reserves its address.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ParentReference};
use serde_json::{Value, json};

use crate::addresses::{AddressClaims, FAMILY_LABEL, Family, MANAGED_BY_LABEL, MANAGED_BY_SERVER, Owner};
use crate::behavior::Behavior;
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo};
use crate::names::NameRule;
use crate::{rules, table};

pub(crate) struct IpAddresses;

impl Behavior for IpAddresses {
    type Object = IPAddress;

    const INFO: &'static KindInfo = &KindInfo {
        group: "networking.k8s.io",
        version: "v1",
        kind: "IPAddress",
        plural: "ipaddresses",
        singular: "ipaddress",
        short_names: &["ip"],
        categories: &[],
        namespaced: false,
        subresources: &[],
        create_on_update: false,
        unconditional_update: true,
    };
    const NAMES: NameRule = NameRule::Address;
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text("ParentRef", "ParentRef references the resource that an IPAddress is attached to."),
    ];
    const ADDRESS_CLAIMS: Option<&'static dyn AddressClaims> = Some(&Self);

    fn validate(address: &IPAddress, errors: &mut Vec<FieldError>) {
        let (path, parent) = (Path::new("spec"), &address.spec.parent_ref);
        let path = path.child("parentRef");
        // An absent reference reads as an empty one.
        if *parent == ParentReference::default() {
            errors.push(FieldError::required(path, ""));
        } else {
            validate_parent(&path, parent, errors);
        }
    }

    fn validate_update(new: &IPAddress, old: &IPAddress, errors: &mut Vec<FieldError>) {
        if new.spec.parent_ref != old.spec.parent_ref {
            errors.push(FieldError::invalid("spec.parentRef", &new.spec.parent_ref, rules::IMMUTABLE));
        }
    }

    fn cells(address: &IPAddress, _now: Timestamp) -> Vec<Value> {
        vec![table::name(&address.metadata), json!(shown(&address.spec.parent_ref))]
    }
}

fn validate_parent(path: &Path<'_>, parent: &ParentReference, errors: &mut Vec<FieldError>) {
    if let Some(group) = parent.group.as_deref().filter(|group| !group.is_empty()) {
        rules::subdomain(&path.child("group"), group, errors);
    }
    for (field, text) in [("resource", &parent.resource), ("name", &parent.name)] {
        rules::path_segment(&path.child(field), text, errors);
    }
    if let Some(namespace) = parent.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        rules::path_segment(&path.child("namespace"), namespace, errors);
    }
}

/// `services/default/kubernetes`
fn shown(parent: &ParentReference) -> String {
    let group = parent.group.as_deref().filter(|group| !group.is_empty());
    let resource =
        group.map_or_else(|| parent.resource.clone(), |group| format!("{}.{group}", parent.resource));
    let namespace = parent.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let parts = [Some(resource.to_lowercase()), namespace.map(str::to_owned), Some(parent.name.clone())];
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}

impl AddressClaims for IpAddresses {
    fn claim(&self, address: IpAddr, owner: Owner<'_>) -> Value {
        let mut parent = json!({ "resource": owner.resource, "name": owner.name });
        for (field, text) in [("group", owner.group), ("namespace", owner.namespace)] {
            if !text.is_empty() {
                parent[field] = text.into();
            }
        }
        let labels = json!({ FAMILY_LABEL: Family::of(address).name(), MANAGED_BY_LABEL: MANAGED_BY_SERVER });
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": Self::INFO.kind,
            "metadata": { "name": address.to_string(), "labels": labels },
            "spec": { "parentRef": parent },
        })
    }

    fn owner<'a>(&self, object: &'a Value) -> Option<Owner<'a>> {
        let parent = object["spec"].get("parentRef")?;
        let text = |field: &str| parent[field].as_str().unwrap_or_default();
        Some(Owner {
            group: text("group"),
            resource: text("resource"),
            namespace: text("namespace"),
            name: text("name"),
        })
    }
}
