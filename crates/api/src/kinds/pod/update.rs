//! What may change in a pod's spec after creation: images, deadlines downwards, tolerations added, scheduling gates
//! removed, and a negative grace period to one second. Everything else is fixed.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::field::{FieldError, Path};

const FIXED: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(new: &PodSpec, old: &PodSpec, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let same_count = |new: usize, old: usize, field: &str, errors: &mut Vec<FieldError>| {
        if new != old {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(path.child(field), detail));
        }
        new == old
    };
    let inits = |spec: &PodSpec| spec.init_containers.as_ref().map_or(0, Vec::len);
    if !same_count(new.containers.len(), old.containers.len(), "containers", errors)
        || !same_count(inits(new), inits(old), "initContainers", errors)
    {
        return;
    }
    deadline(&path, new, old, errors);
    tolerations(&path, new, old, errors);
    if with_mutable_fields_of(new, old) != *old {
        errors.push(FieldError::forbidden(path, FIXED));
    }
}

fn deadline(path: &Path<'_>, new: &PodSpec, old: &PodSpec, errors: &mut Vec<FieldError>) {
    let field = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), Some(old)) if new > old => {
            errors.push(FieldError::invalid(
                field,
                new,
                format!("must be less than or equal to previous value {old}"),
            ));
        }
        (None, Some(_)) => {
            errors.push(FieldError::invalid(
                field,
                (),
                "must not update from a positive integer to nil value",
            ));
        }
        _ => {}
    }
}

fn tolerations(path: &Path<'_>, new: &PodSpec, old: &PodSpec, errors: &mut Vec<FieldError>) {
    let has: Vec<_> = new.tolerations.iter().flatten().collect();
    for kept in old.tolerations.iter().flatten() {
        let same = |t: &&k8s_openapi::api::core::v1::Toleration| {
            t.key == kept.key
                && t.operator == kept.operator
                && t.value == kept.value
                && t.effect == kept.effect
        };
        if !has.iter().copied().any(|t| same(&t)) {
            let detail = "existing toleration can not be modified except its tolerationSeconds";
            errors.push(FieldError::forbidden(path.child("tolerations"), detail));
            return;
        }
    }
}

/// The new spec with everything that may change taken back.
fn with_mutable_fields_of(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    for (container, before) in spec.containers.iter_mut().zip(&old.containers) {
        container.image.clone_from(&before.image);
    }
    for (container, before) in
        spec.init_containers.iter_mut().flatten().zip(old.init_containers.iter().flatten())
    {
        container.image.clone_from(&before.image);
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|s| s < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    let gates = |spec: &PodSpec| spec.scheduling_gates.clone().unwrap_or_default();
    if gates(new).iter().all(|gate| gates(old).contains(gate)) {
        spec.scheduling_gates.clone_from(&old.scheduling_gates);
    }
    spec
}

/// A pod that has ended does not come back, and a container that may not restart has not restarted.
pub(super) fn validate_status(new: &Pod, old: &Pod, errors: &mut Vec<FieldError>) {
    let path = Path::new("status");
    let (Some(new_status), Some(old_status)) = (&new.status, &old.status) else { return };
    let nominated = new_status.nominated_node_name.as_deref().unwrap_or_default();
    if !nominated.is_empty() {
        crate::rules::subdomain(&path.child("nominatedNodeName"), nominated, errors);
    }
    if new.spec.as_ref().is_none_or(|spec| spec.restart_policy.as_deref() == Some("Always")) {
        return;
    }
    let list = path.child("containerStatuses");
    for (index, before) in old_status.container_statuses.iter().flatten().enumerate() {
        let has_ended = |state: &k8s_openapi::api::core::v1::ContainerStatus| {
            state.state.as_ref().is_some_and(|s| s.terminated.is_some())
        };
        let failed =
            before.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code != 0);
        let may_restart = failed
            && new.spec.as_ref().is_some_and(|spec| spec.restart_policy.as_deref() == Some("OnFailure"));
        let now = new_status.container_statuses.iter().flatten().find(|c| c.name == before.name);
        if has_ended(before) && !may_restart && now.is_some_and(|now| !has_ended(now)) {
            let detail = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(list.index(index).child("state"), detail));
        }
    }
}
