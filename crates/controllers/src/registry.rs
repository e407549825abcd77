//! Every controller, with the name under which it can be left out. Somebody else's (upstream's kube-controller-manager,
//! another scheduler) can then do its work.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::kit::world::{Task, World};
use crate::{
    bootstrap, certificates, daemonset, deployment, disruption, endpoints, endpointslice,
    endpointslicemirroring, eventexpiry, eviction, garbagecollector, ipaddress, namespace, nodeipam,
    nodelifecycle, podgc, replicaset, scheduler, servicecidr, statefulset, tokencleaner,
};

type Start = fn(&Arc<World>) -> Vec<Task>;

const CONTROLLERS: &[(&str, Start)] = &[
    ("endpointslice", |world| vec![endpointslice::start(world)]),
    ("endpoints", |world| vec![endpoints::start(world)]),
    ("endpointslicemirroring", |world| vec![endpointslicemirroring::start(world)]),
    ("nodeipam", |world| vec![nodeipam::start(world)]),
    ("bootstrap", |world| vec![bootstrap::start(world)]),
    ("nodelifecycle", |world| vec![nodelifecycle::start(world)]),
    ("deployment", |world| vec![deployment::start(world)]),
    ("daemonset", |world| vec![daemonset::start(world)]),
    ("statefulset", |world| vec![statefulset::start(world)]),
    ("disruption", |world| vec![disruption::start(world)]),
    ("scheduler", |world| vec![scheduler::start(world)]),
    ("servicecidr", |world| vec![servicecidr::start(world)]),
    ("ipaddress", |world| vec![ipaddress::start(world)]),
    ("podgc", |world| vec![podgc::start(world)]),
    ("garbagecollector", |world| vec![garbagecollector::start(world)]),
    ("eviction", |world| vec![eviction::start(world)]),
    ("eventexpiry", |world| vec![eventexpiry::start(world)]),
    ("replicaset", |world| vec![replicaset::start(world)]),
    ("replication", |world| vec![replicaset::start_replication(world)]),
    ("namespace", namespace::start),
    ("tokencleaner", tokencleaner::start),
    ("certificates", certificates::start),
];

/// The name of a controller that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerName(&'static str);

impl fmt::Display for ControllerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for ControllerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = CONTROLLERS.iter().find(|(name, _)| *name == text).map(|(name, _)| Self(name));
        known.ok_or_else(|| {
            let mut names: Vec<&str> = CONTROLLERS.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            format!("there is no such controller; there are {}", names.join(", "))
        })
    }
}

/// The tasks of all controllers but those.
pub(crate) fn start(world: &Arc<World>, without: &[ControllerName]) -> Vec<Task> {
    let wanted = CONTROLLERS.iter().filter(|(name, _)| !without.contains(&ControllerName(name)));
    wanted.flat_map(|(_, start)| start(world)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_table() {
        assert_eq!("scheduler".parse(), Ok(ControllerName("scheduler")));
        let error = "shceduler".parse::<ControllerName>().unwrap_err();
        assert!(error.contains("scheduler, servicecidr"), "{error}");
    }
}
