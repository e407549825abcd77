//! What a new lab has to show: three echo pods behind a Service.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::PostParams;
use kube::{Api, Client, Config};
use serde_json::{from_value, json};

use crate::error::Error;
use crate::plan::Layout;

/// The name of the Deployment and of the Service.
pub const NAME: &str = "webui";
/// The port on every node.
pub const NODE_PORT: u16 = 30080;
const REPLICAS: i32 = 3;

/// A client with the admin's rights.
///
/// # Errors
/// When the kubeconfig cannot be read or used.
pub async fn client(layout: &Layout) -> Result<Client, Error> {
    let path = layout.kubeconfig();
    let wrong = |source| Error::Kubeconfig { path: path.clone(), source: Box::new(source) };
    let kubeconfig = kube::config::Kubeconfig::read_from(&path).map_err(wrong)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.map_err(wrong)?;
    Client::try_from(config).map_err(|source| api("a client", source))
}

/// Creates both; returns the Service's virtual address.
///
/// # Errors
/// What the API refused.
pub async fn create(client: &Client) -> Result<String, Error> {
    let labels = json!({ "app": NAME });
    let deployment: Deployment = from_value(json!({
        "metadata": { "name": NAME, "labels": labels },
        "spec": {
            "replicas": REPLICAS,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{
                    "name": "echo",
                    "image": "svcd.io/echo",
                    "ports": [{ "containerPort": 8080 }],
                }] },
            },
        },
    }))
    .expect("the demo's Deployment is one");
    let service: Service = from_value(json!({
        "metadata": { "name": NAME, "labels": labels },
        "spec": {
            "type": "NodePort",
            "selector": labels,
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "nodePort": NODE_PORT }],
        },
    }))
    .expect("the demo's Service is one");
    let created =
        Api::<Service>::default_namespaced(client.clone()).create(&PostParams::default(), &service).await;
    let created = created.map_err(|source| api("the demo's Service", source))?;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    deployments
        .create(&PostParams::default(), &deployment)
        .await
        .map_err(|e| api("the demo's Deployment", e))?;
    Ok(created.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default())
}

/// Waits until all its pods are ready; false when they are not by then.
///
/// # Errors
/// What the API refused.
pub async fn wait_ready(client: &Client, patience: Duration) -> Result<bool, Error> {
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let deployment = deployments.get(NAME).await.map_err(|source| api("a look at the demo", source))?;
        if deployment.status.and_then(|s| s.ready_replicas) == Some(REPLICAS) {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(false)
}

pub(crate) fn api(what: &'static str, source: kube::Error) -> Error {
    Error::Api { what, source: Box::new(source) }
}
