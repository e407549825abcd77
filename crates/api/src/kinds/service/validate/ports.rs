//! A Service's ports: present, named when several, told apart by name and by protocol and number.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

use crate::field::{FieldError, Path};
use crate::kinds::service::SpecExt;
use crate::{names, rules};

pub(super) fn validate(path: &Path<'_>, spec: &ServiceSpec, errors: &mut Vec<FieldError>) {
    let path = path.child("ports");
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !spec.is_headless() && spec.kind() != "ExternalName" {
        errors.push(FieldError::required(path, ""));
    }
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        one(&path.index(index), port, spec, ports.len() > 1, &mut names, errors);
    }
    duplicates(&path, ports, errors);
    duplicate_node_ports(&path, ports, errors);
}

fn one<'a>(
    path: &Path<'_>,
    port: &'a ServicePort,
    spec: &ServiceSpec,
    needs_name: bool,
    seen: &mut BTreeSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    match port.name.as_deref().unwrap_or_default() {
        "" if needs_name => errors.push(FieldError::required(path.child("name"), "")),
        "" => {}
        name => {
            rules::label(&path.child("name"), name, errors);
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
        }
    }
    rules::port(&path.child("port"), port.port, errors);
    rules::protocol(&path.child("protocol"), port.protocol.as_deref(), errors);
    if let Some(target) = &port.target_port {
        rules::port_or_name(&path.child("targetPort"), target, errors);
    }
    if let Some(protocol) = &port.app_protocol {
        let messages = names::qualified(protocol);
        let path = path.child("appProtocol");
        errors.extend(messages.into_iter().map(|m| FieldError::invalid(path, protocol, m)));
    }
    if let Some(number) = port.node_port {
        match spec.kind() {
            kind @ ("ClusterIP" | "ExternalName") => {
                let detail = format!("may not be used when `type` is '{kind}'");
                errors.push(FieldError::forbidden(path.child("nodePort"), detail));
            }
            _ => rules::port(&path.child("nodePort"), number, errors),
        }
    }
}

fn duplicates(path: &Path<'_>, ports: &[ServicePort], errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        if !seen.insert((port.port, &port.protocol)) {
            errors.push(duplicate_port(path.index(index).to_string(), port));
        }
    }
}

fn duplicate_node_ports(path: &Path<'_>, ports: &[ServicePort], errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate().filter(|(_, port)| port.node_port.is_some()) {
        if !seen.insert((port.node_port, &port.protocol)) {
            let path = path.index(index);
            errors.push(FieldError::duplicate(path.child("nodePort"), port.node_port));
        }
    }
}

/// What upstream shows of a duplicate: its internal type with only the key's fields set, in Go's field order.
fn duplicate_port(field: String, port: &ServicePort) -> FieldError {
    let message = format!(
        r#"Duplicate value: {{"Name":"","Protocol":"{}","AppProtocol":null,"Port":{},"TargetPort":0,"NodePort":0}}"#,
        port.protocol.as_deref().unwrap_or_default(),
        port.port
    );
    FieldError { message, ..FieldError::duplicate(field, ()) }
}
