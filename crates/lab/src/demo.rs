//! What a new lab has to show: three echo pods behind a Service.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use serde_json::json;
use svcd_api::Json;
use svcd_client::{Access, Objects};

use crate::error::Error;
use crate::plan::Layout;

/// The name of the Deployment and of the Service.
pub const NAME: &str = "webui";
/// The port on every node.
pub const NODE_PORT: u16 = 30080;
const NAMESPACE: &str = "default";
const REPLICAS: i32 = 3;

/// A client with the admin's rights.
///
/// # Errors
/// When the kubeconfig cannot be read or used.
pub fn client(layout: &Layout) -> Result<Client, Error> {
    let path = layout.kubeconfig();
    let access = Access::from_file(&path).map_err(|source| Error::Kubeconfig(Box::new(source)))?;
    svcd_client::connect(&access).map_err(|source| Error::Access { path, source: Box::new(source) })
}

/// Creates both; returns the Service's virtual address.
///
/// # Errors
/// What the API refused.
pub async fn create(client: &Client) -> Result<String, Error> {
    let labels = json!({ "app": NAME });
    let deployment = Deployment::from_json(&json!({
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
    let service = Service::from_json(&json!({
        "metadata": { "name": NAME, "labels": labels },
        "spec": {
            "type": "NodePort",
            "selector": labels,
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "nodePort": NODE_PORT }],
        },
    }))
    .expect("the demo's Service is one");
    let created = Objects::<Service>::namespaced(client.clone(), NAMESPACE).create(&service).await;
    let created = created.map_err(|source| api("the demo's Service", source))?;
    let deployments = Objects::<Deployment>::namespaced(client.clone(), NAMESPACE);
    deployments.create(&deployment).await.map_err(|e| api("the demo's Deployment", e))?;
    Ok(created.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default())
}

/// Waits until all its pods are ready; false when they are not by then.
///
/// # Errors
/// What the API refused.
pub async fn wait_ready(client: &Client, patience: Duration) -> Result<bool, Error> {
    let deployments = Objects::<Deployment>::namespaced(client.clone(), NAMESPACE);
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
