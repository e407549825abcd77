//! The caches that all controllers share, and how they are found in them.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, ReplicationController, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::runtime::watcher;
use svcd_api::Wire;
use svcd_client::Objects;

use super::events::Recorder;
use super::selector::Labels;
use super::store::{Store, index_of};
use super::{informer, meta, pods};
use crate::Config;

/// The label that says whose slice it is.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What every controller has.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) events: Recorder,
    pub(crate) namespaces: Arc<Store<Namespace>>,
    pub(crate) nodes: Arc<Store<Node>>,
    pub(crate) leases: Arc<Store<Lease>>,
    pub(crate) pods: Arc<Store<Pod>>,
    pub(crate) services: Arc<Store<Service>>,
    pub(crate) endpoints: Arc<Store<Endpoints>>,
    pub(crate) slices: Arc<Store<EndpointSlice>>,
    pub(crate) replica_sets: Arc<Store<ReplicaSet>>,
    pub(crate) deployments: Arc<Store<Deployment>>,
    pub(crate) daemon_sets: Arc<Store<DaemonSet>>,
    pub(crate) stateful_sets: Arc<Store<StatefulSet>>,
    pub(crate) revisions: Arc<Store<ControllerRevision>>,
    pub(crate) replication_controllers: Arc<Store<ReplicationController>>,
    pub(crate) budgets: Arc<Store<PodDisruptionBudget>>,
    pub(crate) service_ranges: Arc<Store<ServiceCIDR>>,
    pub(crate) service_addresses: Arc<Store<IPAddress>>,
}

/// A task that runs until it is dropped, with its name.
pub(crate) type Task = (&'static str, BoxFuture<'static, ()>);

impl World {
    pub(crate) fn new(client: Client, config: Config, events: Recorder) -> Arc<Self> {
        Arc::new(Self {
            client,
            config,
            events,
            namespaces: Store::plain(),
            nodes: Store::plain(),
            leases: Store::plain(),
            pods: Store::new(pod_places),
            services: Store::new(service_places),
            endpoints: Store::plain(),
            slices: Store::new(slice_places),
            replica_sets: Store::new(|set| owner_places(&set.metadata)),
            deployments: Store::plain(),
            daemon_sets: Store::plain(),
            stateful_sets: Store::plain(),
            revisions: Store::new(|revision| owner_places(&revision.metadata)),
            replication_controllers: Store::plain(),
            budgets: Store::plain(),
            service_ranges: Store::plain(),
            service_addresses: Store::plain(),
        })
    }

    /// The watches, to be run once every controller listens.
    pub(crate) fn informers(&self) -> Vec<Task> {
        vec![
            ("namespace watch", self.informer(&self.namespaces)),
            ("node watch", self.informer(&self.nodes)),
            ("lease watch", self.informer(&self.leases)),
            ("pod watch", self.informer(&self.pods)),
            ("service watch", self.informer(&self.services)),
            ("endpoints watch", self.informer(&self.endpoints)),
            ("endpointslice watch", self.informer(&self.slices)),
            ("replicaset watch", self.informer(&self.replica_sets)),
            ("deployment watch", self.informer(&self.deployments)),
            ("daemonset watch", self.informer(&self.daemon_sets)),
            ("statefulset watch", self.informer(&self.stateful_sets)),
            ("controllerrevision watch", self.informer(&self.revisions)),
            ("replicationcontroller watch", self.informer(&self.replication_controllers)),
            ("poddisruptionbudget watch", self.informer(&self.budgets)),
            ("servicecidr watch", self.informer(&self.service_ranges)),
            ("ipaddress watch", self.informer(&self.service_addresses)),
        ]
    }

    fn informer<K: Wire>(&self, store: &Arc<Store<K>>) -> BoxFuture<'static, ()> {
        informer::run(Objects::all(self.client.clone()), watcher::Config::default(), Arc::clone(store))
            .boxed()
    }

    /// Waits until every cache has been filled once.
    pub(crate) async fn ready(&self) {
        let _ = tokio::join!(
            self.namespaces.ready(),
            self.nodes.ready(),
            self.leases.ready(),
            self.pods.ready(),
            self.services.ready(),
            self.endpoints.ready(),
            self.slices.ready(),
            self.replica_sets.ready(),
            self.deployments.ready(),
            self.daemon_sets.ready(),
            self.stateful_sets.ready(),
            self.revisions.ready(),
            self.replication_controllers.ready(),
            self.budgets.ready(),
            self.service_ranges.ready(),
            self.service_addresses.ready(),
        );
    }

    /// Runs a loop once the caches are filled.
    pub(crate) fn when_ready<F>(self: &Arc<Self>, work: F) -> BoxFuture<'static, ()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let world = Arc::clone(self);
        async move {
            world.ready().await;
            work.await;
        }
        .boxed()
    }

    pub(crate) fn namespaced<K>(&self, namespace: &str) -> Objects<K>
    where
        K: Wire + k8s_openapi::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Objects::namespaced(self.client.clone(), namespace)
    }

    /// The pods of a namespace that a Service's selector selects.
    pub(crate) fn selected_pods(&self, namespace: &str, selector: &Labels) -> Vec<Arc<Pod>> {
        let Some((key, value)) = selector.first_key_value() else { return Vec::new() };
        let mut found = self.pods.indexed(index_of(&["label", namespace, key, value]));
        found.retain(|pod| {
            meta::namespace(&pod.metadata) == namespace
                && super::selector::is_subset(selector, pod.metadata.labels.as_ref())
        });
        found
    }

    /// The Services of a namespace whose selector selects these labels.
    pub(crate) fn selecting_services(&self, namespace: &str, labels: Option<&Labels>) -> Vec<Arc<Service>> {
        let mut found = Vec::new();
        for (key, value) in labels.into_iter().flatten() {
            found.extend(self.services.indexed(index_of(&["selects", namespace, key, value])));
        }
        found.retain(|service| {
            meta::namespace(&service.metadata) == namespace
                && selector_of(service).is_some_and(|selector| super::selector::is_subset(selector, labels))
        });
        found
    }

    pub(crate) fn pods_on(&self, node: &str) -> Vec<Arc<Pod>> {
        let mut found = self.pods.indexed(index_of(&["node", node]));
        found.retain(|pod| pods::node(pod) == Some(node));
        found
    }

    pub(crate) fn pods_of(&self, owner_uid: &str) -> Vec<Arc<Pod>> {
        let mut found = self.pods.indexed(index_of(&["owner", owner_uid]));
        found.retain(|pod| meta::controller(&pod.metadata).is_some_and(|owner| owner.uid == owner_uid));
        found
    }

    pub(crate) fn slices_of(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        let mut found = self.slices.indexed(index_of(&["service", namespace, service]));
        found.retain(|slice| {
            meta::namespace(&slice.metadata) == namespace
                && meta::label(&slice.metadata, SERVICE_NAME) == Some(service)
        });
        found
    }
}

/// The selector of a Service, unless it has none, or an empty one.
pub(crate) fn selector_of(service: &Service) -> Option<&Labels> {
    service.spec.as_ref()?.selector.as_ref().filter(|selector| !selector.is_empty())
}

/// The addresses of a Service.
pub(crate) fn cluster_ips(service: &Service) -> impl Iterator<Item = IpAddr> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"));
    let ips = spec.and_then(|spec| spec.cluster_ips.as_ref()).into_iter().flatten();
    ips.filter_map(|ip| ip.parse().ok())
}

fn owner_places(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Vec<u64> {
    meta::controller(meta).map(|owner| index_of(&["owner", &owner.uid])).into_iter().collect()
}

fn pod_places(pod: &Pod) -> Vec<u64> {
    let namespace = meta::namespace(&pod.metadata);
    let labels = pod.metadata.labels.iter().flatten().map(|(k, v)| index_of(&["label", namespace, k, v]));
    let node = pods::node(pod).map(|node| index_of(&["node", node]));
    labels.chain(node).chain(owner_places(&pod.metadata)).collect()
}

fn service_places(service: &Service) -> Vec<u64> {
    let first = selector_of(service).and_then(|selector| selector.first_key_value());
    first.map(|(k, v)| index_of(&["selects", meta::namespace(&service.metadata), k, v])).into_iter().collect()
}

fn slice_places(slice: &EndpointSlice) -> Vec<u64> {
    let service = meta::label(&slice.metadata, SERVICE_NAME);
    service.map(|name| index_of(&["service", meta::namespace(&slice.metadata), name])).into_iter().collect()
}
