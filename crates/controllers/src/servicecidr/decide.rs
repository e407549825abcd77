//! What a ServiceCIDR needs next: a pure function of it, of the other ranges, and of the addresses that are taken.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use svcd_api::addresses;

use crate::ipaddress::is_ours;
use crate::kit::meta;

/// Holds a range until nobody needs it.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";

/// The next thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    /// Put the finalizer on.
    Protect,
    /// These are the conditions from now on.
    Say(Vec<Condition>),
    /// Take the finalizer off.
    Release,
}

/// The next step for a range.
pub(super) fn step(
    range: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    addresses: &[IPAddress],
    now: Timestamp,
) -> Step {
    let is_protected = range.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    if !meta::is_deleted(&range.metadata) {
        let ready = ("True", "", "Kubernetes Service CIDR is ready");
        return if is_protected { say(range, ready, now) } else { Step::Protect };
    }
    if !is_protected {
        return Step::Nothing;
    }
    if needed(range, all, addresses) {
        let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        return say(range, ("False", "Terminating", message), now);
    }
    Step::Release
}

fn ranges(range: &ServiceCIDR) -> impl Iterator<Item = IpNet> {
    let cidrs = range.spec.as_ref().and_then(|spec| spec.cidrs.as_ref()).into_iter().flatten();
    cidrs.filter_map(|cidr| cidr.parse().ok())
}

fn holds(range: &ServiceCIDR, address: IpAddr) -> bool {
    ranges(range).any(|range| addresses::holds(&range, address))
}

/// Would an address that a Service has be in no range any more? Ranges that are going as well do not count.
fn needed(range: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[IPAddress]) -> bool {
    let staying = all.iter().filter(|other| !meta::is_deleted(&other.metadata));
    let staying: Vec<_> = staying.filter(|other| other.metadata.name != range.metadata.name).collect();
    let taken = addresses.iter().filter(|claim| is_ours(claim));
    let mut taken = taken.filter_map(|claim| meta::name(&claim.metadata).parse::<IpAddr>().ok());
    taken.any(|address| holds(range, address) && !staying.iter().any(|other| holds(other, address)))
}

/// The Ready condition, and whatever others there are.
fn say(range: &ServiceCIDR, (status, reason, message): (&str, &str, &str), now: Timestamp) -> Step {
    let held = range.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let (before, mut conditions): (Vec<_>, Vec<_>) = held.into_iter().partition(|c| c.type_ == READY);
    let before = before.into_iter().next();
    let since = before.as_ref().filter(|c| c.status == status).map(|c| c.last_transition_time.clone());
    let ready = Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.unwrap_or(Time(now)),
        observed_generation: None,
    };
    if before.as_ref() == Some(&ready) {
        return Step::Nothing;
    }
    conditions.push(ready);
    Step::Say(conditions)
}

/// The finalizers with ours.
pub(super) fn protected(range: &ServiceCIDR) -> Vec<String> {
    let held = range.metadata.finalizers.clone().unwrap_or_default();
    held.into_iter().chain([FINALIZER.to_owned()]).collect()
}

/// The finalizers without ours.
pub(super) fn released(range: &ServiceCIDR) -> Vec<String> {
    let held = range.metadata.finalizers.clone().unwrap_or_default();
    held.into_iter().filter(|finalizer| finalizer != FINALIZER).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn range(name: &str, cidrs: &[&str], deleted: bool) -> ServiceCIDR {
        let deletion = deleted.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "metadata": { "name": name, "finalizers": [FINALIZER], "deletionTimestamp": deletion },
            "spec": { "cidrs": cidrs },
        }))
        .unwrap()
    }

    fn address(name: &str) -> IPAddress {
        serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io" } },
            "spec": { "parentRef": { "resource": "services", "namespace": "a", "name": "b" } },
        }))
        .unwrap()
    }

    fn next(range: &ServiceCIDR, others: &[ServiceCIDR], taken: &[&str]) -> String {
        let all: Vec<_> = others.iter().chain([range]).cloned().map(Arc::new).collect();
        let taken: Vec<_> = taken.iter().map(|name| address(name)).collect();
        match step(range, &all, &taken, Timestamp::UNIX_EPOCH) {
            Step::Say(conditions) => {
                format!("{}={} {}", conditions[0].type_, conditions[0].status, conditions[0].reason)
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_new_range_is_protected_and_then_ready() {
        let mut new = range("a", &["10.0.0.0/28"], false);
        assert_eq!(next(&new, &[], &["10.0.0.1"]), "Ready=True ");
        let conditions = json!([{
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]);
        new.status = serde_json::from_value(json!({ "conditions": conditions })).unwrap();
        assert_eq!(next(&new, &[], &[]), "Nothing");
        new.metadata.finalizers = None;
        assert_eq!(next(&new, &[], &[]), "Protect");
        assert_eq!(protected(&new), [FINALIZER]);
    }

    #[test]
    fn a_range_goes_when_no_address_is_left_without_one() {
        let blocked = "Ready=False Terminating";
        let going = || range("a", &["10.0.0.0/28", "fd00::/120"], true);
        let larger = |deleted| range("b", &["10.0.0.0/24"], deleted);
        for (others, taken, want) in [
            (&[][..], &[][..], "Release"),
            (&[], &["10.0.0.1"], blocked),
            (&[], &["fd00::1"], blocked),
            (&[], &["10.0.0.17", "fd01::1"], "Release"),
            // What a range cannot give out is not in it.
            (&[], &["10.0.0.0", "10.0.0.15"], "Release"),
            (&[larger(false)], &["10.0.0.1"], "Release"),
            (&[larger(false)], &["10.0.0.1", "fd00::1"], blocked),
            (&[larger(true)], &["10.0.0.1"], blocked),
            (&[range("c", &["10.0.0.0/29"], false)], &["10.0.0.1"], "Release"),
            (&[range("c", &["10.0.0.0/29"], false)], &["10.0.0.9"], blocked),
        ] {
            assert_eq!(next(&going(), others, taken), want, "{others:?} {taken:?}");
        }
        let mut without = going();
        without.metadata.finalizers = Some(vec!["example.com/x".to_owned()]);
        assert_eq!(next(&without, &[], &[]), "Nothing");
        assert_eq!(released(&going()), Vec::<String>::new());
    }

    #[test]
    fn addresses_that_were_reserved_by_hand_hold_nothing_up() {
        let mut by_hand = address("10.0.0.1");
        by_hand.metadata.labels = None;
        let going = range("a", &["10.0.0.0/28"], true);
        let step = step(&going, &[Arc::new(going.clone())], &[by_hand], Timestamp::UNIX_EPOCH);
        assert_eq!(step, Step::Release);
    }

    #[test]
    fn conditions_of_others_and_the_time_of_a_change_are_kept() {
        let mut range = range("a", &["10.0.0.0/28"], false);
        let old = "2026-01-01T00:00:00Z";
        let conditions = json!([
            { "type": "Ready", "status": "True", "reason": "", "message": "other words", "lastTransitionTime": old },
            { "type": "Mine", "status": "False", "reason": "R", "message": "", "lastTransitionTime": old },
        ]);
        range.status = serde_json::from_value(json!({ "conditions": conditions })).unwrap();
        let now = old.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(9);
        let Step::Say(said) = step(&range, &[], &[], now) else { panic!("the words have changed") };
        let seen: Vec<_> =
            said.iter().map(|c| (c.type_.as_str(), c.last_transition_time.0.to_string())).collect();
        assert_eq!(seen, [("Mine", old.to_owned()), ("Ready", old.to_owned())]);
    }
}
