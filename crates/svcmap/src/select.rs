//! Which endpoints a client is sent to: upstream's definitions of readiness, traffic policies and topology hints, as
//! one pure function for each node.
//!
//! Ready endpoints serve. Only where there is no ready one at all do terminating endpoints that still serve take over;
//! for policy `Local` that is judged among the node's own. Hints count only when every ready endpoint carries them and
//! one of them fits; otherwise they are ignored together, so that a half-updated slice never narrows traffic.

use std::net::IpAddr;
use std::sync::Arc;

use crate::{Endpoint, Entry, Service, ServicePort, TrafficPolicy};

/// An address family: each has its own rules, and endpoints of one never serve the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Where the traffic enters: a node's name and zone.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The node.
    pub node: &'a str,
    /// Its `topology.kubernetes.io/zone`.
    pub zone: Option<&'a str>,
}

/// Who serves a port, seen from one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection<'a> {
    /// For traffic of policy Cluster.
    pub cluster: Vec<&'a Endpoint>,
    /// For traffic of policy Local; empty also when no policy of the Service is Local.
    pub local: Vec<&'a Endpoint>,
    /// Whether anything serves anywhere: tells "drop, not here" from "refuse, nobody".
    pub anywhere: bool,
}

impl Service {
    /// Whether a port can be reached by other addresses than the Service's own.
    pub fn reachable_from_outside(&self, port: &ServicePort) -> bool {
        port.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }
}

/// Who serves `port` for traffic that enters at `place`.
pub fn select<'a>(entry: &'a Entry, port: &ServicePort, family: Family, place: Place<'_>) -> Selection<'a> {
    let key = (Arc::clone(&port.name), port.protocol);
    let all = entry.endpoints.get(&key).map(Vec::as_slice).unwrap_or_default();
    let all: Vec<&Endpoint> = all.iter().filter(|endpoint| Family::of(endpoint.address) == family).collect();
    let service = &entry.service;
    let outside = service.reachable_from_outside(port);
    let internal_local = service.internal_policy == TrafficPolicy::Local;
    // With policy Local too, traffic from inside the cluster to an outside address goes to all.
    let uses_cluster = !internal_local || outside;
    let uses_local = internal_local || (outside && service.external_policy == TrafficPolicy::Local);
    let here = |endpoint: &&Endpoint| endpoint.node.as_deref() == Some(place.node);
    Selection {
        cluster: if uses_cluster { near(&all, place) } else { Vec::new() },
        local: if uses_local {
            serving(&all.iter().copied().filter(here).collect::<Vec<_>>())
        } else {
            Vec::new()
        },
        anywhere: all.iter().any(|endpoint| endpoint.ready || falls_back(endpoint)),
    }
}

fn falls_back(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

fn serving<'a>(endpoints: &[&'a Endpoint]) -> Vec<&'a Endpoint> {
    let ready: Vec<&Endpoint> = endpoints.iter().copied().filter(|endpoint| endpoint.ready).collect();
    if ready.is_empty() {
        endpoints.iter().copied().filter(|endpoint| falls_back(endpoint)).collect()
    } else {
        ready
    }
}

fn near<'a>(endpoints: &[&'a Endpoint], place: Place<'_>) -> Vec<&'a Endpoint> {
    let serving = serving(endpoints);
    let hinted = |hints: fn(&Endpoint) -> &[Arc<str>], wanted: &str| {
        let complete = serving.iter().all(|endpoint| endpoint.ready && !hints(endpoint).is_empty());
        let fits = |endpoint: &&&Endpoint| hints(endpoint).iter().any(|name| **name == *wanted);
        let near: Vec<&Endpoint> = serving.iter().filter(fits).copied().collect();
        (complete && !near.is_empty()).then_some(near)
    };
    hinted(|endpoint| &endpoint.hint_nodes, place.node)
        .or_else(|| hinted(|endpoint| &endpoint.hint_zones, place.zone?))
        .unwrap_or(serving)
}
