//! The ecosystem's Rust client over the router: what the controllers and the agents run on.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::cluster::{Cluster, PATIENCE};

fn client(cluster: &Cluster) -> Client {
    Client::new(cluster.admin.0.clone(), "default")
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn objects_are_created_listed_patched_and_deleted() {
    let cluster = Cluster::new().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client(&cluster));
    for n in 0..5 {
        api.create(&PostParams::default(), &config_map(&format!("c{n}"))).await.unwrap();
    }
    let page = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((page.items.len(), page.metadata.remaining_item_count), (2, Some(3)));
    let patch = Patch::Merge(json!({ "data": { "a": "b" } }));
    let patched = api.patch("c1", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data.unwrap()["a"], "b");
    api.delete("c1", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("c1").await.unwrap().is_none());
    let error = api.create(&PostParams::default(), &config_map("c2")).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.is_already_exists()), "{error:?}");
    assert_eq!(client(&cluster).apiserver_version().await.unwrap().minor, "37");
}

async fn follow(config: watcher::Config) {
    let cluster = Cluster::new().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client(&cluster));
    api.create(&PostParams::default(), &config_map("first")).await.unwrap();
    let mut events = watcher(api.clone(), config).boxed();
    let mut next =
        async || tokio::time::timeout(PATIENCE, events.try_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(next().await, Event::Init));
    assert!(matches!(next().await, Event::InitApply(object) if object.name_any() == "first"));
    assert!(matches!(next().await, Event::InitDone));
    api.create(&PostParams::default(), &config_map("second")).await.unwrap();
    assert!(matches!(next().await, Event::Apply(object) if object.name_any() == "second"));
    api.delete("first", &DeleteParams::default()).await.unwrap();
    assert!(matches!(next().await, Event::Delete(object) if object.name_any() == "first"));
}

#[tokio::test]
async fn a_watcher_that_lists_first_follows() {
    follow(watcher::Config::default()).await;
}

#[tokio::test]
async fn a_watcher_that_streams_its_list_follows() {
    follow(watcher::Config::default().streaming_lists()).await;
}

#[tokio::test]
async fn metadata_can_be_followed_alone() {
    let cluster = Cluster::new().await;
    let api: Api<PartialObjectMeta<Service>> = Api::default_namespaced(client(&cluster));
    let mut objects = watcher(api, watcher::Config::default()).applied_objects().boxed();
    let first = tokio::spawn(async move { objects.try_next().await.unwrap().unwrap() });
    cluster.admin.post(crate::cluster::SERVICES, &crate::cluster::service("web")).await.expect(201);
    assert_eq!(tokio::time::timeout(PATIENCE, first).await.unwrap().unwrap().name_any(), "web");
}
