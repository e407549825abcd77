//! Rolling updates of DaemonSets: which pods give way to those of the present template, and when. Pure functions.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::decide::{Fit, Place, Plan, is_available};
use super::pod;
use crate::kit::amount::{Round, resolve};

fn rolling(set: &DaemonSet) -> Option<RollingUpdateDaemonSet> {
    let strategy = set.spec.update_strategy.clone().unwrap_or_default();
    let rolls = strategy.type_.as_deref().unwrap_or("RollingUpdate") == "RollingUpdate";
    rolls.then(|| strategy.rolling_update.unwrap_or_default())
}

pub(super) fn is_rolling(set: &DaemonSet) -> bool {
    rolling(set).is_some()
}

fn bound(value: Option<&IntOrString>, total: usize) -> usize {
    let total = i32::try_from(total).unwrap_or(i32::MAX);
    // Upstream rounds up both: one node of three is 25 %.
    value.map_or(0, |value| usize::try_from(resolve(value, total, Round::Up)).unwrap_or_default())
}

/// Whether new pods come before the old ones go.
pub(super) fn surges(set: &DaemonSet) -> bool {
    rolling(set).is_some_and(|rolling| bound(rolling.max_surge.as_ref(), 100) > 0)
}

/// The next step of the update.
pub(super) fn plan(set: &DaemonSet, places: &[Place], hash: &str, now: Timestamp) -> Plan {
    let Some(rolling) = rolling(set) else { return Plan::default() };
    let wanted = places.iter().filter(|place| place.fit == Fit::Wanted).count();
    if surges(set) {
        return surge(set, places, hash, now, bound(rolling.max_surge.as_ref(), wanted));
    }
    let one = IntOrString::Int(1);
    let most = bound(Some(rolling.max_unavailable.as_ref().unwrap_or(&one)), wanted).max(1);
    replace(set, places, hash, now, most)
}

/// Old pods that serve no one go at once; of the others as many as may be missing.
fn replace(set: &DaemonSet, places: &[Place], hash: &str, now: Timestamp, most: usize) -> Plan {
    let (mut missing, mut idle, mut serving) = (0, Vec::new(), Vec::new());
    for place in places {
        let serves = place.running().any(|pod| is_available(set, pod, now));
        missing += usize::from(place.fit == Fit::Wanted && !serves);
        for old in place.running().filter(|p| pod::hash(p) != Some(hash)) {
            if is_available(set, old, now) {
                serving.push(Arc::clone(old));
            } else {
                idle.push(Arc::clone(old));
            }
        }
    }
    serving.truncate(most.saturating_sub(missing));
    idle.extend(serving);
    Plan { create: Vec::new(), delete: idle }
}

/// New pods beside old ones, `most` of them at a time; an old one goes when the new one serves.
fn surge(set: &DaemonSet, places: &[Place], hash: &str, now: Timestamp, most: usize) -> Plan {
    let (mut plan, mut surged, mut candidates) = (Plan::default(), 0, Vec::new());
    for place in places {
        let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
            place.running().partition(|p| pod::hash(p) == Some(hash));
        match (new.first(), old.first()) {
            (_, None) => {}
            (Some(new), Some(_)) if is_available(set, new, now) => {
                plan.delete.extend(old.into_iter().cloned())
            }
            (Some(_), Some(_)) => surged += 1,
            (None, Some(_)) if place.fit != Fit::Wanted => {}
            // One that serves no one is no loss: it is replaced without counting.
            (None, Some(old)) if !is_available(set, old, now) => plan.create.push(place.node.clone()),
            (None, Some(_)) => candidates.push(place.node.clone()),
        }
    }
    candidates.truncate(most.saturating_sub(surged));
    plan.create.extend(candidates);
    plan
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
