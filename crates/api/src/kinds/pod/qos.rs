//! A pod's quality of service, from what its containers ask for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

type Resources = BTreeMap<String, Quantity>;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(super) fn class(spec: &PodSpec) -> &'static str {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let (mut asks, mut is_guaranteed) = (false, true);
    for container in containers {
        let resources = container.resources.as_ref();
        let requests = resources.and_then(|r| r.requests.as_ref());
        let limits = resources.and_then(|r| r.limits.as_ref());
        asks |= [requests, limits].into_iter().flatten().any(|r| counted(r).next().is_some());
        is_guaranteed &= ["cpu", "memory"].iter().all(|name| {
            let limit = limits.and_then(|l| l.get(*name));
            limit.is_some_and(|limit| requests.and_then(|r| r.get(*name)).is_none_or(|r| r == limit))
        });
    }
    match (asks, is_guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Only CPU and memory count, and only more than nothing.
fn counted(resources: &Resources) -> impl Iterator<Item = &String> {
    resources
        .iter()
        .filter(|(name, amount)| ["cpu", "memory"].contains(&name.as_str()) && amount.0 != "0")
        .map(|(name, _)| name)
}
