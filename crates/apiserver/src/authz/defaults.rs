//! The roles and bindings that every cluster has: upstream's, as far as they are about what is served here. At the start
//! what is missing of them is put back; what somebody added stays. Who sets the annotation
//! `rbac.authorization.kubernetes.io/autoupdate` to `false` keeps an object from that.

use futures::future::try_join_all;
use http::StatusCode;
use serde_json::{Map, Value, json};
use svcd_api::signing_request::{API_CLIENT_SIGNER, NODE_CLIENT_SIGNER, NODE_SERVING_SIGNER};

use super::escalation::covers;
use super::rbac::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, GROUP, Rule};
use crate::create::Creation;
use crate::errors::Failure;
use crate::managed::Managing;
use crate::server::ApiServer;
use crate::user::{AUTHENTICATED, MASTERS, NODES, SERVICE_ACCOUNTS, UNAUTHENTICATED};

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const DEFAULTS: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const READ_WRITE: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const EVENTS: Grant = Grant::Objects(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]);

/// One rule.
enum Grant {
    /// Verbs, groups, resources.
    Objects(&'static [&'static str], &'static [&'static str], &'static [&'static str]),
    /// Verbs, group, resource, names.
    Named(&'static [&'static str], &'static str, &'static str, &'static [&'static str]),
    /// Saying yes to what this signer will sign.
    Approving(&'static str),
    /// GET of paths.
    Paths(&'static [&'static str]),
    /// Everything.
    Everything,
}

const CERTIFICATES: &str = "certificates.k8s.io";

impl Grant {
    fn rules(&self) -> Vec<Rule> {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        match self {
            Self::Objects(verbs, groups, resources) => vec![Rule {
                verbs: own(verbs),
                api_groups: own(groups),
                resources: own(resources),
                ..Rule::default()
            }],
            Self::Named(verbs, group, resource, names) => vec![Rule {
                verbs: own(verbs),
                api_groups: own(&[group]),
                resources: own(&[resource]),
                resource_names: own(names),
                ..Rule::default()
            }],
            Self::Approving(signer) => vec![Rule {
                verbs: own(&["approve"]),
                api_groups: own(&[CERTIFICATES]),
                resources: own(&["signers"]),
                resource_names: own(&[signer]),
                ..Rule::default()
            }],
            Self::Paths(paths) => vec![Rule { verbs: own(&["get"]), paths: own(paths), ..Rule::default() }],
            Self::Everything => {
                let all = || own(&["*"]);
                let objects = Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() };
                vec![objects, Rule { verbs: all(), paths: all(), ..Rule::default() }]
            }
        }
    }
}

struct Role {
    name: &'static str,
    grants: &'static [Grant],
    /// The aggregated role that this one is a part of.
    part_of: &'static str,
    /// Is it the sum of those that are a part of it?
    sum: bool,
    users: &'static [&'static str],
    groups: &'static [&'static str],
}

const ROLE: Role = Role { name: "", grants: &[], part_of: "", sum: false, users: &[], groups: &[] };

const ROLES: &[Role] = &[
    Role { name: "cluster-admin", grants: &[Grant::Everything], groups: &[MASTERS], ..ROLE },
    Role { name: "admin", sum: true, ..ROLE },
    Role { name: "edit", sum: true, part_of: "admin", ..ROLE },
    Role { name: "view", sum: true, part_of: "edit", ..ROLE },
    Role {
        name: "system:aggregate-to-admin",
        part_of: "admin",
        grants: &[
            Grant::Objects(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews"]),
            Grant::Objects(READ_WRITE, &[GROUP], &["roles", "rolebindings"]),
        ],
        ..ROLE
    },
    Role {
        name: "system:aggregate-to-edit",
        part_of: "edit",
        grants: &[
            Grant::Objects(
                READ,
                &[""],
                &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"],
            ),
            Grant::Objects(&["impersonate"], &[""], &["serviceaccounts"]),
            Grant::Objects(
                WRITE,
                &[""],
                &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"],
            ),
            Grant::Objects(&["create"], &[""], &["pods/eviction", "serviceaccounts/token"]),
            Grant::Objects(
                WRITE,
                &[""],
                &[
                    "configmaps",
                    "replicationcontrollers",
                    "replicationcontrollers/scale",
                    "secrets",
                    "serviceaccounts",
                    "services",
                    "services/proxy",
                ],
            ),
            Grant::Objects(WRITE, &["", "events.k8s.io"], &["events"]),
            Grant::Objects(
                WRITE,
                &["apps"],
                &[
                    "daemonsets",
                    "deployments",
                    "deployments/scale",
                    "replicasets",
                    "replicasets/scale",
                    "statefulsets",
                    "statefulsets/scale",
                ],
            ),
            Grant::Objects(WRITE, &["policy"], &["poddisruptionbudgets"]),
            Grant::Objects(WRITE, &["networking.k8s.io"], &["ingresses", "networkpolicies"]),
            Grant::Objects(READ_WRITE, &["coordination.k8s.io"], &["leases"]),
        ],
        ..ROLE
    },
    Role {
        name: "system:aggregate-to-view",
        part_of: "view",
        grants: &[
            Grant::Objects(
                READ,
                &[""],
                &[
                    "configmaps",
                    "endpoints",
                    "pods",
                    "replicationcontrollers",
                    "replicationcontrollers/scale",
                    "serviceaccounts",
                    "services",
                    "services/status",
                ],
            ),
            Grant::Objects(
                READ,
                &[""],
                &[
                    "bindings",
                    "namespaces/status",
                    "pods/log",
                    "pods/status",
                    "replicationcontrollers/status",
                ],
            ),
            Grant::Objects(READ, &[""], &["namespaces"]),
            Grant::Objects(READ, &["", "events.k8s.io"], &["events"]),
            Grant::Objects(READ, &["discovery.k8s.io"], &["endpointslices"]),
            Grant::Objects(
                READ,
                &["apps"],
                &[
                    "controllerrevisions",
                    "daemonsets",
                    "daemonsets/status",
                    "deployments",
                    "deployments/scale",
                    "deployments/status",
                    "replicasets",
                    "replicasets/scale",
                    "replicasets/status",
                    "statefulsets",
                    "statefulsets/scale",
                    "statefulsets/status",
                ],
            ),
            Grant::Objects(READ, &["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
            Grant::Objects(
                READ,
                &["networking.k8s.io"],
                &["ingresses", "ingresses/status", "networkpolicies"],
            ),
        ],
        ..ROLE
    },
    Role {
        name: "system:auth-delegator",
        grants: &[
            Grant::Objects(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
            Grant::Objects(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
        ],
        ..ROLE
    },
    Role {
        name: "system:basic-user",
        grants: &[
            Grant::Objects(
                &["create"],
                &["authorization.k8s.io"],
                &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            ),
            Grant::Objects(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
        ],
        groups: &[AUTHENTICATED],
        ..ROLE
    },
    Role {
        name: "system:discovery",
        grants: &[Grant::Paths(&[
            "/.well-known",
            "/.well-known/*",
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/healthz",
            "/livez",
            "/openapi",
            "/openapi/*",
            "/readyz",
            "/version",
            "/version/",
        ])],
        groups: &[AUTHENTICATED],
        ..ROLE
    },
    Role {
        name: "system:public-info-viewer",
        grants: &[Grant::Paths(&["/healthz", "/livez", "/readyz", "/version", "/version/"])],
        groups: &[AUTHENTICATED, UNAUTHENTICATED],
        ..ROLE
    },
    Role {
        name: "system:monitoring",
        grants: &[Grant::Paths(&[
            "/healthz",
            "/healthz/*",
            "/livez",
            "/livez/*",
            "/metrics",
            "/readyz",
            "/readyz/*",
        ])],
        groups: &["system:monitoring"],
        ..ROLE
    },
    Role {
        name: "system:service-account-issuer-discovery",
        grants: &[Grant::Paths(&[
            "/.well-known/openid-configuration",
            "/.well-known/openid-configuration/",
            "/openid/v1/jwks",
            "/openid/v1/jwks/",
        ])],
        groups: &[SERVICE_ACCOUNTS],
        ..ROLE
    },
    // Who may approve certificates of which signer; and whose requests are approved without asking anybody.
    Role {
        name: "system:certificates.k8s.io:kube-apiserver-client-approver",
        grants: &[Grant::Approving(API_CLIENT_SIGNER)],
        ..ROLE
    },
    Role {
        name: "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        grants: &[Grant::Approving(NODE_CLIENT_SIGNER)],
        ..ROLE
    },
    Role {
        name: "system:certificates.k8s.io:kubelet-serving-approver",
        grants: &[Grant::Approving(NODE_SERVING_SIGNER)],
        ..ROLE
    },
    Role {
        name: "system:certificates.k8s.io:legacy-unknown-approver",
        grants: &[Grant::Approving("kubernetes.io/legacy-unknown")],
        ..ROLE
    },
    Role {
        name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        grants: &[Grant::Objects(&["create"], &[CERTIFICATES], &["certificatesigningrequests/nodeclient"])],
        ..ROLE
    },
    // Given to the nodes, so that they can renew what they have; upstream leaves that to the installer.
    Role {
        name: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        grants: &[Grant::Objects(
            &["create"],
            &[CERTIFICATES],
            &["certificatesigningrequests/selfnodeclient"],
        )],
        groups: &[NODES],
        ..ROLE
    },
    Role {
        name: "system:node-proxier",
        grants: &[
            Grant::Objects(&["list", "watch"], &[""], &["endpoints", "services"]),
            Grant::Objects(READ, &[""], &["nodes"]),
            EVENTS,
            Grant::Objects(&["list", "watch"], &["discovery.k8s.io"], &["endpointslices"]),
            Grant::Objects(&["list", "watch"], &["networking.k8s.io"], &["servicecidrs"]),
        ],
        users: &["system:kube-proxy"],
        ..ROLE
    },
    Role {
        name: "system:kube-scheduler",
        grants: &[
            EVENTS,
            Grant::Objects(&["create", "list", "watch"], &["coordination.k8s.io"], &["leases"]),
            Grant::Named(&["get", "update"], "coordination.k8s.io", "leases", &["kube-scheduler"]),
            Grant::Objects(READ, &[""], &["nodes", "namespaces"]),
            Grant::Objects(&["delete", "get", "list", "watch"], &[""], &["pods"]),
            Grant::Objects(&["create"], &[""], &["bindings", "pods/binding"]),
            Grant::Objects(&["patch", "update"], &[""], &["pods/status"]),
            Grant::Objects(
                READ,
                &["", "apps", "policy"],
                &[
                    "replicationcontrollers",
                    "services",
                    "replicasets",
                    "statefulsets",
                    "poddisruptionbudgets",
                ],
            ),
            Grant::Objects(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
            Grant::Objects(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
        ],
        users: &["system:kube-scheduler"],
        ..ROLE
    },
    Role {
        name: "system:kube-controller-manager",
        grants: &[
            EVENTS,
            Grant::Objects(&["create"], &["coordination.k8s.io"], &["leases"]),
            Grant::Named(&["get", "update"], "coordination.k8s.io", "leases", &["kube-controller-manager"]),
            Grant::Objects(&["create", "delete", "get", "update"], &[""], &["secrets", "serviceaccounts"]),
            Grant::Objects(&["get"], &[""], &["configmaps", "namespaces"]),
            Grant::Objects(&["update"], &[""], &["configmaps"]),
            Grant::Objects(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
            Grant::Objects(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
            Grant::Objects(&["list", "watch"], &["*"], &["*"]),
            Grant::Objects(&["create"], &[""], &["serviceaccounts/token"]),
        ],
        users: &["system:kube-controller-manager"],
        ..ROLE
    },
    // Of our own: what an agent asks first.
    Role {
        name: "svcd:cluster-info",
        grants: &[Grant::Paths(&["/svcd.io/v1/cluster"])],
        groups: &[AUTHENTICATED],
        ..ROLE
    },
];

impl Role {
    fn metadata(&self) -> Value {
        let mut labels = Map::from_iter([(DEFAULTS.0.to_owned(), json!(DEFAULTS.1))]);
        if !self.part_of.is_empty() {
            labels.insert(aggregate_label(self.part_of), json!("true"));
        }
        json!({ "name": self.name, "labels": labels, "annotations": { AUTO_UPDATE: "true" } })
    }

    fn role(&self) -> Value {
        let rules: Vec<Rule> = self.grants.iter().flat_map(Grant::rules).collect();
        let mut role = json!({ "metadata": self.metadata(), "rules": rules });
        if self.sum {
            let label = json!({ aggregate_label(self.name): "true" });
            role["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": label }] });
        }
        role
    }

    /// Its binding, if it is given to anybody.
    fn binding(&self) -> Option<Value> {
        let subject = |kind: &str, name: &&str| json!({ "kind": kind, "apiGroup": GROUP, "name": name });
        let users = self.users.iter().map(|name| subject("User", name));
        let subjects: Vec<Value> =
            users.chain(self.groups.iter().map(|name| subject("Group", name))).collect();
        let role = json!({ "apiGroup": GROUP, "kind": "ClusterRole", "name": self.name });
        let metadata = Self { part_of: "", ..*self }.metadata();
        (!subjects.is_empty()).then(|| json!({ "metadata": metadata, "roleRef": role, "subjects": subjects }))
    }
}

fn aggregate_label(role: &str) -> String {
    format!("{GROUP}/aggregate-to-{role}")
}

impl ApiServer {
    /// Makes the default roles and bindings, and puts back what is missing of them.
    pub(crate) async fn reconcile_defaults(&self) -> Result<(), Failure> {
        let roles = ROLES.iter().map(|role| (CLUSTER_ROLES, role.role()));
        let bindings = ROLES.iter().filter_map(|role| Some((CLUSTER_ROLE_BINDINGS, role.binding()?)));
        // At once, so that they share one sync to the disk.
        try_join_all(roles.chain(bindings).map(|(plural, wanted)| self.reconcile(plural, wanted))).await?;
        self.aggregate().await
    }

    async fn reconcile(&self, plural: &str, wanted: Value) -> Result<(), Failure> {
        let Some(resource) = self.resources.find(GROUP, "v1", plural) else { return Ok(()) };
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        if self.store.get(&resource.key("", name)).await?.is_none() {
            let decoded = resource.kind.decode(wanted.clone()).map_err(Failure::internal)?;
            let managing = Managing::by_server(resource);
            match self.create_named(resource, decoded.object, Creation::by_server(&managing)).await {
                Err(failure) if failure.code() == StatusCode::CONFLICT => {}
                result => return result.map(drop),
            }
        }
        self.rewrite(plural, name, |found| completed(found, &wanted)).await
    }
}

/// The object with what it lacks of the default; `None` when it lacks nothing or is not to be touched.
fn completed(found: &Value, wanted: &Value) -> Option<Value> {
    if found["metadata"]["annotations"][AUTO_UPDATE].as_str() == Some("false") {
        return None;
    }
    let mut new = found.clone();
    for field in ["labels", "annotations"] {
        let target = &mut new["metadata"][field];
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            target[key] = value.clone();
        }
    }
    if wanted.get("aggregationRule").is_some() {
        new["aggregationRule"] = wanted["aggregationRule"].clone();
    } else {
        add_missing(&mut new, wanted, "rules", |have, one| {
            let rule = |value: &Value| serde_json::from_value::<Rule>(value.clone()).unwrap_or_default();
            covers(&have.iter().map(rule).collect::<Vec<_>>(), &rule(one))
        });
    }
    add_missing(&mut new, wanted, "subjects", |have, one| have.contains(one));
    (new != *found).then_some(new)
}

fn add_missing(new: &mut Value, wanted: &Value, field: &str, has: impl Fn(&[Value], &Value) -> bool) {
    let mut have = new[field].as_array().cloned().unwrap_or_default();
    let before = have.len();
    for one in wanted[field].as_array().into_iter().flatten() {
        if !has(&have, one) {
            have.push(one.clone());
        }
    }
    if have.len() > before {
        new[field] = have.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_put_back_and_what_was_added_stays() {
        let wanted = ROLES.iter().find(|role| role.name == "system:basic-user").unwrap();
        let mut role = wanted.role();
        assert_eq!(completed(&role, &wanted.role()), None);
        let own = json!({ "apiGroups": ["x"], "resources": ["y"], "verbs": ["get"] });
        role["rules"] = json!([own]);
        role["metadata"]["labels"] = json!({ "mine": "1" });
        let completed_role = completed(&role, &wanted.role()).unwrap();
        assert_eq!(completed_role["rules"].as_array().unwrap().len(), 3);
        assert_eq!(completed_role["rules"][0], own);
        assert_eq!(completed_role["metadata"]["labels"], json!({ "mine": "1", DEFAULTS.0: DEFAULTS.1 }));
        role["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        assert_eq!(completed(&role, &wanted.role()), None);
        let mut binding = wanted.binding().unwrap();
        binding["subjects"] = json!([{ "kind": "User", "apiGroup": GROUP, "name": "me" }]);
        assert_eq!(
            completed(&binding, &wanted.binding().unwrap()).unwrap()["subjects"].as_array().unwrap().len(),
            2
        );
    }
}
