//! What a PodDisruptionBudget allows: a pure function of the budget and its pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::kit::amount::{Round, resolve};
use crate::kit::selector::selects as selected;
use crate::kit::{meta, pods};

/// How long an eviction may take to become a deletion.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);
const ALLOWED: &str = "DisruptionAllowed";

/// Who keeps up the number of a pod's like.
pub(super) enum Owner {
    None,
    Sized {
        uid: String,
        replicas: i32,
    },
    /// It has no number; how it is called.
    Unsized(String),
}

/// What was found out.
pub(super) struct Counted {
    pub(super) status: PodDisruptionBudgetStatus,
    /// Why nothing is allowed whatever the pods are.
    pub(super) trouble: Option<String>,
    /// Seconds until an eviction is given up.
    pub(super) next_expiry: Option<u64>,
}

/// Whether a budget is about a pod. Here an empty selector selects everything, and only an absent one nothing.
pub(super) fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let Some(wanted) = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return false };
    *wanted == LabelSelector::default() || selected(wanted, pod.metadata.labels.as_ref())
}

/// How many pods there should be, and how many of them must be healthy.
fn wanted(budget: &PodDisruptionBudget, pods: &[(Owner, Arc<Pod>)]) -> Result<(i32, i32), String> {
    let spec = budget.spec.clone().unwrap_or_default();
    let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    if let Some(most) = &spec.max_unavailable {
        let expected = expected(pods)?;
        return Ok((expected, (expected - resolve(most, expected, Round::Up)).max(0)));
    }
    match &spec.min_available {
        Some(IntOrString::Int(number)) => Ok((count, *number)),
        Some(share) => {
            let expected = expected(pods)?;
            Ok((expected, resolve(share, expected, Round::Up)))
        }
        None => Ok((count, 0)),
    }
}

/// The sum of the sizes of all owners. Pods without one count for nothing, as upstream has it.
fn expected(pods: &[(Owner, Arc<Pod>)]) -> Result<i32, String> {
    let mut sizes = BTreeMap::new();
    for (owner, _) in pods {
        match owner {
            Owner::None => {}
            Owner::Sized { uid, replicas } => drop(sizes.insert(uid, *replicas)),
            Owner::Unsized(name) => {
                return Err(format!("Failed to calculate the number of expected pods: {name} has no scale"));
            }
        }
    }
    Ok(sizes.into_values().fold(0, i32::saturating_add))
}

/// The evictions that have not become deletions yet, and the seconds until the first is given up.
fn pending(
    budget: &PodDisruptionBudget,
    pods: &[(Owner, Arc<Pod>)],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<u64>) {
    let noted = budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    let living = |name: &str| {
        pods.iter().any(|(_, pod)| meta::name(&pod.metadata) == name && !pods::is_terminating(pod))
    };
    let left = |time: &Time| (PATIENCE - now.duration_since(time.0)).as_secs();
    let kept: BTreeMap<String, Time> =
        noted.into_iter().filter(|(name, time)| living(name) && left(time) > 0).collect();
    let next = kept.values().map(left).min().and_then(|seconds| u64::try_from(seconds).ok());
    (kept, next)
}

pub(super) fn status(budget: &PodDisruptionBudget, pods: &[(Owner, Arc<Pod>)], now: Timestamp) -> Counted {
    let (noted, next_expiry) = pending(budget, pods, now);
    let is_healthy = |pod: &Pod| {
        pods::is_active(pod) && pods::is_ready(pod) && !noted.contains_key(meta::name(&pod.metadata))
    };
    let healthy = pods.iter().filter(|(_, pod)| is_healthy(pod)).count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let (expected, desired, trouble) = match wanted(budget, pods) {
        Ok((expected, desired)) => (expected, desired, None),
        Err(trouble) => (0, 0, Some(trouble)),
    };
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let status = PodDisruptionBudgetStatus {
        conditions: Some(vec![condition(budget, allowed, trouble.as_deref(), now)]),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: Some(noted).filter(|noted| !noted.is_empty()),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
    };
    Counted { status, trouble, next_expiry }
}

fn condition(budget: &PodDisruptionBudget, allowed: i32, trouble: Option<&str>, now: Timestamp) -> Condition {
    let (status, reason) = match (trouble, allowed) {
        (Some(_), _) => ("False", "SyncFailed"),
        (None, 0) => ("False", "InsufficientPods"),
        (None, _) => ("True", "SufficientPods"),
    };
    let former = budget.status.as_ref().and_then(|status| status.conditions.as_ref());
    let former = former.into_iter().flatten().find(|c| c.type_ == ALLOWED && c.status == status);
    Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: trouble.unwrap_or_default().to_owned(),
        observed_generation: budget.metadata.generation,
        last_transition_time: former.map_or(Time(now), |former| former.last_transition_time.clone()),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
