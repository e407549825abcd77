//! Probes and lifecycle hooks: each does exactly one thing.

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe};

use crate::field::{FieldError, Path};
use crate::rules;

/// The probes and hooks of a container.
pub(super) fn validate_all(path: &Path<'_>, container: &Container, errors: &mut Vec<FieldError>) {
    for (field, probe, needs_one_success) in [
        ("livenessProbe", &container.liveness_probe, true),
        ("readinessProbe", &container.readiness_probe, false),
        ("startupProbe", &container.startup_probe, true),
    ] {
        if let Some(probe) = probe {
            validate(&path.child(field), probe, needs_one_success, errors);
        }
    }
    let path = path.child("lifecycle");
    let hooks =
        container.lifecycle.as_ref().map(|l| [("postStart", &l.post_start), ("preStop", &l.pre_stop)]);
    for (field, hook) in hooks.into_iter().flatten() {
        if let Some(hook) = hook {
            validate_hook(&path.child(field), hook, errors);
        }
    }
}

fn validate(path: &Path<'_>, probe: &Probe, needs_one_success: bool, errors: &mut Vec<FieldError>) {
    let mut handlers = Vec::new();
    if let Some(action) = &probe.exec {
        handlers.push("exec");
        exec(&path.child("exec"), action, errors);
    }
    if let Some(action) = &probe.http_get {
        handlers.push("httpGet");
        http_get(&path.child("httpGet"), action, errors);
    }
    if let Some(action) = &probe.tcp_socket {
        handlers.push("tcpSocket");
        let path = path.child("tcpSocket");
        rules::port_or_name(&path.child("port"), &action.port, errors);
    }
    if let Some(action) = &probe.grpc {
        handlers.push("grpc");
        let path = path.child("grpc");
        rules::port(&path.child("port"), action.port, errors);
    }
    exactly_one(path, &handlers, errors);
    for (field, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        rules::not_negative(&path.child(field), number.map(i64::from), errors);
    }
    let grace = probe.termination_grace_period_seconds;
    rules::positive(&path.child("terminationGracePeriodSeconds"), grace, errors);
    if needs_one_success && probe.success_threshold.is_some_and(|n| n != 1) {
        let field = path.child("successThreshold");
        errors.push(FieldError::invalid(field, probe.success_threshold, "must be 1"));
    }
}

fn validate_hook(path: &Path<'_>, hook: &LifecycleHandler, errors: &mut Vec<FieldError>) {
    let mut handlers = Vec::new();
    if let Some(action) = &hook.exec {
        handlers.push("exec");
        exec(&path.child("exec"), action, errors);
    }
    if let Some(action) = &hook.http_get {
        handlers.push("httpGet");
        http_get(&path.child("httpGet"), action, errors);
    }
    if let Some(action) = &hook.tcp_socket {
        handlers.push("tcpSocket");
        let path = path.child("tcpSocket");
        rules::port_or_name(&path.child("port"), &action.port, errors);
    }
    if hook.sleep.is_some() {
        handlers.push("sleep");
    }
    exactly_one(path, &handlers, errors);
}

fn exactly_one(path: &Path<'_>, handlers: &[&str], errors: &mut Vec<FieldError>) {
    if handlers.is_empty() {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
    for extra in handlers.iter().skip(1) {
        errors.push(FieldError::forbidden(path.child(extra), "may not specify more than 1 handler type"));
    }
}

fn exec(path: &Path<'_>, action: &ExecAction, errors: &mut Vec<FieldError>) {
    if action.command.is_none() {
        errors.push(FieldError::required(path.child("command"), ""));
    }
}

fn http_get(path: &Path<'_>, action: &HTTPGetAction, errors: &mut Vec<FieldError>) {
    if action.path.is_none() {
        errors.push(FieldError::required(path.child("path"), ""));
    }
    rules::port_or_name(&path.child("port"), &action.port, errors);
    let scheme = action.scheme.as_deref().unwrap_or_default();
    rules::one_of(&path.child("scheme"), scheme, &["HTTP", "HTTPS"], errors);
}
