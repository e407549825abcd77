//! Containers: annotations that a field has taken the place of, variables and ports that are there twice, amounts of memory that are no whole bytes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::field::Path;
use crate::quantity::Quantity;

const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const SECCOMP_OLD: &str = r#"non-functional in v1.27+; use the "seccompProfile" field instead"#;
const APPARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";
const APPARMOR_OLD: &str = r#"deprecated since v1.30; use the "appArmorProfile" field instead"#;
const BYTES: &[&str] = &["memory", "ephemeral-storage"];
const NANO: i128 = 1_000_000_000;

pub(super) fn all(path: &Path<'_>, meta: &ObjectMeta, spec: &PodSpec, said: &mut Vec<String>) {
    profiles(path, meta, spec, said);
    let spec_path = path.child("spec");
    let (mut ports, mut names) = (Ports::new(), BTreeMap::new());
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    for (field, list) in [("initContainers", inits), ("containers", spec.containers.as_slice())] {
        for (index, container) in list.iter().enumerate() {
            let path = spec_path.child(field);
            let path = path.index(index);
            amounts(&path, container, said);
            variables(&path.child("env"), container.env.as_deref().unwrap_or_default(), said);
            for (index, port) in container.ports.iter().flatten().enumerate() {
                let path = path.child("ports");
                one_port(&path.index(index).to_string(), port, &mut ports, &mut names, said);
            }
        }
    }
}

/// Annotations that name a profile where no field does.
fn profiles(path: &Path<'_>, meta: &ObjectMeta, spec: &PodSpec, said: &mut Vec<String>) {
    let path = path.child("metadata");
    let path = path.child("annotations");
    let mut note = |key: &str, by_field: bool, why: &str| {
        if !by_field && meta.annotations.as_ref().is_some_and(|all| all.contains_key(key)) {
            said.push(format!("{}: {why}", path.key(key)));
        }
    };
    let pod = spec.security_context.as_ref();
    note(SECCOMP, pod.is_some_and(|c| c.seccomp_profile.is_some()), SECCOMP_OLD);
    let of_all = pod.is_some_and(|c| c.app_armor_profile.is_some());
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let (own, name) = (container.security_context.as_ref(), &container.name);
        let by_field = own.is_some_and(|c| c.seccomp_profile.is_some());
        note(&format!("{SECCOMP_CONTAINER}{name}"), by_field, SECCOMP_OLD);
        let by_field = of_all || own.is_some_and(|c| c.app_armor_profile.is_some());
        note(&format!("{APPARMOR_CONTAINER}{name}"), by_field, APPARMOR_OLD);
    }
}

fn amounts(path: &Path<'_>, container: &Container, said: &mut Vec<String>) {
    let Some(resources) = &container.resources else { return };
    let path = path.child("resources");
    for resource in BYTES {
        for (field, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
            let Some(amount) = amounts.as_ref().and_then(|all| all.get(*resource)) else { continue };
            if amount.0.parse::<Quantity>().is_ok_and(|amount| amount.nanos() % NANO != 0) {
                let path = path.child(field);
                said.push(format!(
                    "{}: fractional byte value {:?} is invalid, must be an integer",
                    path.key(resource),
                    amount.0
                ));
            }
        }
    }
}

fn variables(path: &Path<'_>, variables: &[EnvVar], said: &mut Vec<String>) {
    for (index, variable) in variables.iter().enumerate() {
        let own = format!("$({})", variable.name);
        let value = variable.value.as_deref().unwrap_or_default();
        // One that is made from the one before is meant.
        let extends = variable.value_from.is_none() && value != own && value.contains(&own);
        if variables[..index].iter().any(|before| before.name == variable.name) && !extends {
            said.push(format!(
                "{}: hides previous definition of {:?}, which may be dropped when using apply",
                path.index(index),
                variable.name
            ));
        }
    }
}

/// By number and protocol: where the ports stand, with their address and port of the node.
type Ports = BTreeMap<(i32, String), Vec<(String, String, i32)>>;

fn one_port(
    path: &str,
    port: &ContainerPort,
    ports: &mut Ports,
    names: &mut BTreeMap<String, String>,
    said: &mut Vec<String>,
) {
    let key = (port.container_port, port.protocol.clone().unwrap_or_default());
    let (ip, host) = (port.host_ip.clone().unwrap_or_default(), port.host_port.unwrap_or(0));
    let others = ports.entry(key).or_default();
    for (other, other_ip, other_host) in &*others {
        if (&ip, host) == (other_ip, *other_host) {
            said.push(format!("{path}: duplicate port definition with {other}"));
        } else if host == 0 || *other_host == 0 {
            said.push(format!("{path}: overlapping port definition with {other}"));
        } else if host == *other_host && ip.is_empty() != other_ip.is_empty() {
            said.push(format!("{path}: dangerously ambiguous port definition with {other}"));
        }
    }
    others.push((path.to_owned(), ip, host));
    let Some(name) = port.name.clone().filter(|name| !name.is_empty()) else { return };
    match names.get(&name) {
        Some(other) => said.push(format!(
            "{path}: duplicate port name {name:?} with {other}, services and probes that select ports by name will \
             use {other}"
        )),
        None => drop(names.insert(name, path.to_owned())),
    }
}
