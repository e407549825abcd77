//! Services, their slices and Endpoints; what a new cluster has.

use k8s_openapi::api::core::v1::{ConfigMap, EndpointAddress, Endpoints, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::rig::{Cluster, config, eventually, pod, running};

async fn slices(cluster: &Cluster, namespace: &str, service: &str) -> Vec<EndpointSlice> {
    let selector = format!("kubernetes.io/service-name={service}");
    let api = cluster.api_in::<EndpointSlice>(namespace);
    api.list(&ListParams::default().labels(&selector)).await.unwrap().items
}

async fn endpoints(cluster: &Cluster, service: &str) -> Vec<Endpoint> {
    let slices = slices(cluster, "default", service).await;
    slices.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default()).collect()
}

/// Address, ready, serving, terminating.
type Seen = (String, bool, bool, bool);

fn seen(endpoints: &[Endpoint]) -> Vec<Seen> {
    let one = |e: &Endpoint| {
        let c = e.conditions.as_ref().unwrap();
        (e.addresses[0].clone(), c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
    };
    let mut seen: Vec<Seen> = endpoints.iter().map(one).collect();
    seen.sort();
    seen
}

async fn expect(cluster: &Cluster, service: &str, wanted: &[(&str, bool, bool, bool)]) {
    let wanted: Vec<Seen> = wanted.iter().map(|(ip, r, s, t)| ((*ip).to_owned(), *r, *s, *t)).collect();
    eventually(&format!("endpoints of {service}: {wanted:?}"), || async {
        (seen(&endpoints(cluster, service).await) == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_loopback_has_a_service_without_endpoints() {
    let mut alone = config();
    alone.advertise.set_ip([127, 0, 0, 1].into());
    let cluster = Cluster::start(alone).await;
    let services = cluster.api::<Service>();
    eventually("default/kubernetes", || async { services.get_opt("kubernetes").await.unwrap() }).await;
    eventually("kube-system/kube-dns", || async {
        cluster.api_in::<Service>("kube-system").get_opt("kube-dns").await.unwrap()
    })
    .await;
    assert!(slices(&cluster, "default", "kubernetes").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_cluster_is_furnished_and_repairs_itself() {
    let cluster = Cluster::start(config()).await;
    let slice = eventually("the API server's slice", || async {
        slices(&cluster, "default", "kubernetes").await.pop()
    })
    .await;
    assert_eq!(slice.name_any(), "kubernetes");
    assert_eq!(slice.endpoints.unwrap()[0].addresses, ["192.168.56.11"]);
    let services = cluster.api::<Service>();
    let first = services.get("kubernetes").await.unwrap();
    assert_eq!(first.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.1"));
    services.delete("kubernetes", &DeleteParams::default()).await.unwrap();
    eventually("default/kubernetes is back", || async {
        let back = services.get_opt("kubernetes").await.unwrap()?;
        (back.metadata.uid != first.metadata.uid).then_some(())
    })
    .await;
    let old = cluster.api::<Endpoints>();
    eventually("its Endpoints", || async { old.get_opt("kubernetes").await.unwrap() }).await;
    cluster.namespace("mine").await;
    for namespace in ["default", "mine"] {
        let maps = cluster.api_in::<ConfigMap>(namespace);
        let accounts = cluster.api_in::<ServiceAccount>(namespace);
        let map = eventually("the CA", || async { maps.get_opt("kube-root-ca.crt").await.unwrap() }).await;
        assert_eq!(map.data.unwrap()["ca.crt"], cluster.ca.certificate_pem());
        eventually("the account", || async { accounts.get_opt("default").await.unwrap() }).await;
    }
    let maps = cluster.api_in::<ConfigMap>("mine");
    let spoilt = Patch::Merge(json!({ "data": { "ca.crt": "another" } }));
    maps.patch("kube-root-ca.crt", &PatchParams::default(), &spoilt).await.unwrap();
    eventually("the CA is right again", || async {
        let map = maps.get("kube-root-ca.crt").await.unwrap();
        (map.data?.get("ca.crt")? == cluster.ca.certificate_pem()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_answers_dns() {
    let cluster = Cluster::start(config()).await;
    cluster.node("node1", json!({})).await;
    cluster.node("node2", json!({})).await;
    eventually("two DNS endpoints", || async {
        let slices = slices(&cluster, "kube-system", "kube-dns").await;
        let all: Vec<_> = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()).collect();
        let mut addresses: Vec<_> = all.iter().map(|e| e.addresses[0].as_str()).collect();
        addresses.sort_unstable();
        (addresses == ["10.244.0.1", "10.244.1.1"]).then_some(())
    })
    .await;
    let service = cluster.api_in::<Service>("kube-system").get("kube-dns").await.unwrap();
    assert_eq!(service.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.10"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_follow_pods_through_their_life() {
    let cluster = Cluster::start(config()).await;
    cluster.node("node1", json!({ "metadata": { "labels": { "topology.kubernetes.io/zone": "z" } } })).await;
    let service = json!({
        "metadata": { "name": "web", "labels": { "team": "a" } },
        "spec": { "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] },
    });
    cluster.create::<Service>("default", service).await;
    expect(&cluster, "web", &[]).await;
    let ports = json!({ "spec": { "nodeName": "node1", "containers": [{
        "name": "c", "image": "svcd.io/echo", "ports": [{ "name": "http", "containerPort": 8080 }],
    }] } });
    for name in ["a", "b"] {
        cluster.create::<Pod>("default", pod(name, json!({ "app": "web" }), ports.clone())).await;
    }
    cluster.set_status("a", running("10.244.0.5", true)).await;
    cluster.set_status("b", running("10.244.0.6", false)).await;
    expect(&cluster, "web", &[("10.244.0.5", true, true, false), ("10.244.0.6", false, false, false)]).await;
    let slice = slices(&cluster, "default", "web").await.pop().unwrap();
    let port = &slice.ports.as_ref().unwrap()[0];
    assert_eq!((port.name.as_deref(), port.port), (Some("http"), Some(8080)));
    assert_eq!(slice.labels()["team"], "a");
    let first = &slice.endpoints.as_ref().unwrap()[0];
    assert_eq!((first.node_name.as_deref(), first.zone.as_deref()), (Some("node1"), Some("z")));
    // Another controller's, in its own time.
    eventually("the Endpoints have both", || async {
        let endpoints = cluster.api::<Endpoints>().get_opt("web").await.unwrap()?;
        let subset = endpoints.subsets?.into_iter().next()?;
        let ip = |addresses: Option<Vec<EndpointAddress>>| Some(addresses?.into_iter().next()?.ip);
        let both = (ip(subset.addresses)?, ip(subset.not_ready_addresses)?);
        (both == ("10.244.0.5".to_owned(), "10.244.0.6".to_owned())).then_some(())
    })
    .await;
    // Deleted, but still serving what it has begun.
    cluster.api::<Pod>().delete("a", &DeleteParams::default()).await.unwrap();
    expect(&cluster, "web", &[("10.244.0.5", false, true, true), ("10.244.0.6", false, false, false)]).await;
    cluster.api::<Pod>().delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    expect(&cluster, "web", &[("10.244.0.6", false, false, false)]).await;
    // Somebody's meddling is undone.
    let meddled = Patch::Merge(json!({ "endpoints": [] }));
    let slice_api = cluster.api::<EndpointSlice>();
    slice_api.patch(&slice.name_any(), &PatchParams::default(), &meddled).await.unwrap();
    expect(&cluster, "web", &[("10.244.0.6", false, false, false)]).await;
    cluster.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    eventually("nothing is left of the Service", || async {
        let none = slices(&cluster, "default", "web").await.is_empty();
        (none && cluster.api::<Endpoints>().get_opt("web").await.unwrap().is_none()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_fill_slices_of_a_hundred_each_once() {
    let cluster = Cluster::start(config()).await;
    cluster.node("node1", json!({})).await;
    let service = json!({
        "metadata": { "name": "big" },
        "spec": { "clusterIP": "None", "selector": { "app": "big" }, "ports": [{ "port": 80 }] },
    });
    cluster.create::<Service>("default", service).await;
    for n in 0..230 {
        let name = format!("p{n}");
        let on_node = json!({ "spec": { "nodeName": "node1" } });
        cluster.create::<Pod>("default", pod(&name, json!({ "app": "big" }), on_node)).await;
        cluster.set_status(&name, running(&format!("10.244.1.{}", n + 1), true)).await;
    }
    let all = eventually("230 endpoints", || async {
        let all = endpoints(&cluster, "big").await;
        (all.len() == 230).then_some(all)
    })
    .await;
    let distinct: std::collections::HashSet<_> = all.iter().map(|e| e.addresses[0].clone()).collect();
    assert_eq!(distinct.len(), 230);
    let slices = slices(&cluster, "default", "big").await;
    assert_eq!(slices.len(), 3);
    assert!(slices.iter().all(|s| s.endpoints.as_ref().unwrap().len() <= 100));
    assert!(slices.iter().all(|s| s.labels().contains_key("service.kubernetes.io/headless")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hand_made_endpoints_are_mirrored() {
    let cluster = Cluster::start(config()).await;
    let service = json!({ "metadata": { "name": "db" }, "spec": { "ports": [{ "port": 5432 }] } });
    cluster.create::<Service>("default", service).await;
    let by_hand = json!({
        "metadata": { "name": "db" },
        "subsets": [{ "addresses": [{ "ip": "203.0.113.7" }], "ports": [{ "port": 5432 }] }],
    });
    cluster.create::<Endpoints>("default", by_hand).await;
    let slice =
        eventually("the mirrored slice", || async { slices(&cluster, "default", "db").await.pop() }).await;
    let manager = &slice.labels()["endpointslice.kubernetes.io/managed-by"];
    assert_eq!(manager, "endpointslicemirroring-controller.k8s.io");
    assert_eq!(slice.endpoints.unwrap()[0].addresses, ["203.0.113.7"]);
    let skip = Patch::Merge(
        json!({ "metadata": { "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } } }),
    );
    cluster.api::<Endpoints>().patch("db", &PatchParams::default(), &skip).await.unwrap();
    eventually("the mirrored slice is gone", || async {
        slices(&cluster, "default", "db").await.is_empty().then_some(())
    })
    .await;
}
