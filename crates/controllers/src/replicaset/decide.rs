//! What a ReplicaSet wants: pure functions of the set and its pods.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::kit::selector::is_subset;
use crate::kit::{meta, pods};

pub(super) fn replicas(set: &ReplicaSet) -> usize {
    usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or_default()
}

/// The pods that go first when there are too many, in upstream's order: those that do least, and the youngest.
pub(super) fn victims(mut active: Vec<Arc<Pod>>, count: usize) -> Vec<Arc<Pod>> {
    let mut neighbours: HashMap<String, usize> = HashMap::new();
    for pod in &active {
        *neighbours.entry(pods::node(pod).unwrap_or_default().to_owned()).or_default() += 1;
    }
    active.sort_by_cached_key(|pod| {
        let crowd = neighbours.get(pods::node(pod).unwrap_or_default()).copied().unwrap_or_default();
        let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (
            pods::node(pod).is_some(),
            phase_rank(pods::phase(pod)),
            pods::is_ready(pod),
            deletion_cost(pod),
            Reverse(crowd),
            Reverse(pods::ready_since(pod)),
            Reverse(restarts(pod)),
            Reverse(created),
            pod.metadata.name.clone(),
        )
    });
    active.truncate(count);
    active
}

fn phase_rank(phase: &str) -> u8 {
    match phase {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let cost = meta::annotation(&pod.metadata, "controller.kubernetes.io/pod-deletion-cost");
    cost.and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or_default()
}

fn min_ready(set: &ReplicaSet) -> SignedDuration {
    let seconds = set.spec.min_ready_seconds.unwrap_or_default();
    SignedDuration::from_secs(seconds.into())
}

/// How long until some ready pod becomes available.
pub(super) fn next_available(set: &ReplicaSet, active: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let moments = active.iter().filter_map(|pod| pods::available_at(pod, min_ready(set)));
    moments.filter(|moment| *moment > now).min().map(|moment| pods::until(moment, now))
}

pub(super) fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    failure: Option<String>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let count = |wanted: &dyn Fn(&Pod) -> bool| {
        let count = active.iter().filter(|pod| wanted(pod)).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    };
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    let template =
        set.spec.template.as_ref().and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let labelled = |pod: &Pod| template.is_none_or(|labels| is_subset(labels, pod.metadata.labels.as_ref()));
    let available = |pod: &Pod| pods::available_at(pod, min_ready(set)).is_some_and(|moment| moment <= now);
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: some(count(&labelled)),
        ready_replicas: some(count(&pods::is_ready)),
        available_replicas: some(count(&available)),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, failure, now),
        ..ReplicaSetStatus::default()
    }
}

fn conditions(set: &ReplicaSet, failure: Option<String>, now: Timestamp) -> Option<Vec<ReplicaSetCondition>> {
    let message = failure?;
    let former = set.status.as_ref().and_then(|status| status.conditions.as_ref()?.first());
    let since = former.and_then(|condition| condition.last_transition_time.clone());
    Some(vec![ReplicaSetCondition {
        type_: Some("ReplicaFailure".to_owned()),
        status: Some("True".to_owned()),
        reason: Some("FailedCreate".to_owned()),
        message: Some(message),
        last_transition_time: since.or(Some(Time(now))),
    }])
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
