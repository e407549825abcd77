//! `/eviction` of pods: a deletion that asks the budgets first.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as Wanted, Time};
use serde_json::{Value, json};

use crate::decode;
use crate::selector::LabelSelector;
use crate::status::ApiError;

/// Group, version and plural of the budgets that are asked.
pub const BUDGETS: (&str, &str, &str) = ("policy", "v1", "poddisruptionbudgets");

/// More pods than this are not noted in one budget, so that it does not grow without end.
const NOTED_MAX: usize = 2000;

/// What the budgets say.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// No budget has a say.
    Free,
    /// One budget allows it, and is written back as this: one disruption less, the pod noted.
    Spends {
        /// Which of those given.
        budget: usize,
        /// The budget afterwards.
        after: Value,
    },
}

/// The `DeleteOptions` of an Eviction of this pod.
///
/// # Errors
/// A bad request when it is malformed, or names another pod.
pub fn delete_options(eviction: &Value, pod: &str) -> Result<Value, ApiError> {
    let bare = untyped(eviction)?;
    let typed = decode::typed::<Eviction>(&bare).map_err(|e| ApiError::bad_request(e.to_string()))?.object;
    if typed.metadata.name.is_some_and(|name| name != pod) {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    Ok(eviction["deleteOptions"].clone())
}

/// The object without the version that it says it has. `policy/v1beta1`, which kubectl up to 1.21 writes, has the same
/// fields.
fn untyped(eviction: &Value) -> Result<Value, ApiError> {
    let said = |key: &str| eviction[key].as_str().unwrap_or_default();
    let (version, kind) = (said("apiVersion"), said("kind"));
    if !["", "policy/v1", "policy/v1beta1"].contains(&version) || !["", "Eviction"].contains(&kind) {
        return Err(ApiError::bad_request(format!(
            "no kind {kind:?} of version {version:?} can be posted here: it takes an Eviction of policy/v1 or policy/v1beta1"
        )));
    }
    let mut bare = eviction.clone();
    if let Some(fields) = bare.as_object_mut() {
        fields.retain(|key, _| key != "apiVersion" && key != "kind");
    }
    Ok(bare)
}

/// Whether a pod may be evicted, given the budgets of its namespace.
///
/// # Errors
/// 429 while a budget forbids it or has not been looked at, 500 when several budgets select the pod.
pub fn judge(pod: &Value, budgets: &[Value], now: jiff::Timestamp) -> Result<Verdict, ApiError> {
    let Ok(pod) = decode::typed::<Pod>(pod).map(|typed| typed.object) else { return Ok(Verdict::Free) };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if pod.metadata.deletion_timestamp.is_some() || ["Pending", "Succeeded", "Failed"].contains(&phase) {
        return Ok(Verdict::Free);
    }
    let mut selecting = budgets.iter().enumerate().filter_map(|(index, value)| {
        let budget = decode::typed::<PodDisruptionBudget>(value).ok()?.object;
        selects(budget.spec.as_ref()?.selector.as_ref()?, &pod).then_some((index, budget))
    });
    let Some((index, budget)) = selecting.next() else { return Ok(Verdict::Free) };
    if selecting.next().is_some() {
        return Err(ApiError::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let status = budget.status.clone().unwrap_or_default();
    if !is_ready(&pod) && spares_unhealthy(&budget, &status) {
        return Ok(Verdict::Free);
    }
    check(&budget, &status)?;
    let name = pod.metadata.name.unwrap_or_default();
    Ok(Verdict::Spends { budget: index, after: spent(&budgets[index], &status, &name, now) })
}

fn selects(wanted: &Wanted, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    LabelSelector::from_object(wanted).is_ok_and(|selector| selector.matches(&labels))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether a pod that is not ready may go without being counted.
fn spares_unhealthy(budget: &PodDisruptionBudget, status: &PodDisruptionBudgetStatus) -> bool {
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let desired = status.desired_healthy.unwrap_or_default();
    policy == Some("AlwaysAllow") || (desired > 0 && status.current_healthy.unwrap_or_default() >= desired)
}

fn check(budget: &PodDisruptionBudget, status: &PodDisruptionBudgetStatus) -> Result<(), ApiError> {
    let name = budget.metadata.name.as_deref().unwrap_or_default();
    if status.observed_generation.unwrap_or_default() < budget.metadata.generation.unwrap_or_default() {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(ApiError::budget_exceeded(&why).with_retry_after(10));
    }
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > NOTED_MAX) {
        let why = format!("The disruption budget {name} has too many evictions that are not confirmed yet.");
        return Err(ApiError::budget_exceeded(&why).with_retry_after(10));
    }
    if status.disruptions_allowed.unwrap_or_default() <= 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status.desired_healthy.unwrap_or_default(),
            status.current_healthy.unwrap_or_default()
        );
        return Err(ApiError::budget_exceeded(&why));
    }
    Ok(())
}

fn spent(budget: &Value, status: &PodDisruptionBudgetStatus, pod: &str, now: jiff::Timestamp) -> Value {
    let mut budget = budget.clone();
    let second = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut noted = status.disrupted_pods.clone().unwrap_or_default();
    noted.insert(pod.to_owned(), Time(second));
    budget["status"]["disruptionsAllowed"] = json!(status.disruptions_allowed.unwrap_or_default() - 1);
    budget["status"]["disruptedPods"] = json!(noted);
    budget
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: &str, ready: &str) -> Value {
        json!({
            "metadata": { "name": "p", "labels": { "app": "web" } },
            "spec": { "containers": [] },
            "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
        })
    }

    fn budget(selector: Value, allowed: i32, healthy: i32) -> Value {
        json!({
            "metadata": { "name": "b", "generation": 2 },
            "spec": { "selector": selector },
            "status": {
                "observedGeneration": 2, "disruptionsAllowed": allowed, "currentHealthy": healthy,
                "desiredHealthy": 2, "expectedPods": 3,
            },
        })
    }

    fn web() -> Value {
        json!({ "matchLabels": { "app": "web" } })
    }

    #[test]
    fn who_is_free_to_go() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let none = || budget(web(), 0, 2);
        let mut lenient = budget(web(), 0, 1);
        lenient["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        for (pod, budgets) in [
            (pod("Running", "True"), vec![]),
            (pod("Running", "True"), vec![budget(json!({ "matchLabels": { "app": "db" } }), 0, 0)]),
            (pod("Pending", "False"), vec![none()]),
            (pod("Failed", "False"), vec![none()]),
            (pod("Running", "False"), vec![none()]),
            (pod("Running", "False"), vec![lenient]),
        ] {
            assert_eq!(judge(&pod, &budgets, now), Ok(Verdict::Free), "{pod} {budgets:?}");
        }
    }

    #[test]
    fn a_budget_is_spent() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let other = budget(json!({ "matchLabels": { "app": "db" } }), 0, 0);
        let verdict = judge(&pod("Running", "True"), &[other, budget(json!({}), 1, 3)], now).unwrap();
        let Verdict::Spends { budget: 1, after } = verdict else { panic!("{verdict:?}") };
        assert_eq!(after["status"]["disruptionsAllowed"], 0);
        assert_eq!(after["status"]["disruptedPods"], json!({ "p": "1970-01-01T00:00:00Z" }));
        let again = judge(&pod("Running", "True"), &[after], now).unwrap_err();
        assert_eq!((again.code(), again.reason()), (429, "TooManyRequests"));
        assert_eq!(again.message(), "Cannot evict pod as it would violate the pod's disruption budget.");
        assert_eq!(
            again.to_value()["details"]["causes"],
            json!([{
                "reason": "DisruptionBudget",
                "message": "The disruption budget b needs 2 healthy pods and has 3 currently",
            }])
        );
        assert_eq!(again.retry_after_seconds(), None);
    }

    #[test]
    fn refusals() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut fresh = budget(web(), 1, 3);
        fresh["metadata"]["generation"] = json!(3);
        let error = judge(&pod("Running", "True"), &[fresh], now).unwrap_err();
        assert_eq!((error.code(), error.retry_after_seconds()), (429, Some(10)));
        let two = [budget(web(), 1, 3), budget(json!({}), 1, 3)];
        assert_eq!(judge(&pod("Running", "True"), &two, now).unwrap_err().code(), 500);
        let unready = judge(&pod("Running", "False"), &[budget(web(), 0, 1)], now).unwrap_err();
        assert_eq!(unready.code(), 429);
    }

    #[test]
    fn what_an_eviction_says() {
        let eviction = json!({ "metadata": { "name": "p" }, "deleteOptions": { "gracePeriodSeconds": 1 } });
        assert_eq!(delete_options(&eviction, "p").unwrap(), json!({ "gracePeriodSeconds": 1 }));
        assert_eq!(delete_options(&eviction, "q").unwrap_err().code(), 400);
        assert_eq!(delete_options(&json!({ "metadata": 1 }), "p").unwrap_err().code(), 400);
        assert_eq!(delete_options(&json!([]), "p").unwrap_err().code(), 400);
        for (version, kind, fits) in [
            ("policy/v1", "Eviction", true),
            ("policy/v1beta1", "Eviction", true),
            ("v1", "Eviction", false),
            ("policy/v1", "Pod", false),
        ] {
            let eviction = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "p" } });
            assert_eq!(delete_options(&eviction, "p").is_ok(), fits, "{eviction}");
        }
    }
}
