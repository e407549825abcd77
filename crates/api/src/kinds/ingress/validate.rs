//! The rules of an Ingress, in upstream's order and words.

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec, IngressStatus,
    IngressTLS,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::field::{FieldError, Path};
use crate::{names, rules};

const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
const FORBIDDEN_PARTS: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const FORBIDDEN_ENDS: &[&str] = &["/..", "/."];

pub(super) fn spec(spec: &IngressSpec, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    if spec.rules.is_none() && spec.default_backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(path, (), detail));
    }
    if let Some(default) = &spec.default_backend {
        backend(&path.child("defaultBackend"), default, errors);
    }
    for (index, one) in spec.rules.iter().flatten().enumerate() {
        rule(&path.child("rules").index(index), one, errors);
    }
    for (index, one) in spec.tls.iter().flatten().enumerate() {
        tls(&path.child("tls").index(index), one, errors);
    }
    if let Some(class) = &spec.ingress_class_name {
        rules::subdomain(&path.child("ingressClassName"), class, errors);
    }
}

/// A host, or all below one.
fn host(path: &Path<'_>, host: &str, errors: &mut Vec<FieldError>) {
    if host.contains('*') {
        errors.extend(names::wildcard(host).into_iter().map(|m| FieldError::invalid(path, host, m)));
    } else {
        rules::subdomain(path, host, errors);
    }
}

fn rule(path: &Path<'_>, rule: &IngressRule, errors: &mut Vec<FieldError>) {
    if let Some(name) = &rule.host {
        let path = path.child("host");
        if name.parse::<std::net::IpAddr>().is_ok() {
            errors.push(FieldError::invalid(path, name, "must be a DNS name, not an IP address"));
        }
        host(&path, name, errors);
    }
    let Some(http) = &rule.http else { return };
    let path = path.child("http");
    let path = path.child("paths");
    if http.paths.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    for (index, one) in http.paths.iter().enumerate() {
        http_path(&path.index(index), one, errors);
    }
}

fn http_path(path: &Path<'_>, http: &HTTPIngressPath, errors: &mut Vec<FieldError>) {
    let (field, text) = (path.child("path"), http.path.as_deref().unwrap_or_default());
    let mut refuse = |detail: String| errors.push(FieldError::invalid(field, text, detail));
    let kind = http.path_type.as_str();
    if !text.starts_with('/') && (matches!(kind, "Exact" | "Prefix") || !text.is_empty()) && known(kind) {
        refuse("must be an absolute path".to_owned());
    }
    if matches!(kind, "Exact" | "Prefix") {
        for part in FORBIDDEN_PARTS.iter().filter(|part| text.contains(**part)) {
            refuse(format!("must not contain '{part}'"));
        }
        for end in FORBIDDEN_ENDS.iter().filter(|end| text.ends_with(**end)) {
            refuse(format!("cannot end with '{end}'"));
        }
    }
    match kind {
        "" => {
            errors.push(FieldError::required(path.child("pathType"), "pathType must be specified"));
            return;
        }
        kind => rules::one_of(&path.child("pathType"), kind, PATH_TYPES, errors),
    }
    backend(&path.child("backend"), &http.backend, errors);
}

fn known(path_type: &str) -> bool {
    PATH_TYPES.contains(&path_type)
}

fn backend(path: &Path<'_>, backend: &IngressBackend, errors: &mut Vec<FieldError>) {
    let detail = match (&backend.resource, &backend.service) {
        (Some(resource), None) => return reference(&path.child("resource"), resource, errors),
        (None, Some(wanted)) => return service(path, wanted, errors),
        (Some(_), Some(_)) => "cannot set both resource and service backends",
        (None, None) => "resource or service backend is required",
    };
    errors.push(FieldError::invalid(path, "", detail));
}

fn service(path: &Path<'_>, service: &IngressServiceBackend, errors: &mut Vec<FieldError>) {
    let own = path.child("service");
    match service.name.as_str() {
        "" => errors.push(FieldError::required(own.child("name"), "")),
        name => rules::label(&own.child("name"), name, errors),
    }
    let port = service.port.clone().unwrap_or_default();
    let own = own.child("port");
    match (port.name, port.number) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, "", "cannot set both port name & port number"));
        }
        (Some(name), None) => {
            rules::port_or_name(&own.child("name"), &IntOrString::String(name), errors);
        }
        (None, Some(number)) => rules::port(&own.child("number"), number, errors),
        (None, None) => errors.push(FieldError::required(path, "port name or number is required")),
    }
}

fn reference(path: &Path<'_>, reference: &TypedLocalObjectReference, errors: &mut Vec<FieldError>) {
    if let Some(group) = &reference.api_group {
        rules::subdomain(&path.child("apiGroup"), group, errors);
    }
    rules::path_segment(&path.child("kind"), &reference.kind, errors);
    rules::path_segment(&path.child("name"), &reference.name, errors);
}

fn tls(path: &Path<'_>, tls: &IngressTLS, errors: &mut Vec<FieldError>) {
    for (index, name) in tls.hosts.iter().flatten().enumerate() {
        host(&path.child("hosts").index(index), name, errors);
    }
    if let Some(secret) = &tls.secret_name {
        rules::subdomain(&path.child("secretName"), secret, errors);
    }
}

/// What stands in the status.
pub(super) fn status(status: Option<&IngressStatus>, errors: &mut Vec<FieldError>) {
    let balancer = status.and_then(|s| s.load_balancer.as_ref());
    let list = balancer.and_then(|b| b.ingress.as_deref()).unwrap_or_default();
    let path = Path::new("status");
    let path = path.child("loadBalancer");
    for (index, one) in list.iter().enumerate() {
        let path = path.child("ingress");
        let path = path.index(index);
        if let Some(ip) = &one.ip {
            rules::ip(&path.child("ip"), ip, errors);
        }
        if let Some(hostname) = &one.hostname {
            rules::host(&path.child("hostname"), hostname, errors);
        }
    }
}
