//! What load balancers are told of a node: whether it has endpoints of a Service's own, upstream's count.

use std::collections::BTreeSet;

use crate::{Entry, ServiceKind, TrafficPolicy};

/// A Service's health check on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`.
    pub port: u16,
    /// How many ready endpoints of the Service are on the node.
    pub local: usize,
}

impl Entry {
    /// The health check of this Service on a node; none but for load balancers that keep traffic on the node.
    pub fn health_check(&self, node: &str) -> Option<HealthCheck> {
        let service = &self.service;
        if service.kind != ServiceKind::LoadBalancer || service.external_policy != TrafficPolicy::Local {
            return None;
        }
        let port = service.health_check_node_port?;
        let here =
            self.endpoints.values().flatten().filter(|one| one.ready && one.node.as_deref() == Some(node));
        // A pod that serves several ports is one endpoint.
        let local = here.map(|one| one.address).collect::<BTreeSet<_>>().len();
        Some(HealthCheck { port, local })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::{Endpoint, Protocol, Service, ServiceName};

    fn entry(endpoints: &[(u8, &str, bool)]) -> Entry {
        let mut service = Service::new(ServiceName::new("ns", "web"), ServiceKind::LoadBalancer);
        service.external_policy = TrafficPolicy::Local;
        service.health_check_node_port = Some(30_100);
        let at = |port| -> Vec<Endpoint> {
            let one = |(last, node, ready): &(u8, &str, bool)| Endpoint {
                node: Some((*node).into()),
                ready: *ready,
                ..Endpoint::new([10, 244, 1, *last].into(), port)
            };
            endpoints.iter().map(one).collect()
        };
        let endpoints = BTreeMap::from([
            ((Arc::from("http"), Protocol::Tcp), at(8080)),
            ((Arc::from("https"), Protocol::Tcp), at(8443)),
        ]);
        Entry { service, endpoints, portless: Vec::new() }
    }

    #[test]
    fn ready_endpoints_of_the_node_count_once_each() {
        for (endpoints, local) in [
            (&[][..], 0),
            (&[(1, "a", true), (2, "a", true), (3, "b", true)], 2),
            (&[(1, "a", false), (3, "b", true)], 0),
        ] {
            assert_eq!(entry(endpoints).health_check("a"), Some(HealthCheck { port: 30_100, local }));
        }
    }

    #[test]
    fn only_balancers_that_keep_traffic_on_the_node_are_checked() {
        let good = entry(&[(1, "a", true)]);
        let changes: [fn(&mut Service); 3] = [
            |service| service.kind = ServiceKind::NodePort,
            |service| service.external_policy = TrafficPolicy::Cluster,
            |service| service.health_check_node_port = None,
        ];
        for change in changes {
            let mut other = good.clone();
            change(&mut other.service);
            assert_eq!(other.health_check("a"), None);
        }
    }
}
