//! Evictions and what PodDisruptionBudgets say to them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{EvictParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::rig::{Cluster, config, eventually};

async fn running(cluster: &Cluster) -> Vec<Pod> {
    let all = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    all.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
}

async fn allowed(cluster: &Cluster, count: i32) {
    eventually(&format!("{count} disruptions are allowed"), || async {
        let status = cluster.api::<PodDisruptionBudget>().get("web").await.unwrap().status?;
        let pods = running(cluster).await.len();
        (status.disruptions_allowed == Some(count) && status.expected_pods == Some(3) && pods == 3)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_forbids_one_eviction_too_many() {
    let cluster = Cluster::start(config()).await;
    cluster.node("node1", json!({})).await;
    cluster.agents();
    let template = json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": "svcd.io/echo" }] },
    });
    let deployment = json!({
        "metadata": { "name": "web" },
        "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template },
    });
    cluster.create::<Deployment>("default", deployment).await;
    let budget = |spec: Value| json!({ "metadata": { "name": "web" }, "spec": spec });
    let selector = json!({ "matchLabels": { "app": "web" } });
    let spec = json!({ "maxUnavailable": 1, "selector": selector });
    cluster.create::<PodDisruptionBudget>("default", budget(spec)).await;
    allowed(&cluster, 1).await;

    let api = cluster.api::<Pod>();
    let victim = running(&cluster).await[0].name_any();
    let dry = EvictParams {
        post_options: kube::api::PostParams { dry_run: true, ..Default::default() },
        ..Default::default()
    };
    api.evict(&victim, &dry).await.unwrap();
    assert_eq!(running(&cluster).await.len(), 3);
    api.evict(&victim, &EvictParams::default()).await.unwrap();
    allowed(&cluster, 1).await;
    assert!(running(&cluster).await.iter().all(|pod| pod.name_any() != victim));

    let budgets = cluster.api::<PodDisruptionBudget>();
    let none = Patch::Merge(json!({ "spec": { "maxUnavailable": 0 } }));
    budgets.patch("web", &PatchParams::default(), &none).await.unwrap();
    allowed(&cluster, 0).await;
    let victim = running(&cluster).await[0].name_any();
    let kube::Error::Api(status) = api.evict(&victim, &EvictParams::default()).await.unwrap_err() else {
        panic!("a Status was expected");
    };
    assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(status.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = &status.details.unwrap().causes[0];
    assert_eq!(cause.message, "The disruption budget web needs 3 healthy pods and has 3 currently");
    assert_eq!(running(&cluster).await.len(), 3);
}
