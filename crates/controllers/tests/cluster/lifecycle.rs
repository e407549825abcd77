//! What goes when something else goes: owners, namespaces, tokens.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::rig::{Cluster, config, eventually, pod};

fn map(name: &str, owner: Option<(&ConfigMap, bool)>) -> Value {
    let owners: Vec<Value> = owner
        .into_iter()
        .map(|(owner, blocks)| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(), "uid": owner.uid().unwrap(),
                "blockOwnerDeletion": blocks,
            })
        })
        .collect();
    json!({ "metadata": { "name": name, "ownerReferences": owners } })
}

async fn exists(cluster: &Cluster, name: &str) -> bool {
    cluster.api::<ConfigMap>().get_opt(name).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_go_with_their_owner_in_the_background() {
    let cluster = Cluster::start(config()).await;
    let owner: ConfigMap = cluster.create("default", map("owner", None)).await;
    let child: ConfigMap = cluster.create("default", map("child", Some((&owner, false)))).await;
    cluster.create::<ConfigMap>("default", map("grandchild", Some((&child, false)))).await;
    cluster.create::<ConfigMap>("default", map("bystander", None)).await;
    cluster.api::<ConfigMap>().delete("owner", &DeleteParams::background()).await.unwrap();
    eventually("the family is gone", || async {
        (!exists(&cluster, "child").await && !exists(&cluster, "grandchild").await).then_some(())
    })
    .await;
    assert!(exists(&cluster, "bystander").await);
    // An owner that never was.
    let mut ghost = owner.clone();
    ghost.metadata.uid = Some("11111111-2222-3333-4444-555555555555".to_owned());
    cluster.create::<ConfigMap>("default", map("orphaned", Some((&ghost, false)))).await;
    eventually("it goes, too", || async { (!exists(&cluster, "orphaned").await).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_in_the_foreground_waits_for_its_dependents() {
    let cluster = Cluster::start(config()).await;
    let owner: ConfigMap = cluster.create("default", map("owner", None)).await;
    let mut child = map("child", Some((&owner, true)));
    child["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.create::<ConfigMap>("default", child).await;
    let api = cluster.api::<ConfigMap>();
    api.delete("owner", &DeleteParams::foreground()).await.unwrap();
    eventually("the dependent is being deleted", || async {
        api.get("child").await.unwrap().metadata.deletion_timestamp
    })
    .await;
    assert!(exists(&cluster, "owner").await);
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    api.patch("child", &PatchParams::default(), &free).await.unwrap();
    eventually("both are gone", || async {
        (!exists(&cluster, "owner").await && !exists(&cluster, "child").await).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_forget_their_owner_and_stay() {
    let cluster = Cluster::start(config()).await;
    let owner: ConfigMap = cluster.create("default", map("owner", None)).await;
    cluster.create::<ConfigMap>("default", map("child", Some((&owner, false)))).await;
    let api = cluster.api::<ConfigMap>();
    api.delete("owner", &DeleteParams::orphan()).await.unwrap();
    eventually("the owner is gone", || async { (!exists(&cluster, "owner").await).then_some(()) }).await;
    let child = api.get("child").await.unwrap();
    assert!(child.owner_references().is_empty() && child.metadata.deletion_timestamp.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_deployment_takes_everything_with_it() {
    let cluster = Cluster::start(config()).await;
    cluster.node("node1", json!({})).await;
    cluster.agents();
    let deployment = json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "svcd.io/echo" }] },
            },
        },
    });
    for params in [DeleteParams::background(), DeleteParams::foreground()] {
        cluster.create::<Deployment>("default", deployment.clone()).await;
        let pods = cluster.api::<Pod>();
        let count = || async { pods.list(&ListParams::default()).await.unwrap().items.len() };
        eventually("three pods", || async { (count().await == 3).then_some(()) }).await;
        cluster.api::<Deployment>().delete("web", &params).await.unwrap();
        eventually("nothing is left", || async {
            let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
            let gone = cluster.api::<Deployment>().get_opt("web").await.unwrap().is_none();
            (gone && sets.is_empty() && count().await == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_all_it_holds() {
    let cluster = Cluster::start(config()).await;
    cluster.node("node1", json!({})).await;
    cluster.agents();
    cluster.namespace("mine").await;
    let in_mine = json!({ "spec": { "nodeName": "node1" } });
    cluster.create::<Pod>("mine", pod("a", json!({ "app": "a" }), in_mine)).await;
    let service = json!({
        "metadata": { "name": "a" },
        "spec": { "selector": { "app": "a" }, "ports": [{ "port": 80 }] },
    });
    cluster.create::<Service>("mine", service).await;
    cluster.create::<ConfigMap>("mine", map("m", None)).await;
    let namespaces = cluster.all::<Namespace>();
    namespaces.delete("mine", &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", || async {
        namespaces.get_opt("mine").await.unwrap().is_none().then_some(())
    })
    .await;
    let left = cluster.all::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert!(left.is_empty());
    // The name is free again, and comes furnished.
    cluster.namespace("mine").await;
    let maps = cluster.api_in::<ConfigMap>("mine");
    eventually("the new one has its CA", || async { maps.get_opt("kube-root-ca.crt").await.unwrap() }).await;
    assert!(maps.get_opt("m").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_tokens_are_deleted() {
    let cluster = Cluster::start(config()).await;
    let token = |name: &str, expiration: &str| {
        json!({
            "metadata": { "name": name },
            "type": "bootstrap.kubernetes.io/token",
            "stringData": { "token-id": "abcdef", "expiration": expiration },
        })
    };
    cluster.create::<Secret>("kube-system", token("bootstrap-token-abcdef", "2020-01-01T00:00:00Z")).await;
    cluster.create::<Secret>("kube-system", token("bootstrap-token-fedcba", "2999-01-01T00:00:00Z")).await;
    let secrets = cluster.api_in::<Secret>("kube-system");
    eventually("the old one is gone", || async {
        secrets.get_opt("bootstrap-token-abcdef").await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(secrets.get_opt("bootstrap-token-fedcba").await.unwrap().is_some());
}
