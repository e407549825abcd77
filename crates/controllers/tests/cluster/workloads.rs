//! Deployments, ReplicaSets and the scheduler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event as Note, Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};

use crate::rig::{Cluster, config, eventually, ip, pod};

fn deployment(name: &str, replicas: i32, more: Value) -> Value {
    let mut object = json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "svcd.io/echo" }] },
            },
        },
    });
    crate::rig::merge(&mut object, &more);
    object
}

async fn with_nodes() -> Cluster {
    let cluster = Cluster::start(config()).await;
    for node in ["node1", "node2", "node3"] {
        cluster.node(node, json!({})).await;
    }
    cluster.agents();
    cluster
}

async fn rolled_out(cluster: &Cluster, name: &str, replicas: i32) -> Deployment {
    let api = cluster.api::<Deployment>();
    eventually(&format!("{name} has {replicas} available replicas of its template"), || async {
        let deployment = api.get(name).await.unwrap();
        let status = deployment.status.clone()?;
        let done = status.observed_generation == deployment.metadata.generation
            && status.updated_replicas.unwrap_or_default() == replicas
            && status.replicas.unwrap_or_default() == replicas
            && status.available_replicas.unwrap_or_default() == replicas;
        done.then_some(deployment)
    })
    .await
}

fn template(image: &str) -> Patch<Value> {
    Patch::Strategic(
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "image": image }] } } } }),
    )
}

async fn pods(cluster: &Cluster, app: &str) -> Vec<Pod> {
    let params = ListParams::default().labels(&format!("app={app}"));
    cluster.api::<Pod>().list(&params).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_stays_within_its_bounds() {
    let cluster = with_nodes().await;
    let strategy =
        json!({ "spec": { "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 1 } } } });
    cluster.create::<Deployment>("default", deployment("web", 4, strategy)).await;
    let first = rolled_out(&cluster, "web", 4).await;
    assert_eq!(first.annotations()["deployment.kubernetes.io/revision"], "1");
    // Spread over the nodes as far as can be.
    let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
    for pod in pods(&cluster, "web").await {
        *per_node.entry(pod.spec.unwrap().node_name.unwrap()).or_default() += 1;
    }
    assert_eq!(per_node.values().copied().max(), Some(2), "{per_node:?}");
    assert_eq!(per_node.len(), 3);

    let watching = bounds(cluster.api());
    let api = cluster.api::<Deployment>();
    api.patch("web", &PatchParams::default(), &template("svcd.io/host")).await.unwrap();
    let second = rolled_out(&cluster, "web", 4).await;
    assert_eq!(second.annotations()["deployment.kubernetes.io/revision"], "2");
    let (most, least) = watching.stop();
    assert!(most <= 5, "{most} pods at a time");
    assert!(least >= 3, "only {least} ready pods at a time");

    // Back to the first template: its set is used again.
    api.patch("web", &PatchParams::default(), &template("svcd.io/echo")).await.unwrap();
    let third = rolled_out(&cluster, "web", 4).await;
    assert_eq!(third.annotations()["deployment.kubernetes.io/revision"], "3");
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 2);
    let conditions = third.status.unwrap().conditions.unwrap();
    let progressing = conditions.iter().find(|c| c.type_.as_deref() == Some("Progressing")).unwrap();
    assert_eq!(progressing.reason.as_deref(), Some("NewReplicaSetAvailable"));
}

/// Watches how many pods there are, and how many ready ones, at any time.
struct Bounds {
    most: Arc<AtomicUsize>,
    least: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Bounds {
    fn stop(self) -> (usize, usize) {
        self.task.abort();
        (self.most.load(Ordering::SeqCst), self.least.load(Ordering::SeqCst))
    }
}

fn bounds(api: Api<Pod>) -> Bounds {
    let (most, least) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let (highest, lowest) = (Arc::clone(&most), Arc::clone(&least));
    let task = tokio::spawn(async move {
        let mut held: BTreeMap<String, bool> = BTreeMap::new();
        let mut complete = false;
        let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
        while let Some(Ok(event)) = events.next().await {
            match event {
                Event::Apply(pod) | Event::InitApply(pod) if pod.metadata.deletion_timestamp.is_none() => {
                    held.insert(pod.name_any(), ip(&pod).is_some());
                }
                Event::Apply(pod) | Event::Delete(pod) | Event::InitApply(pod) => {
                    held.remove(&pod.name_any());
                }
                Event::Init => held.clear(),
                Event::InitDone => complete = true,
            }
            if complete {
                highest.fetch_max(held.len(), Ordering::SeqCst);
                lowest.fetch_min(held.values().filter(|ready| **ready).count(), Ordering::SeqCst);
            }
        }
    });
    Bounds { most, least, task }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_makes_and_deletes_exactly_as_many_pods_as_asked() {
    let cluster = with_nodes().await;
    cluster.create::<Deployment>("default", deployment("web", 2, json!({}))).await;
    rolled_out(&cluster, "web", 2).await;
    let api = cluster.api::<Deployment>();
    for replicas in [40, 3, 0, 5] {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        api.patch("web", &PatchParams::default(), &patch).await.unwrap();
        rolled_out(&cluster, "web", replicas).await;
        let wanted = usize::try_from(replicas).unwrap();
        eventually("no pod more than asked", || async {
            (pods(&cluster, "web").await.len() == wanted).then_some(())
        })
        .await;
    }
    // Every pod was told of once: 2, then 38 more, then 5.
    let notes = cluster.api::<Note>();
    eventually("45 pods were created", || async {
        let all = notes.list(&ListParams::default()).await.unwrap().items;
        let created = all.iter().filter(|note| note.reason.as_deref() == Some("SuccessfulCreate")).count();
        assert!(created <= 45, "{created} pods were created");
        (created == 45).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreate_pause_and_resume() {
    let cluster = with_nodes().await;
    let recreate = json!({ "spec": { "strategy": { "type": "Recreate", "rollingUpdate": null } } });
    cluster.create::<Deployment>("default", deployment("one", 3, recreate)).await;
    rolled_out(&cluster, "one", 3).await;
    let api = cluster.api::<Deployment>();
    let watching = bounds(cluster.api());
    api.patch("one", &PatchParams::default(), &template("svcd.io/host")).await.unwrap();
    rolled_out(&cluster, "one", 3).await;
    let (most, least) = watching.stop();
    assert_eq!((most, least), (3, 0), "the old go before the new come");

    let paused = Patch::Merge(json!({ "spec": { "paused": true } }));
    api.patch("one", &PatchParams::default(), &paused).await.unwrap();
    api.patch("one", &PatchParams::default(), &template("svcd.io/third")).await.unwrap();
    eventually("the pause is reported", || async {
        let status = api.get("one").await.unwrap().status?;
        let conditions = status.conditions.unwrap_or_default();
        conditions.iter().any(|c| c.reason.as_deref() == Some("DeploymentPaused")).then_some(())
    })
    .await;
    let sets = cluster.api::<ReplicaSet>();
    assert_eq!(sets.list(&ListParams::default()).await.unwrap().items.len(), 2);
    let resumed = Patch::Merge(json!({ "spec": { "paused": null } }));
    api.patch("one", &PatchParams::default(), &resumed).await.unwrap();
    rolled_out(&cluster, "one", 3).await;
    assert_eq!(sets.list(&ListParams::default()).await.unwrap().items.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_set_adopts_and_releases() {
    let cluster = with_nodes().await;
    cluster.create::<Pod>("default", pod("stray", json!({ "app": "rs" }), json!({}))).await;
    let set = json!({
        "metadata": { "name": "rs" },
        "spec": {
            "replicas": 2,
            "selector": { "matchExpressions": [{ "key": "app", "operator": "In", "values": ["rs"] }] },
            "template": {
                "metadata": { "labels": { "app": "rs" } },
                "spec": { "containers": [{ "name": "c", "image": "svcd.io/echo" }] },
            },
        },
    });
    cluster.create::<ReplicaSet>("default", set).await;
    let owned = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.kind == "ReplicaSet");
    eventually("one pod is adopted and one made", || async {
        let all = pods(&cluster, "rs").await;
        (all.len() == 2 && all.iter().all(owned)).then_some(())
    })
    .await;
    let relabel = Patch::Merge(json!({ "metadata": { "labels": { "app": "other" } } }));
    cluster.api::<Pod>().patch("stray", &PatchParams::default(), &relabel).await.unwrap();
    eventually("it is released and replaced", || async {
        let stray = cluster.api::<Pod>().get("stray").await.unwrap();
        (!owned(&stray) && pods(&cluster, "rs").await.len() == 2).then_some(())
    })
    .await;
    cluster.api::<ReplicaSet>().delete("rs", &DeleteParams::background()).await.unwrap();
    eventually("its pods go with it, the released one stays", || async {
        let gone = pods(&cluster, "rs").await.is_empty();
        (gone && cluster.api::<Pod>().get_opt("stray").await.unwrap().is_some()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fits_nowhere_says_why_and_is_placed_later() {
    let cluster = Cluster::start(config()).await;
    let taint =
        json!({ "spec": { "taints": [{ "key": "dedicated", "value": "db", "effect": "NoSchedule" }] } });
    cluster.node("node1", taint).await;
    cluster.node("node2", json!({})).await;
    let picky = json!({ "spec": { "nodeSelector": { "disk": "ssd" } } });
    cluster.create::<Pod>("default", pod("picky", json!({}), picky)).await;
    let wanted = "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
                  1 node(s) had untolerated taint {dedicated: db}.";
    let pods = cluster.api::<Pod>();
    eventually("it says why", || async {
        let status = pods.get("picky").await.unwrap().status?;
        let conditions = status.conditions.unwrap_or_default();
        let found = conditions.into_iter().find(|c| c.type_ == "PodScheduled")?;
        assert_eq!(found.status, "False");
        (found.message.as_deref() == Some(wanted) && found.reason.as_deref() == Some("Unschedulable"))
            .then_some(())
    })
    .await;
    let label = Patch::Merge(json!({ "metadata": { "labels": { "disk": "ssd" } } }));
    cluster.all::<Node>().patch("node2", &PatchParams::default(), &label).await.unwrap();
    eventually("it is placed", || async {
        let spec = pods.get("picky").await.unwrap().spec?;
        (spec.node_name.as_deref() == Some("node2")).then_some(())
    })
    .await;
}
