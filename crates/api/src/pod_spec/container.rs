//! A pod's containers: names, images, ports, environment, resources, mounts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::probe;
use crate::field::{FieldError, Path};
use crate::quantity::Quantity;
use crate::{names, rules};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["FallbackToLogsOnError", "File"];

/// What the rules of a container need to know of its pod.
struct Pod<'a> {
    volumes: &'a BTreeSet<&'a str>,
    host_network: bool,
}

/// Everything wrong with the containers of a pod.
pub(super) fn validate_all(
    path: &Path<'_>,
    spec: &PodSpec,
    volumes: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    let pod = Pod { volumes, host_network: spec.host_network == Some(true) };
    let mut names = BTreeSet::new();
    if spec.containers.is_empty() {
        errors.push(FieldError::required(path.child("containers"), ""));
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.child("containers");
        one(&path.index(index), container, &pod, &mut names, errors);
    }
    host_ports(&path.child("containers"), &spec.containers, errors);
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let path = path.child("initContainers");
        let path = path.index(index);
        one(&path, container, &pod, &mut names, errors);
        if container.restart_policy.as_deref() != Some("Always") {
            without_probes(&path, container, errors);
        }
    }
}

fn one<'a>(
    path: &Path<'_>,
    container: &'a Container,
    pod: &Pod<'_>,
    seen: &mut BTreeSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    match container.name.as_str() {
        "" => errors.push(FieldError::required(path.child("name"), "")),
        name => {
            rules::label(&path.child("name"), name, errors);
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
        }
    }
    image(path, container, errors);
    ports(&path.child("ports"), container.ports.as_deref().unwrap_or_default(), pod, errors);
    for (index, variable) in container.env.iter().flatten().enumerate() {
        environment(&path.child("env").index(index), variable, errors);
    }
    mounts(&path.child("volumeMounts"), container, pod, errors);
    probe::validate_all(path, container, errors);
    if let Some(needs) = &container.resources {
        resources(&path.child("resources"), needs, errors);
    }
}

fn image(path: &Path<'_>, container: &Container, errors: &mut Vec<FieldError>) {
    match container.image.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required(path.child("image"), "")),
        image if image.trim() != image => {
            let detail = "must not have leading or trailing whitespace";
            errors.push(FieldError::invalid(path.child("image"), image, detail));
        }
        _ => {}
    }
    for (field, value, words) in [
        ("imagePullPolicy", &container.image_pull_policy, PULL_POLICIES),
        ("terminationMessagePolicy", &container.termination_message_policy, MESSAGE_POLICIES),
    ] {
        match value {
            None => errors.push(FieldError::required(path.child(field), "")),
            Some(value) => rules::one_of(&path.child(field), value, words, errors),
        }
    }
}

fn ports(path: &Path<'_>, ports: &[ContainerPort], pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        if let Some(name) = &port.name {
            let messages = names::port_name(name);
            errors.extend(messages.into_iter().map(|m| FieldError::invalid(path.child("name"), name, m)));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
        }
        if port.container_port == 0 {
            errors.push(FieldError::required(path.child("containerPort"), ""));
        } else {
            rules::port(&path.child("containerPort"), port.container_port, errors);
        }
        if let Some(host_port) = port.host_port {
            rules::port(&path.child("hostPort"), host_port, errors);
            if pod.host_network && host_port != port.container_port {
                let detail = "must match `hostPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(path.child("containerPort"), port.container_port, detail));
            }
        }
        rules::protocol(&path.child("protocol"), port.protocol.as_deref(), errors);
    }
}

/// A port of the machine is taken once in a pod.
fn host_ports(path: &Path<'_>, containers: &[Container], errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (at, port) in container.ports.iter().flatten().enumerate() {
            let Some(number) = port.host_port else { continue };
            let key = (port.protocol.as_deref(), port.host_ip.as_deref(), number);
            if !seen.insert(key) {
                let path = path.index(index);
                let path = path.child("ports");
                let shown = format!(
                    "{}/{}/{number}",
                    port.protocol.as_deref().unwrap_or_default(),
                    port.host_ip.as_deref().unwrap_or_default()
                );
                errors.push(FieldError::duplicate(path.index(at).child("hostPort"), shown));
            }
        }
    }
}

fn environment(path: &Path<'_>, variable: &EnvVar, errors: &mut Vec<FieldError>) {
    match variable.name.as_str() {
        "" => errors.push(FieldError::required(path.child("name"), "")),
        name => {
            let messages = names::env_var(name);
            errors.extend(messages.into_iter().map(|m| FieldError::invalid(path.child("name"), name, m)));
        }
    }
    let Some(from) = &variable.value_from else { return };
    let sources = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    let detail = match sources.iter().filter(|is_set| **is_set).count() {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        _ if variable.value.is_some() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(path.child("valueFrom"), "", detail));
}

fn mounts(path: &Path<'_>, container: &Container, pod: &Pod<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = path.index(index);
        if mount.name.is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        } else if !pod.volumes.contains(mount.name.as_str()) {
            errors.push(FieldError::not_found(path.child("name"), &mount.name));
        }
        if mount.mount_path.is_empty() {
            errors.push(FieldError::required(path.child("mountPath"), ""));
        } else if !seen.insert(&mount.mount_path) {
            errors.push(FieldError::invalid(path.child("mountPath"), &mount.mount_path, "must be unique"));
        }
    }
}

/// Only sidecars are asked how they are; the others just end.
fn without_probes(path: &Path<'_>, container: &Container, errors: &mut Vec<FieldError>) {
    for (field, is_set) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if is_set {
            let detail = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(path.child(field), detail));
        }
    }
}

fn resources(path: &Path<'_>, needs: &ResourceRequirements, errors: &mut Vec<FieldError>) {
    let limits = amounts(&path.child("limits"), needs.limits.as_ref(), errors);
    let requests = amounts(&path.child("requests"), needs.requests.as_ref(), errors);
    for (name, request) in &requests {
        if let Some(limit) = limits.get(name).filter(|limit| request > limit) {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(FieldError::invalid(path.child("requests"), request.to_string(), detail));
        }
    }
}

fn amounts<'a>(
    path: &Path<'_>,
    amounts: Option<&'a BTreeMap<String, Text>>,
    errors: &mut Vec<FieldError>,
) -> BTreeMap<&'a str, Quantity> {
    let mut parsed = BTreeMap::new();
    for (name, amount) in amounts.into_iter().flatten() {
        let path = path.key(name);
        errors.extend(names::qualified(name).into_iter().map(|m| FieldError::invalid(path, name, m)));
        let is_standard =
            ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) || name.starts_with("hugepages-");
        if !name.contains('/') && !is_standard {
            let detail = "must be a standard resource type or fully qualified";
            errors.push(FieldError::invalid(path, name, detail));
        }
        let Ok(quantity) = amount.0.parse::<Quantity>() else { continue };
        if quantity.nanos() < 0 {
            errors.push(FieldError::invalid(path, &amount.0, "must be greater than or equal to 0"));
        }
        parsed.insert(name.as_str(), quantity);
    }
    parsed
}
