//! Endpoints: the older way of saying which addresses serve a Service. Still written and read by many.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change, Warnings};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo};
use crate::{rules, table, warnings};

/// Whoever keeps an object says so here.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Addresses shown before "more".
const SHOWN: usize = 3;

pub(crate) struct EndpointsKind;

impl Behavior for EndpointsKind {
    type Object = Endpoints;

    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        create_on_update: true,
        unconditional_update: true,
    };
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text("Endpoints", "The set of all endpoints is the union of all subsets."),
        table::AGE,
    ];

    const DEPRECATION: Option<&'static str> =
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
    const WARNINGS: Option<Warnings<Endpoints>> = Some(warnings);

    const DEFAULT: Option<Change<Endpoints>> = Some(|endpoints| {
        let ports = endpoints.subsets.iter_mut().flatten().flat_map(|s| s.ports.iter_mut().flatten());
        for port in ports {
            // Empty is absent here, unlike in an EndpointSlice.
            port.name = port.name.take().filter(|name| !name.is_empty());
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    });

    fn validate(endpoints: &Endpoints, errors: &mut Vec<FieldError>) {
        let subsets = Path::new("subsets");
        for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
            validate_subset(&subsets.index(index), subset, errors);
        }
    }

    fn cells(endpoints: &Endpoints, now: Timestamp) -> Vec<Value> {
        let meta = &endpoints.metadata;
        vec![table::name(meta), json!(shown(endpoints)), table::age(meta, now)]
    }
}

fn validate_subset(path: &Path<'_>, subset: &EndpointSubset, errors: &mut Vec<FieldError>) {
    if subset.addresses.is_none() && subset.not_ready_addresses.is_none() {
        errors.push(FieldError::required(path, "must specify `addresses` or `notReadyAddresses`"));
    }
    for (field, list) in
        [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)]
    {
        for (index, address) in list.iter().flatten().enumerate() {
            validate_address(&path.child(field).index(index), address, errors);
        }
    }
    let ports = subset.ports.as_deref().unwrap_or_default();
    for (index, port) in ports.iter().enumerate() {
        validate_port(&path.child("ports").index(index), port, ports.len() > 1, errors);
    }
}

fn validate_address(path: &Path<'_>, address: &EndpointAddress, errors: &mut Vec<FieldError>) {
    rules::endpoint_ip(&path.child("ip"), &address.ip, errors);
    if let Some(hostname) = &address.hostname {
        rules::label(&path.child("hostname"), hostname, errors);
    }
    if let Some(node) = &address.node_name {
        rules::subdomain(&path.child("nodeName"), node, errors);
    }
}

fn validate_port(path: &Path<'_>, port: &EndpointPort, needs_name: bool, errors: &mut Vec<FieldError>) {
    match port.name.as_deref().unwrap_or_default() {
        "" if needs_name => errors.push(FieldError::required(path.child("name"), "")),
        "" => {}
        name => rules::label(&path.child("name"), name, errors),
    }
    rules::port(&path.child("port"), port.port, errors);
    rules::protocol(&path.child("protocol"), port.protocol.as_deref(), errors);
}

/// Addresses, unless our own controller wrote them.
fn warnings(new: &Endpoints, _: Option<&Endpoints>) -> Vec<String> {
    let manager = new.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    if manager.is_some_and(|manager| manager == MANAGER) {
        return Vec::new();
    }
    let (mut said, root) = (Vec::new(), Path::new("subsets"));
    for (index, subset) in new.subsets.iter().flatten().enumerate() {
        let path = root.index(index);
        for (field, list) in
            [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)]
        {
            let list = list.iter().flatten().enumerate();
            said.extend(list.filter_map(|(at, address)| {
                warnings::ip(&path.child(field).index(at).child("ip"), &address.ip)
            }));
        }
    }
    said
}

/// `a:p,b:p,c:p + 2 more...`
fn shown(endpoints: &Endpoints) -> String {
    let mut list: Vec<String> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let addresses = subset.addresses.as_deref().unwrap_or_default();
        let ports = subset.ports.as_deref().unwrap_or_default();
        if ports.is_empty() {
            list.extend(addresses.iter().map(|a| a.ip.clone()));
        }
        for port in ports {
            list.extend(addresses.iter().map(|a| host_port(&a.ip, port.port)));
        }
    }
    match list.len().saturating_sub(SHOWN) {
        0 => table::or_none(list.join(",")),
        more => format!("{} + {more} more...", list[..SHOWN].join(",")),
    }
}

fn host_port(ip: &str, port: i32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}
