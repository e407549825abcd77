//! Heartbeats, pod ranges, and the pods of nodes that are lost.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::rig::{Cluster, config, eventually, pod, running};

async fn ready_endpoints(cluster: &Cluster) -> usize {
    let params = ListParams::default().labels("kubernetes.io/service-name=web");
    let slices = cluster.api::<EndpointSlice>().list(&params).await.unwrap().items;
    let all = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    all.filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true))).count()
}

fn state(node: &Node) -> (String, Vec<String>) {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready =
        conditions.filter(|c| c.type_ == "Ready").map(|c| c.status.clone()).next().unwrap_or_default();
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    (ready, taints.map(|t| format!("{}:{}", t.key, t.effect)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_taken_out_and_comes_back_when_it_speaks() {
    let mut config = config();
    config.node_grace = Duration::from_millis(1500);
    let cluster = Cluster::start(config).await;
    cluster.node("node1", json!({})).await;
    cluster.heartbeat("node1").await;
    let service = json!({
        "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
    });
    cluster.create::<Service>("default", service).await;
    let on_node = json!({ "spec": { "nodeName": "node1" } });
    cluster.create::<Pod>("default", pod("a", json!({ "app": "web" }), on_node)).await;
    cluster.set_status("a", running("10.244.0.5", true)).await;
    // Whether it is seen ready before the node falls silent is a matter of time; that it is unready then is not.
    let nodes = cluster.all::<Node>();
    let lost = ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"];
    eventually("the node is lost", || async {
        let (ready, taints) = state(&nodes.get("node1").await.unwrap());
        (ready == "Unknown" && taints == lost).then_some(())
    })
    .await;
    eventually("its pod is not ready", || async {
        let pod = cluster.api::<Pod>().get("a").await.unwrap();
        let conditions = pod.status.unwrap().conditions.unwrap();
        let ready = conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        (ready.status == "False" && ready_endpoints(&cluster).await == 0).then_some(())
    })
    .await;
    // It speaks again, and goes on speaking.
    let back = eventually("all is well again", || async {
        cluster.heartbeat("node1").await;
        let (ready, taints) = state(&nodes.get("node1").await.unwrap());
        (ready == "True" && taints.is_empty() && ready_endpoints(&cluster).await == 1).then_some(())
    });
    back.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_get_ranges_of_their_own_and_give_them_back() {
    let cluster = Cluster::start(config()).await;
    for n in 1..=5 {
        cluster.node(&format!("node{n}"), json!({})).await;
    }
    let nodes = cluster.all::<Node>();
    let ranges = || async {
        let all = nodes.list(&ListParams::default()).await.unwrap().items;
        let found: Vec<String> = all.iter().filter_map(|n| n.spec.as_ref()?.pod_cidr.clone()).collect();
        (found.len() == all.len()).then_some(found)
    };
    let first = eventually("all have one", ranges).await;
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 5, "{first:?}");
    let gone = nodes.get("node3").await.unwrap().spec.unwrap().pod_cidr;
    nodes.delete("node3", &DeleteParams::default()).await.unwrap();
    cluster.node("node6", json!({})).await;
    eventually("the freed range is used again", || async {
        (nodes.get("node6").await.unwrap().spec?.pod_cidr == gone).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_node_that_is_gone_are_deleted() {
    let cluster = Cluster::start(config()).await;
    cluster.node("node1", json!({})).await;
    let on_node = json!({ "spec": { "nodeName": "node1" } });
    cluster.create::<Pod>("default", pod("a", json!({}), on_node)).await;
    cluster.set_status("a", running("10.244.0.5", true)).await;
    cluster.all::<Node>().delete("node1", &DeleteParams::default()).await.unwrap();
    let pods = cluster.api::<Pod>();
    eventually("the pod is gone", || async { pods.get_opt("a").await.unwrap().is_none().then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_execute_taints_evict_what_does_not_tolerate_them() {
    let cluster = Cluster::start(config()).await;
    cluster.node("node1", json!({ "spec": { "taints": [{ "key": "k", "effect": "NoExecute" }] } })).await;
    let tolerant = json!({ "spec": {
        "nodeName": "node1",
        "tolerations": [{ "key": "k", "operator": "Exists" }],
        "terminationGracePeriodSeconds": 0,
    } });
    let plain = json!({ "spec": { "nodeName": "node1", "terminationGracePeriodSeconds": 0 } });
    cluster.create::<Pod>("default", pod("tolerant", json!({}), tolerant)).await;
    cluster.create::<Pod>("default", pod("plain", json!({}), plain)).await;
    let pods = cluster.api::<Pod>();
    eventually("one is evicted", || async { pods.get_opt("plain").await.unwrap().is_none().then_some(()) })
        .await;
    assert!(pods.get_opt("tolerant").await.unwrap().is_some());
}
