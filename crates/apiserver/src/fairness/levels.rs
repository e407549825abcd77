//! Which level a request belongs to: upstream's default flow schemas and priority levels, in their order of precedence.

use crate::authz::Objects;
use crate::user::{AUTHENTICATED, MASTERS, NODES, SERVICE_ACCOUNTS, UNAUTHENTICATED, User};

/// A priority level with seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) name: &'static str,
    /// How much of all seats is the level's, against the other levels' shares.
    pub(super) shares: usize,
    /// How much of that others may use while it does not.
    pub(super) lendable_percent: usize,
    /// How many may wait in all.
    pub(super) queue: usize,
}

const fn level(name: &'static str, shares: usize, lendable_percent: usize, queue: usize) -> Level {
    Level { name, shares, lendable_percent, queue }
}

/// The levels, by number.
pub(super) const LEVELS: &[Level] = &[
    level("system", 30, 33, 3200),
    level("node-high", 40, 25, 3200),
    level("leader-election", 10, 0, 800),
    level("workload-high", 40, 50, 6400),
    level("workload-low", 100, 90, 6400),
    level("global-default", 20, 50, 6400),
    level("catch-all", 5, 0, 0),
];

const SYSTEM: usize = 0;
const NODE_HIGH: usize = 1;
const LEADER_ELECTION: usize = 2;
const WORKLOAD_HIGH: usize = 3;
const WORKLOAD_LOW: usize = 4;
const GLOBAL_DEFAULT: usize = 5;
const CATCH_ALL: usize = 6;

/// A rule that puts requests into a level.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Schema {
    /// Upstream's name for it.
    pub(super) name: &'static str,
    /// The number of its level; none for what is exempt.
    pub(super) level: Option<usize>,
}

impl Schema {
    pub(super) fn level_name(&self) -> &'static str {
        self.level.map_or("exempt", |level| LEVELS[level].name)
    }
}

const EXEMPT: Schema = Schema { name: "exempt", level: None };
const SYSTEM_LEADER_ELECTION: Schema =
    Schema { name: "system-leader-election", level: Some(LEADER_ELECTION) };
const ENDPOINT_CONTROLLER: Schema = Schema { name: "endpoint-controller", level: Some(WORKLOAD_HIGH) };
const WORKLOAD_LEADER_ELECTION: Schema =
    Schema { name: "workload-leader-election", level: Some(LEADER_ELECTION) };
const SYSTEM_NODE_HIGH: Schema = Schema { name: "system-node-high", level: Some(NODE_HIGH) };
const SYSTEM_NODES: Schema = Schema { name: "system-nodes", level: Some(SYSTEM) };
const KUBE_CONTROLLER_MANAGER: Schema =
    Schema { name: "kube-controller-manager", level: Some(WORKLOAD_HIGH) };
const KUBE_SCHEDULER: Schema = Schema { name: "kube-scheduler", level: Some(WORKLOAD_HIGH) };
const KUBE_SYSTEM_ACCOUNTS: Schema =
    Schema { name: "kube-system-service-accounts", level: Some(WORKLOAD_HIGH) };
const ACCOUNTS: Schema = Schema { name: "service-accounts", level: Some(WORKLOAD_LOW) };
const DEFAULT: Schema = Schema { name: "global-default", level: Some(GLOBAL_DEFAULT) };
const REST: Schema = Schema { name: "catch-all", level: Some(CATCH_ALL) };

const MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
const SYSTEM_ACCOUNTS: &str = "system:serviceaccounts:kube-system";
const ENDPOINT_ACCOUNT: &str = "system:serviceaccount:kube-system:endpoint-controller";

/// The rule for a request of a user; `None` for what is not about objects.
pub(crate) fn schema(user: &User, objects: Option<&Objects<'_>>) -> &'static Schema {
    let name = user.name.as_str();
    let is_lease = objects.is_some_and(|o| {
        (o.group, o.resource) == ("coordination.k8s.io", "leases")
            && matches!(o.verb, "get" | "create" | "update")
    });
    let is_endpoints = objects.is_some_and(|o| {
        (o.group, o.resource) == ("", "endpoints") && matches!(o.verb, "get" | "create" | "update")
    });
    if user.is_in(MASTERS) {
        &EXEMPT
    } else if is_lease && matches!(name, MANAGER | SCHEDULER) {
        &SYSTEM_LEADER_ELECTION
    } else if is_endpoints && matches!(name, MANAGER | ENDPOINT_ACCOUNT) {
        &ENDPOINT_CONTROLLER
    } else if is_lease && user.is_in(SYSTEM_ACCOUNTS) {
        &WORKLOAD_LEADER_ELECTION
    } else if user.is_in(NODES) {
        if objects.is_some_and(keeps_a_node) { &SYSTEM_NODE_HIGH } else { &SYSTEM_NODES }
    } else if name == MANAGER {
        &KUBE_CONTROLLER_MANAGER
    } else if name == SCHEDULER {
        &KUBE_SCHEDULER
    } else if user.is_in(SYSTEM_ACCOUNTS) {
        &KUBE_SYSTEM_ACCOUNTS
    } else if user.is_in(SERVICE_ACCOUNTS) {
        &ACCOUNTS
    } else if user.is_in(AUTHENTICATED) || user.is_in(UNAUTHENTICATED) {
        &DEFAULT
    } else {
        &REST
    }
}

/// What decides whether a node counts as alive.
fn keeps_a_node(objects: &Objects<'_>) -> bool {
    matches!(
        (objects.group, objects.resource, objects.subresource),
        ("", "nodes", "" | "status") | ("coordination.k8s.io", "leases", "")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(verb: &'static str, group: &'static str, resource: &'static str) -> Objects<'static> {
        Objects { verb, group, resource, ..Objects::default() }
    }

    #[test]
    fn requests_belong_where_upstream_puts_them() {
        let lease = objects("update", "coordination.k8s.io", "leases");
        let pods = objects("list", "", "pods");
        let endpoints = objects("update", "", "endpoints");
        let nodes = objects("patch", "", "nodes");
        let account = |namespace: &str, name: &str| {
            let groups = [SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
            User::new(format!("system:serviceaccount:{namespace}:{name}"), groups)
        };
        let user = |name: &str| User::new(name, ["people"]);
        let node = User::new("system:node:n1", [NODES]);
        let nobody = User { groups: Vec::new(), ..User::anonymous() };
        for (user, asked, schema_name, level) in [
            (User::master("admin"), Some(&lease), "exempt", "exempt"),
            (user(MANAGER), Some(&lease), "system-leader-election", "leader-election"),
            (user(SCHEDULER), Some(&pods), "kube-scheduler", "workload-high"),
            (user(MANAGER), Some(&endpoints), "endpoint-controller", "workload-high"),
            (user(MANAGER), None, "kube-controller-manager", "workload-high"),
            (account("kube-system", "x"), Some(&lease), "workload-leader-election", "leader-election"),
            (account("kube-system", "x"), Some(&pods), "kube-system-service-accounts", "workload-high"),
            (account("default", "x"), Some(&lease), "service-accounts", "workload-low"),
            (node.clone(), Some(&lease), "system-node-high", "node-high"),
            (node.clone(), Some(&nodes), "system-node-high", "node-high"),
            (node, Some(&pods), "system-nodes", "system"),
            (user("alice"), Some(&pods), "global-default", "global-default"),
            (User::anonymous(), None, "global-default", "global-default"),
            (nobody, None, "catch-all", "catch-all"),
        ] {
            let found = schema(&user, asked);
            assert_eq!((found.name, found.level_name()), (schema_name, level), "{}", user.name);
        }
    }
}
