//! What an address needs so that its IPAddress and its Service agree: a pure function of both.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use svcd_api::addresses::{self, FAMILY_LABEL, Family, MANAGED_BY_LABEL, MANAGED_BY_SERVER};

use crate::kit::meta;
use crate::kit::world::cluster_ips;

/// How long a claim may wait for a Service that does not exist yet; upstream's.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// What is known of an address.
pub(super) struct Facts<'a> {
    pub(super) address: IpAddr,
    /// Its IPAddress.
    pub(super) claim: Option<&'a IPAddress>,
    /// The Service that the IPAddress refers to.
    pub(super) parent: Option<&'a Service>,
    /// The Services that have the address.
    pub(super) having: &'a [Arc<Service>],
    /// All ranges of service addresses.
    pub(super) ranges: &'a [IpNet],
}

/// What to do about it.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    /// Look again after a while.
    Wait(Duration),
    /// Write the claim of this Service.
    Claim(Arc<Service>),
    /// Write the claim of this Service in the place of a wrong one.
    Reclaim(Arc<Service>, Arc<IPAddress>),
    /// Remove a claim, for a reason.
    Remove(Arc<IPAddress>, &'static str, String),
    /// This Service has an address that another one has claimed.
    Shared(Arc<Service>),
    /// This Service's address is in no range: nothing can be done for it.
    OutOfRange(Arc<Service>),
}

/// Whether an IPAddress is the server's own.
pub(crate) fn is_ours(claim: &IPAddress) -> bool {
    meta::label(&claim.metadata, MANAGED_BY_LABEL) == Some(MANAGED_BY_SERVER)
}

/// The next step for an address.
pub(super) fn step(facts: &Facts<'_>, now: Timestamp) -> Step {
    match (facts.having.first(), facts.claim) {
        (None, None) => Step::Nothing,
        (None, Some(claim)) => without_service(facts, claim, now),
        (Some(service), _) if !in_range(facts) => Step::OutOfRange(Arc::clone(service)),
        (Some(service), None) => Step::Claim(Arc::clone(service)),
        (Some(service), Some(claim)) => with_service(facts, service, claim),
    }
}

fn in_range(facts: &Facts<'_>) -> bool {
    facts.ranges.iter().any(|range| addresses::holds(range, facts.address))
}

fn refers_to_service(claim: &IPAddress) -> bool {
    let parent = &claim.spec.parent_ref;
    parent.resource == "services" && parent.group.as_deref().unwrap_or_default().is_empty()
}

/// The one that the claim refers to, if it has the address.
fn owner<'a>(facts: &'a Facts<'_>) -> Option<&'a Arc<Service>> {
    let parent = facts.parent?;
    facts.having.iter().find(|service| {
        service.metadata.namespace == parent.metadata.namespace
            && service.metadata.name == parent.metadata.name
    })
}

fn with_service(facts: &Facts<'_>, service: &Arc<Service>, claim: &IPAddress) -> Step {
    let Some(owner) = owner(facts).filter(|_| refers_to_service(claim)) else {
        return Step::Reclaim(Arc::clone(service), Arc::new(claim.clone()));
    };
    if !has_labels(facts.address, claim) {
        return Step::Reclaim(Arc::clone(owner), Arc::new(claim.clone()));
    }
    let other = facts.having.iter().find(|service| !Arc::ptr_eq(service, owner));
    other.map_or(Step::Nothing, |other| Step::Shared(Arc::clone(other)))
}

fn has_labels(address: IpAddr, claim: &IPAddress) -> bool {
    is_ours(claim) && meta::label(&claim.metadata, FAMILY_LABEL) == Some(Family::of(address).name())
}

/// Whether a claim is for a Service, and says all that the API server writes.
pub(super) fn is_as_written(address: IpAddr, claim: &IPAddress) -> bool {
    refers_to_service(claim) && has_labels(address, claim)
}

fn without_service(facts: &Facts<'_>, claim: &IPAddress, now: Timestamp) -> Step {
    if !is_ours(claim) {
        return Step::Nothing;
    }
    let (address, parent) = (facts.address, &claim.spec.parent_ref);
    let namespace = parent.namespace.as_deref().unwrap_or_default();
    let remove = |reason, message| Step::Remove(Arc::new(claim.clone()), reason, message);
    if !refers_to_service(claim) {
        let message = format!(
            "IPAddress {address} appears to have been modified, not referencing a Service: cleaning up"
        );
        return remove("IPAddressNotAllocated", message);
    }
    if facts.parent.is_some_and(|parent| !cluster_ips(parent).any(|ip| ip == address)) {
        let message = format!(
            "IPAddress: {address} for Service {namespace}/{} has a wrong reference; cleaning up",
            parent.name
        );
        return remove("IPAddressWrongReference", message);
    }
    let age = claim.metadata.creation_timestamp.as_ref().map(|created| now.duration_since(created.0));
    match age.and_then(|age| Duration::try_from(GRACE - age).ok()).filter(|left| !left.is_zero()) {
        Some(left) => Step::Wait(left),
        None => {
            let message = format!(
                "IPAddress: {address} for Service {namespace}/{} appears to have leaked: cleaning up",
                parent.name
            );
            remove("IPAddressNotAllocated", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const IP: &str = "10.96.0.5";

    fn service(name: &str, ip: &str) -> Arc<Service> {
        let object =
            json!({ "metadata": { "namespace": "ns", "name": name }, "spec": { "clusterIPs": [ip] } });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn claim(parent: &str, change: Value) -> IPAddress {
        let mut object = json!({
            "metadata": {
                "name": IP, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": { MANAGED_BY_LABEL: MANAGED_BY_SERVER, FAMILY_LABEL: "IPv4" },
            },
            "spec": { "parentRef": { "resource": "services", "namespace": "ns", "name": parent } },
        });
        json_patch(&mut object, &change);
        serde_json::from_value(object).unwrap()
    }

    fn json_patch(object: &mut Value, change: &Value) {
        *object = svcd_api::patch::json_merge(object, change).unwrap();
    }

    fn next(claim: Option<&IPAddress>, services: &[Arc<Service>], seconds: i64) -> String {
        let address: IpAddr = IP.parse().unwrap();
        let having: Vec<_> =
            services.iter().filter(|s| cluster_ips(s).any(|ip| ip == address)).cloned().collect();
        let parent = claim.and_then(|c| {
            services.iter().find(|s| s.metadata.name.as_ref() == Some(&c.spec.parent_ref.name))
        });
        let ranges = ["10.96.0.0/28".parse().unwrap()];
        let facts =
            Facts { address, claim, parent: parent.map(AsRef::as_ref), having: &having, ranges: &ranges };
        let created: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let name = |service: &Service| service.metadata.name.clone().unwrap();
        match step(&facts, created + SignedDuration::from_secs(seconds)) {
            Step::Nothing => "nothing".to_owned(),
            Step::Wait(time) => format!("wait {}", time.as_secs()),
            Step::Claim(service) => format!("claim for {}", name(&service)),
            Step::Reclaim(service, _) => format!("reclaim for {}", name(&service)),
            Step::Remove(_, reason, _) => format!("remove, {reason}"),
            Step::Shared(service) => format!("shared by {}", name(&service)),
            Step::OutOfRange(service) => format!("out of range: {}", name(&service)),
        }
    }

    #[test]
    fn what_agrees_is_left_alone() {
        let good = claim("web", json!({}));
        assert_eq!(next(Some(&good), &[service("web", IP)], 999), "nothing");
        assert_eq!(next(None, &[], 0), "nothing");
        let by_hand = claim("nope", json!({ "metadata": { "labels": null } }));
        assert_eq!(next(Some(&by_hand), &[], 999), "nothing", "an address that was reserved by hand");
    }

    #[test]
    fn a_service_gets_its_claim() {
        let web = [service("web", IP)];
        assert_eq!(next(None, &web, 0), "claim for web");
        for wrong in [
            claim("other", json!({})),
            claim("web", json!({ "spec": { "parentRef": { "resource": "gateways" } } })),
            claim("web", json!({ "spec": { "parentRef": { "group": "example.com" } } })),
            claim("web", json!({ "metadata": { "labels": { MANAGED_BY_LABEL: null } } })),
            claim("web", json!({ "metadata": { "labels": { FAMILY_LABEL: "IPv6" } } })),
        ] {
            assert_eq!(next(Some(&wrong), &web, 0), "reclaim for web", "{wrong:?}");
        }
        // Of one that has another address now.
        let services = [service("web", IP), service("other", "10.96.0.9")];
        assert_eq!(next(Some(&claim("other", json!({}))), &services, 0), "reclaim for web");
    }

    #[test]
    fn two_services_with_one_address_are_told() {
        let services = [service("one", IP), service("two", IP)];
        assert_eq!(next(Some(&claim("two", json!({}))), &services, 0), "shared by one");
    }

    #[test]
    fn a_claim_that_no_service_has_goes() {
        let leaked = claim("gone", json!({}));
        assert_eq!(next(Some(&leaked), &[], 10), "wait 50");
        assert_eq!(next(Some(&leaked), &[], 60), "remove, IPAddressNotAllocated");
        let elsewhere = [service("gone", "10.96.0.9")];
        assert_eq!(next(Some(&leaked), &elsewhere, 0), "remove, IPAddressWrongReference");
        let odd = claim("x", json!({ "spec": { "parentRef": { "resource": "gateways" } } }));
        assert_eq!(next(Some(&odd), &[], 0), "remove, IPAddressNotAllocated");
    }

    #[test]
    fn an_address_without_a_range_is_told() {
        let facts = Facts {
            address: IP.parse().unwrap(),
            claim: None,
            parent: None,
            having: &[service("web", IP)],
            ranges: &[],
        };
        assert!(matches!(step(&facts, Timestamp::UNIX_EPOCH), Step::OutOfRange(_)));
    }
}
