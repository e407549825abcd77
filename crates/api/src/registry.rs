//! Every kind that is served. To add one: a file in `kinds/` with its `mod` line, and a line here.

use crate::behavior::Adapter;
use crate::kind::Kind;
use crate::kinds;

static KINDS: &[&dyn Kind] = &[
    &Adapter::<kinds::certificate_signing_request::CertificateSigningRequests>::new(),
    &Adapter::<kinds::cluster_role::ClusterRoles>::new(),
    &Adapter::<kinds::cluster_role_binding::ClusterRoleBindings>::new(),
    &Adapter::<kinds::config_map::ConfigMaps>::new(),
    &Adapter::<kinds::controller_revision::ControllerRevisions>::new(),
    &Adapter::<kinds::daemon_set::DaemonSets>::new(),
    &Adapter::<kinds::deployment::Deployments>::new(),
    &Adapter::<kinds::endpoint_slice::EndpointSlices>::new(),
    &Adapter::<kinds::endpoints::EndpointsKind>::new(),
    &Adapter::<kinds::event::Events>::new(),
    &kinds::event::EVENTS,
    &Adapter::<kinds::ingress::Ingresses>::new(),
    &Adapter::<kinds::ingress_class::IngressClasses>::new(),
    &Adapter::<kinds::ip_address::IpAddresses>::new(),
    &Adapter::<kinds::lease::Leases>::new(),
    &Adapter::<kinds::namespace::Namespaces>::new(),
    &Adapter::<kinds::network_policy::NetworkPolicies>::new(),
    &Adapter::<kinds::node::Nodes>::new(),
    &Adapter::<kinds::pod::Pods>::new(),
    &Adapter::<kinds::pod_disruption_budget::PodDisruptionBudgets>::new(),
    &Adapter::<kinds::replica_set::ReplicaSets>::new(),
    &Adapter::<kinds::replication_controller::ReplicationControllers>::new(),
    &Adapter::<kinds::review::LocalSubjectAccessReviews>::new(),
    &Adapter::<kinds::review::SelfSubjectAccessReviews>::new(),
    &Adapter::<kinds::review::SelfSubjectReviews>::new(),
    &Adapter::<kinds::review::SelfSubjectRulesReviews>::new(),
    &Adapter::<kinds::review::SubjectAccessReviews>::new(),
    &Adapter::<kinds::review::TokenReviews>::new(),
    &Adapter::<kinds::role::Roles>::new(),
    &Adapter::<kinds::role_binding::RoleBindings>::new(),
    &Adapter::<kinds::secret::Secrets>::new(),
    &Adapter::<kinds::service::Services>::new(),
    &Adapter::<kinds::service_account::ServiceAccounts>::new(),
    &Adapter::<kinds::service_cidr::ServiceCidrs>::new(),
    &Adapter::<kinds::stateful_set::StatefulSets>::new(),
];

/// The kinds, by what a request names them by.
#[derive(Clone, Copy)]
pub struct Registry(&'static [&'static dyn Kind]);

/// The kinds that are served.
pub fn registry() -> Registry {
    Registry(KINDS)
}

impl Registry {
    /// All of them.
    pub fn all(self) -> impl Iterator<Item = &'static dyn Kind> {
        self.0.iter().copied()
    }

    /// By the parts of a path: `("apps", "v1", "deployments")`; the core group is empty.
    pub fn by_plural(self, group: &str, version: &str, plural: &str) -> Option<&'static dyn Kind> {
        self.all().find(|kind| {
            let info = kind.info();
            info.plural == plural && info.group == group && info.version == version
        })
    }

    /// By an object's own words: `("apps/v1", "Deployment")`.
    pub fn by_kind(self, api_version: &str, kind: &str) -> Option<&'static dyn Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.all().find(|candidate| {
            let info = candidate.info();
            info.kind == kind && info.group == group && info.version == version
        })
    }
}
