//! DaemonSets, StatefulSets and ReplicationControllers.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod, ReplicationController};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::rig::{Cluster, config, eventually, merge};

fn workload(name: &str, more: Value) -> Value {
    let mut object = json!({
        "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "svcd.io/echo" }] },
            },
        },
    });
    merge(&mut object, &more);
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

async fn pods(cluster: &Cluster, app: &str) -> Vec<Pod> {
    let params = ListParams::default().labels(&format!("app={app}"));
    cluster.api::<Pod>().list(&params).await.unwrap().items
}

/// The nodes of the pods that stay.
async fn nodes(cluster: &Cluster, app: &str) -> Vec<String> {
    let all = pods(cluster, app).await;
    let living = all.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut nodes: Vec<String> = living.filter_map(|pod| pod.spec.unwrap().node_name).collect();
    nodes.sort();
    nodes
}

async fn on(cluster: &Cluster, app: &str, expected: &[&str]) {
    eventually(&format!("{app} is on {expected:?}"), || async {
        (nodes(cluster, app).await == expected).then_some(())
    })
    .await;
}

fn image(image: &str) -> Patch<Value> {
    Patch::Strategic(
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "image": image }] } } } }),
    )
}

fn images(pods: &[Pod]) -> Vec<String> {
    let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    pods.iter().map(image).collect()
}

async fn revisions(cluster: &Cluster) -> Vec<i64> {
    let all = cluster.api::<ControllerRevision>().list(&ListParams::default()).await.unwrap().items;
    let mut numbers: Vec<i64> = all.into_iter().map(|r| r.revision.unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_follows_the_nodes() {
    let cluster = with_nodes().await;
    cluster.create::<DaemonSet>("default", workload("all", json!({}))).await;
    on(&cluster, "all", &["node1", "node2", "node3"]).await;
    let picky = json!({ "spec": { "template": { "spec": { "nodeSelector": { "disk": "ssd" } } } } });
    cluster.create::<DaemonSet>("default", workload("picky", picky)).await;
    cluster.node("node4", json!({ "metadata": { "labels": { "disk": "ssd" } } })).await;
    on(&cluster, "all", &["node1", "node2", "node3", "node4"]).await;
    on(&cluster, "picky", &["node4"]).await;

    let api = cluster.all::<Node>();
    let label = |value: Value| Patch::Merge(json!({ "metadata": { "labels": { "disk": value } } }));
    api.patch("node1", &PatchParams::default(), &label(json!("ssd"))).await.unwrap();
    on(&cluster, "picky", &["node1", "node4"]).await;
    api.patch("node4", &PatchParams::default(), &label(Value::Null)).await.unwrap();
    on(&cluster, "picky", &["node1"]).await;
    let sets = cluster.api::<DaemonSet>();
    eventually("the status says so", || async {
        let status = sets.get("picky").await.unwrap().status.unwrap();
        (status.number_available == Some(1) && status.desired_number_scheduled == 1).then_some(())
    })
    .await;

    let taint =
        json!({ "spec": { "taints": [{ "key": "mine", "effect": "NoExecute" }], "unschedulable": true } });
    api.patch("node2", &PatchParams::default(), &Patch::Merge(taint)).await.unwrap();
    on(&cluster, "all", &["node1", "node3", "node4"]).await;
    let untaint = json!({ "spec": { "taints": null } });
    api.patch("node2", &PatchParams::default(), &Patch::Merge(untaint)).await.unwrap();
    on(&cluster, "all", &["node1", "node2", "node3", "node4"]).await;
    api.delete("node3", &DeleteParams::default()).await.unwrap();
    on(&cluster, "all", &["node1", "node2", "node4"]).await;

    sets.delete("all", &DeleteParams::background()).await.unwrap();
    on(&cluster, "all", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_rolls_and_goes_back() {
    let cluster = with_nodes().await;
    cluster.create::<DaemonSet>("default", workload("all", json!({}))).await;
    on(&cluster, "all", &["node1", "node2", "node3"]).await;
    let api = cluster.api::<DaemonSet>();
    let rolled = |image: &'static str| {
        let cluster = &cluster;
        eventually("every pod has the image", move || async move {
            let set = cluster.api::<DaemonSet>().get("all").await.unwrap();
            let status = set.status.unwrap();
            let done = status.observed_generation == set.metadata.generation
                && status.updated_number_scheduled == Some(3)
                && status.number_available == Some(3);
            (done && images(&pods(cluster, "all").await) == [image; 3]).then_some(())
        })
    };
    rolled("svcd.io/echo").await;
    assert_eq!(revisions(&cluster).await, [1]);
    api.patch("all", &PatchParams::default(), &image("svcd.io/host")).await.unwrap();
    rolled("svcd.io/host").await;
    assert_eq!(revisions(&cluster).await, [1, 2]);
    // What `kubectl rollout undo` does.
    let all = cluster.api::<ControllerRevision>().list(&ListParams::default()).await.unwrap().items;
    let first = all.into_iter().find(|r| r.revision == Some(1)).unwrap();
    api.patch("all", &PatchParams::default(), &Patch::Strategic(first.data.0)).await.unwrap();
    rolled("svcd.io/echo").await;
    assert_eq!(revisions(&cluster).await, [2, 3]);

    let surge =
        json!({ "spec": { "updateStrategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } } } });
    api.patch("all", &PatchParams::default(), &Patch::Merge(surge)).await.unwrap();
    api.patch("all", &PatchParams::default(), &image("svcd.io/host")).await.unwrap();
    rolled("svcd.io/host").await;

    let manual = json!({ "spec": { "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } } });
    api.patch("all", &PatchParams::default(), &Patch::Merge(manual)).await.unwrap();
    api.patch("all", &PatchParams::default(), &image("svcd.io/echo")).await.unwrap();
    eventually("the change is seen", || async {
        let set = api.get("all").await.unwrap();
        (set.status.unwrap().observed_generation == set.metadata.generation).then_some(())
    })
    .await;
    let before = pods(&cluster, "all").await;
    assert_eq!(images(&before), ["svcd.io/host"; 3]);
    cluster.api::<Pod>().delete(&before[0].name_any(), &DeleteParams::default()).await.unwrap();
    eventually("one pod is new", || async {
        let now = pods(&cluster, "all").await;
        (now.len() == 3 && images(&now).iter().filter(|i| *i == "svcd.io/echo").count() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_keeps_names_and_order() {
    let cluster = with_nodes().await;
    let more = json!({ "spec": { "replicas": 3, "serviceName": "db" } });
    cluster.create::<StatefulSet>("default", workload("db", more)).await;
    let api = cluster.api::<StatefulSet>();
    let settled = |replicas: i32| {
        let api = api.clone();
        eventually("the set is settled", move || {
            let api = api.clone();
            async move {
                let set = api.get("db").await.unwrap();
                let status = set.status.unwrap();
                let done = status.observed_generation == set.metadata.generation
                    && status.replicas == replicas
                    && status.available_replicas == Some(replicas)
                    && status.update_revision == status.current_revision;
                done.then_some(())
            }
        })
    };
    settled(3).await;
    let all: BTreeMap<String, Pod> =
        pods(&cluster, "db").await.into_iter().map(|p| (p.name_any(), p)).collect();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["db-0", "db-1", "db-2"]);
    let versions: Vec<_> = all.values().map(|pod| pod.metadata.creation_timestamp.clone()).collect();
    assert!(versions.is_sorted(), "one was made after the other");
    let spec = all["db-1"].spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-1"), Some("db")));
    assert_eq!(all["db-1"].labels()["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(all["db-1"].labels()["statefulset.kubernetes.io/pod-name"], "db-1");

    let partition = json!({ "spec": { "updateStrategy": { "rollingUpdate": { "partition": 2 } } } });
    api.patch("db", &PatchParams::default(), &Patch::Merge(partition)).await.unwrap();
    api.patch("db", &PatchParams::default(), &image("svcd.io/host")).await.unwrap();
    eventually("the last one is new", || async {
        let status = api.get("db").await.unwrap().status.unwrap();
        let found = images(&pods(&cluster, "db").await);
        (status.updated_replicas == Some(1)
            && status.available_replicas == Some(3)
            && found == ["svcd.io/echo", "svcd.io/echo", "svcd.io/host"])
        .then_some(())
    })
    .await;
    let whole = json!({ "spec": { "updateStrategy": { "rollingUpdate": { "partition": 0 } } } });
    api.patch("db", &PatchParams::default(), &Patch::Merge(whole)).await.unwrap();
    settled(3).await;
    assert_eq!(images(&pods(&cluster, "db").await), ["svcd.io/host"; 3]);
    assert_eq!(revisions(&cluster).await, [1, 2]);

    let scale = Patch::Merge(json!({ "spec": { "replicas": 1 } }));
    api.patch_scale("db", &PatchParams::default(), &scale).await.unwrap();
    settled(1).await;
    assert_eq!(pods(&cluster, "db").await[0].name_any(), "db-0");
    let uid = pods(&cluster, "db").await[0].uid();
    cluster.api::<Pod>().delete("db-0", &DeleteParams::default()).await.unwrap();
    eventually("it comes back under its name", || async {
        let pod = cluster.api::<Pod>().get_opt("db-0").await.unwrap()?;
        (pod.uid() != uid).then_some(())
    })
    .await;
    api.delete("db", &DeleteParams::background()).await.unwrap();
    eventually("pods and revisions go with it", || async {
        (pods(&cluster, "db").await.is_empty() && revisions(&cluster).await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_is_a_replica_set_by_another_name() {
    let cluster = with_nodes().await;
    let object = json!({
        "metadata": { "name": "rc" },
        "spec": { "replicas": 2, "template": workload("rc", json!({}))["spec"]["template"] },
    });
    cluster.create::<ReplicationController>("default", object).await;
    let api = cluster.api::<ReplicationController>();
    let settled = |replicas: i32| {
        let (api, cluster) = (api.clone(), &cluster);
        eventually("as many as are asked for", move || {
            let api = api.clone();
            async move {
                let status = api.get("rc").await.unwrap().status.unwrap();
                let count = pods(cluster, "rc").await.len();
                let done = status.replicas == replicas && status.available_replicas.unwrap_or(0) == replicas;
                (done && i32::try_from(count) == Ok(replicas)).then_some(())
            }
        })
    };
    settled(2).await;
    let owner = pods(&cluster, "rc").await[0].owner_references()[0].clone();
    assert_eq!((owner.kind.as_str(), owner.api_version.as_str()), ("ReplicationController", "v1"));
    let scale = Patch::Merge(json!({ "spec": { "replicas": 4 } }));
    api.patch_scale("rc", &PatchParams::default(), &scale).await.unwrap();
    settled(4).await;
    api.delete("rc", &DeleteParams::background()).await.unwrap();
    eventually("its pods go with it", || async { pods(&cluster, "rc").await.is_empty().then_some(()) }).await;
}
