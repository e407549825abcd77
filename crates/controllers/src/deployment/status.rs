//! What a Deployment reports: counts, and the conditions that `kubectl rollout status` waits for.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::decide::{Rollout, actual_of, available_of};
use crate::kit::meta;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const DEADLINE: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const FINISHED: &str = "NewReplicaSetAvailable";

/// Whether all pods are of the present template and available.
pub(super) fn is_complete(deployment: &Deployment, rollout: &Rollout) -> bool {
    let counts = counts(deployment, rollout);
    let is = |count: Option<i32>| count.unwrap_or_default() == rollout.wanted;
    is(counts.updated_replicas)
        && is(counts.replicas)
        && is(counts.available_replicas)
        && counts.observed_generation >= deployment.metadata.generation
}

fn counts(deployment: &Deployment, rollout: &Rollout) -> DeploymentStatus {
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    let sum = |of: &dyn Fn(&ReplicaSet) -> i32| rollout.all().map(|set| of(set)).sum::<i32>();
    let ready = |set: &ReplicaSet| set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or_default();
    let (total, available) = (sum(&actual_of), sum(&available_of));
    DeploymentStatus {
        replicas: some(total),
        updated_replicas: some(rollout.current.as_ref().map_or(0, |set| actual_of(set))),
        ready_replicas: some(sum(&ready)),
        available_replicas: some(available),
        unavailable_replicas: some(total - available),
        observed_generation: deployment.metadata.generation,
        collision_count: deployment.status.as_ref().and_then(|status| status.collision_count),
        ..DeploymentStatus::default()
    }
}

/// The whole status; `made` is the set that was created just now.
pub(super) fn status(
    deployment: &Deployment,
    rollout: &Rollout,
    made: Option<&str>,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = counts(deployment, rollout);
    let former = deployment.status.as_ref();
    let held = |kind: &str| {
        let conditions = former.and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().find(|c| c.type_.as_deref() == Some(kind))
    };
    let available = availability(&status, rollout);
    let mut conditions = vec![merged(held(AVAILABLE), available, now, false)];
    let progressed = former.is_none_or(|former| has_progressed(former, &status));
    let progress = progress(deployment, rollout, &status, held(PROGRESSING), made, progressed, now);
    conditions
        .extend(progress.map(|wanted| merged(held(PROGRESSING), wanted, now, progressed || made.is_some())));
    status.conditions = Some(conditions);
    status
}

/// Type, status, reason and message of a condition.
type Wanted = (&'static str, &'static str, &'static str, String);

fn availability(status: &DeploymentStatus, rollout: &Rollout) -> Wanted {
    let needed = rollout.wanted - rollout.max_unavailable();
    if status.available_replicas.unwrap_or_default() >= needed {
        let message = "Deployment has minimum availability.".to_owned();
        (AVAILABLE, "True", "MinimumReplicasAvailable", message)
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        (AVAILABLE, "False", "MinimumReplicasUnavailable", message)
    }
}

fn has_progressed(former: &DeploymentStatus, status: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or_default();
    let old = |s: &DeploymentStatus| count(s.replicas) - count(s.updated_replicas);
    count(status.updated_replicas) > count(former.updated_replicas)
        || old(status) < old(former)
        || count(status.ready_replicas) > count(former.ready_replicas)
        || count(status.available_replicas) > count(former.available_replicas)
}

fn progress(
    deployment: &Deployment,
    rollout: &Rollout,
    status: &DeploymentStatus,
    held: Option<&DeploymentCondition>,
    made: Option<&str>,
    progressed: bool,
    now: Timestamp,
) -> Option<Wanted> {
    let name = rollout.current.as_ref().map(|set| meta::name(&set.metadata)).or(made);
    let text = |what: &str| match name {
        Some(name) => format!("ReplicaSet \"{name}\" {what}."),
        None => format!("Deployment \"{}\" {what}.", meta::name(&deployment.metadata)),
    };
    let limit = progress_deadline(deployment)?;
    if rollout.is_paused() {
        return Some((PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned()));
    }
    if is_complete(deployment, rollout) {
        return Some((PROGRESSING, "True", FINISHED, text("has successfully progressed")));
    }
    if made.is_some() {
        return Some((PROGRESSING, "True", "NewReplicaSetCreated", {
            format!("Created new replica set \"{}\"", name.unwrap_or_default())
        }));
    }
    let reason = held.and_then(|c| c.reason.as_deref());
    if held.is_none() || reason == Some(PAUSED) {
        let message = format!("Found new replica set \"{}\"", name.unwrap_or_default());
        return Some((PROGRESSING, "True", "FoundNewReplicaSet", message));
    }
    // A finished rollout that loses pods later is not late.
    let unfinished = status.updated_replicas.unwrap_or_default() < rollout.wanted || reason != Some(FINISHED);
    let since = held.and_then(|c| c.last_update_time.as_ref()).map(|t| t.0);
    let late = since.and_then(|since| since.checked_add(limit).ok()).is_some_and(|end| end <= now);
    if progressed {
        return Some((PROGRESSING, "True", "ReplicaSetUpdated", text("is progressing")));
    }
    if reason == Some(DEADLINE) || (unfinished && late) {
        return Some((PROGRESSING, "False", DEADLINE, text("has timed out progressing")));
    }
    let keep = held.cloned().unwrap_or_default();
    let reason = known_reason(keep.reason.as_deref());
    Some((PROGRESSING, "True", reason, keep.message.unwrap_or_default()))
}

fn known_reason(reason: Option<&str>) -> &'static str {
    let known = ["NewReplicaSetCreated", "FoundNewReplicaSet", FINISHED, "DeploymentResumed"];
    known.into_iter().find(|known| Some(*known) == reason).unwrap_or("ReplicaSetUpdated")
}

fn progress_deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment.spec.progress_deadline_seconds.unwrap_or(600);
    // Upstream takes the greatest number for "none".
    (seconds != i32::MAX).then(|| SignedDuration::from_secs(seconds.into()))
}

/// The condition with the times that it must carry: a repeated one keeps its own.
fn merged(
    held: Option<&DeploymentCondition>,
    wanted: Wanted,
    now: Timestamp,
    refresh: bool,
) -> DeploymentCondition {
    let (kind, status, reason, message) = wanted;
    let same_status = held.is_some_and(|held| held.status.as_deref() == Some(status));
    let same = same_status && held.is_some_and(|held| held.reason.as_deref() == Some(reason));
    let transition = held.filter(|_| same_status).and_then(|held| held.last_transition_time.clone());
    let update = held.filter(|_| same && !refresh).and_then(|held| held.last_update_time.clone());
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: transition.or(Some(Time(now))),
        last_update_time: update.or(Some(Time(now))),
    }
}

/// How long until the rollout would be late.
pub(super) fn deadline(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let conditions = status.conditions.as_ref()?;
    let progressing = conditions.iter().find(|c| c.type_.as_deref() == Some(PROGRESSING))?;
    if matches!(progressing.reason.as_deref(), Some(FINISHED | DEADLINE | PAUSED)) {
        return None;
    }
    let since = progressing.last_update_time.as_ref()?.0;
    let end = since.checked_add(progress_deadline(deployment)?).ok()?;
    Some(crate::kit::pods::until(end, now) + Duration::from_secs(1))
}

/// A merge patch of the status: what is zero is taken out, as upstream leaves it out.
pub(super) fn patch(status: &DeploymentStatus) -> Value {
    json!({
        "replicas": status.replicas,
        "updatedReplicas": status.updated_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "unavailableReplicas": status.unavailable_replicas,
        "observedGeneration": status.observed_generation,
        "conditions": status.conditions,
    })
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
