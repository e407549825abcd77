//! EndpointSlices: at most a thousand endpoints of one Service, all of one address type.

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use serde_json::{Value, json};

use crate::behavior::{Behavior, Change, Warnings};
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo};
use crate::{names, rules, table, warnings};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
/// Entries shown before "more".
const SHOWN: usize = 3;

pub(crate) struct EndpointSlices;

impl Behavior for EndpointSlices {
    type Object = EndpointSlice;

    const INFO: &'static KindInfo = &KindInfo {
        group: "discovery.k8s.io",
        version: "v1",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        create_on_update: false,
        unconditional_update: true,
    };
    const GENERATION: &'static [&'static str] = &["addressType", "endpoints", "ports"];
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text(
            "AddressType",
            "addressType specifies the type of address carried by this EndpointSlice. All addresses in this slice must be the same type.",
        ),
        table::text(
            "Ports",
            "ports specifies the list of network ports exposed by each endpoint in this slice.",
        ),
        table::text(
            "Endpoints",
            "endpoints is a list of unique endpoints in this slice. Each slice may include a maximum of 1000 endpoints.",
        ),
        table::AGE,
    ];

    const WARNINGS: Option<Warnings<EndpointSlice>> = Some(warnings);

    const DEFAULT: Option<Change<EndpointSlice>> = Some(|slice| {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    });

    fn validate(slice: &EndpointSlice, errors: &mut Vec<FieldError>) {
        let kind = slice.address_type.as_str();
        if kind.is_empty() {
            errors.push(FieldError::required("addressType", ""));
        } else {
            rules::one_of(&Path::new("addressType"), kind, &["FQDN", "IPv4", "IPv6"], errors);
        }
        validate_endpoints(kind, slice.endpoints.as_deref().unwrap_or_default(), errors);
        validate_ports(slice.ports.as_deref().unwrap_or_default(), errors);
    }

    fn validate_update(new: &EndpointSlice, old: &EndpointSlice, errors: &mut Vec<FieldError>) {
        if new.address_type != old.address_type {
            errors.push(FieldError::invalid("addressType", &new.address_type, rules::IMMUTABLE));
        }
    }

    fn cells(slice: &EndpointSlice, now: Timestamp) -> Vec<Value> {
        let addresses = slice.endpoints.iter().flatten().flat_map(|e| e.addresses.iter().cloned());
        vec![
            table::name(&slice.metadata),
            json!(slice.address_type),
            json!(shown(slice.ports.iter().flatten().map(port_text))),
            json!(shown(addresses)),
            table::age(&slice.metadata, now),
        ]
    }
}

fn warnings(new: &EndpointSlice, old: Option<&EndpointSlice>) -> Vec<String> {
    let outdated = (old.is_none() && new.address_type == "FQDN")
        .then(|| "spec.addressType: FQDN endpoints are deprecated".to_owned());
    let root = Path::new("endpoints");
    let endpoints = new.endpoints.iter().flatten().enumerate();
    let addresses =
        endpoints.flat_map(|(at, e)| e.addresses.iter().enumerate().map(move |(i, a)| (at, i, a)));
    let wrong = addresses.filter_map(|(endpoint, index, address)| {
        warnings::ip(&root.index(endpoint).child("addresses").index(index), address)
    });
    outdated.into_iter().chain(wrong).collect()
}

fn validate_endpoints(kind: &str, endpoints: &[Endpoint], errors: &mut Vec<FieldError>) {
    let path = Path::new("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.push(FieldError::too_many(path, endpoints.len(), ENDPOINTS_MAX));
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(index);
        let addresses = path.child("addresses");
        match endpoint.addresses.len() {
            0 => errors.push(FieldError::required(addresses, "must contain at least 1 address")),
            count if count > ADDRESSES_MAX => {
                errors.push(FieldError::too_many(addresses, count, ADDRESSES_MAX));
            }
            _ => {}
        }
        for (index, address) in endpoint.addresses.iter().enumerate() {
            validate_address(&addresses.index(index), kind, address, errors);
        }
        if let Some(node) = &endpoint.node_name {
            rules::subdomain(&path.child("nodeName"), node, errors);
        }
        if let Some(hostname) = &endpoint.hostname {
            rules::label(&path.child("hostname"), hostname, errors);
        }
    }
}

fn validate_address(path: &Path<'_>, kind: &str, address: &str, errors: &mut Vec<FieldError>) {
    match kind {
        "IPv4" | "IPv6" => {
            let ip = rules::endpoint_ip(path, address, errors);
            if ip.is_some_and(|ip| ip.is_ipv4() != (kind == "IPv4")) {
                errors.push(FieldError::invalid(path, address, format!("must be an {kind} address")));
            }
        }
        "FQDN" => {
            if address.trim_end_matches('.').split('.').count() < 2 {
                let detail = "should be a domain with at least two segments separated by dots";
                errors.push(FieldError::invalid(path, address, detail));
            }
            let messages = names::subdomain(address.strip_suffix('.').unwrap_or(address));
            errors.extend(messages.into_iter().map(|m| FieldError::invalid(path, address, m)));
        }
        _ => {}
    }
}

fn validate_ports(ports: &[EndpointPort], errors: &mut Vec<FieldError>) {
    let path = Path::new("ports");
    if ports.len() > PORTS_MAX {
        errors.push(FieldError::too_many(path, ports.len(), PORTS_MAX));
        return;
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            rules::label(&path.child("name"), name, errors);
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
        rules::protocol(&path.child("protocol"), port.protocol.as_deref(), errors);
        if let Some(number) = port.port {
            rules::port(&path.child("port"), number, errors);
        }
        if let Some(protocol) = &port.app_protocol {
            let messages = names::qualified(protocol);
            let path = path.child("appProtocol");
            errors.extend(messages.into_iter().map(|m| FieldError::invalid(path, protocol, m)));
        }
    }
}

fn port_text(port: &EndpointPort) -> String {
    match (port.port, port.name.as_deref()) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) if !name.is_empty() => name.to_owned(),
        _ => "*".to_owned(),
    }
}

/// `a,b,c + 2 more...`, or `<unset>`.
fn shown(entries: impl Iterator<Item = String>) -> String {
    let list: Vec<String> = entries.collect();
    match list.len() {
        0 => "<unset>".to_owned(),
        count if count > SHOWN => format!("{} + {} more...", list[..SHOWN].join(","), count - SHOWN),
        _ => list.join(","),
    }
}
