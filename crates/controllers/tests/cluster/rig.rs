//! A control plane in this process: store, API server and controllers, with something that plays the nodes' part.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use svcd_apiserver::{ApiServer, User};
use svcd_controllers::Config;
use svcd_pki::Ca;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long anything may take on a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) ca: Arc<Ca>,
    server: Arc<ApiServer>,
    _stop: DropGuard,
    _directory: tempfile::TempDir,
}

pub(crate) fn config() -> Config {
    let advertise = SocketAddr::from(([192, 168, 56, 11], 6443));
    // Its files are needed once.
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(directory.path()).unwrap();
    Config::new(
        vec!["10.96.0.0/12".parse().unwrap()],
        vec!["10.244.0.0/16".parse().unwrap()],
        [10, 96, 0, 10].into(),
        advertise,
        Arc::new(ca),
    )
}

impl Cluster {
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_on(config.service_ranges.clone(), config).await
    }

    /// Controllers beside a server that is told of these ranges of service addresses.
    pub(crate) async fn start_on(service_cidrs: Vec<ipnet::IpNet>, config: Config) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = svcd_store::Options::default();
        let store = svcd_store::Embedded::open(directory.path().join("store"), options).unwrap();
        let ca = Arc::clone(&config.ca);
        let api = svcd_apiserver::Config { service_cidrs, ..svcd_apiserver::Config::default() };
        let server = ApiServer::new(Arc::new(store), Arc::clone(&ca), api);
        server.bootstrap().await.unwrap();
        let client = Client::new(server.in_process(User::master("system:svcd")), "default");
        let stop = CancellationToken::new();
        let running = svcd_controllers::run(client.clone(), config, stop.clone());
        tokio::spawn(async move { running.await.expect("the controllers run until they are stopped") });
        Self { client, server, ca, _stop: stop.drop_guard(), _directory: directory }
    }

    /// The server as somebody sees it.
    pub(crate) fn client_of(&self, user: User) -> Client {
        Client::new(self.server.in_process(user), "default")
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        self.api_in("default")
    }

    pub(crate) fn api_in<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn all<K: kube::Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Creates what the JSON says.
    pub(crate) async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api_in(namespace).create(&PostParams::default(), &object).await.unwrap()
    }

    pub(crate) async fn namespace(&self, name: &str) {
        let object = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        self.all::<Namespace>().create(&PostParams::default(), &object).await.unwrap();
    }

    /// A node that is ready and sends heartbeats when it is told to.
    pub(crate) async fn node(&self, name: &str, more: Value) {
        let mut object =
            json!({ "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } } });
        merge(&mut object, &more);
        let object: Node = serde_json::from_value(object).unwrap();
        self.all::<Node>().create(&PostParams::default(), &object).await.unwrap();
        let ready = json!({ "status": { "conditions": [
            { "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "up" },
        ] } });
        self.all::<Node>().patch_status(name, &PatchParams::default(), &Patch::Merge(ready)).await.unwrap();
    }

    pub(crate) async fn heartbeat(&self, node: &str) {
        let api: Api<Lease> = self.api_in("kube-node-lease");
        let now = jiff::Timestamp::now();
        let spec =
            json!({ "holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": format!("{now:.6}") });
        if api.get_opt(node).await.unwrap().is_none() {
            let lease =
                serde_json::from_value(json!({ "metadata": { "name": node }, "spec": spec })).unwrap();
            api.create(&PostParams::default(), &lease).await.unwrap();
        } else {
            let patch = Patch::Merge(json!({ "spec": spec }));
            api.patch(node, &PatchParams::default(), &patch).await.unwrap();
        }
    }

    /// Plays the agents: pods that have a node run and are ready at once, deleted ones end at once.
    pub(crate) fn agents(&self) -> tokio::task::AbortHandle {
        let api: Api<Pod> = self.all();
        let client = self.client.clone();
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
            let mut address = 1_u16;
            while let Some(event) = events.next().await {
                let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
                let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
                let name = pod.name_any();
                if pod.metadata.deletion_timestamp.is_some() {
                    let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
                } else if pod.spec.as_ref().unwrap().node_name.is_some() && ip(&pod).is_none() {
                    address += 1;
                    let ip = format!("10.244.{}.{}", address >> 8, address & 255);
                    let status = running(&ip, true);
                    let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
                }
            }
        });
        task.abort_handle()
    }

    pub(crate) async fn set_status(&self, pod: &str, status: Value) {
        let api: Api<Pod> = self.api();
        api.patch_status(pod, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
}

pub(crate) fn ip(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

pub(crate) fn running(ip: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    let now = jiff::Timestamp::now();
    let now = format!("{now:.0}");
    json!({ "status": {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{ "ip": ip }],
        "conditions": [
            { "type": "PodScheduled", "status": "True", "lastTransitionTime": now },
            { "type": "ContainersReady", "status": ready, "lastTransitionTime": now },
            { "type": "Ready", "status": ready, "lastTransitionTime": now },
        ],
    } })
}

pub(crate) fn pod(name: &str, labels: Value, more: Value) -> Value {
    let mut pod = json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "containers": [{ "name": "c", "image": "svcd.io/echo" }] },
    });
    merge(&mut pod, &more);
    pod
}

/// RFC 7396.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        merge(&mut target[key], value);
    }
}

/// Asks again until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
