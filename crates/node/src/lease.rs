//! The sign of life: this node's Lease in `kube-node-lease`, renewed at an even pace.
//!
//! A renewal that fails is tried again soon, since the next regular one may be too late for others' patience.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::Patch;
use serde_json::json;
use svcd_client::Objects;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::Heartbeat;
use crate::own_node::{OwnNode, RequestError, in_time, is_code};

const NAMESPACE: &str = "kube-node-lease";

/// Renews until it is dropped. Starts once the Node is there, since the Lease belongs to it.
pub(crate) async fn run(
    client: Client,
    name: String,
    heartbeat: Heartbeat,
    mut own: watch::Receiver<OwnNode>,
) {
    let api: Objects<Lease> = Objects::namespaced(client, NAMESPACE);
    // A server that is away for an hour is worth two lines, not ten thousand.
    let mut failing = false;
    loop {
        let uid = match own.wait_for(|own| own.node().is_some()).await {
            Ok(own) => own.node().and_then(|node| node.metadata.uid.clone()),
            Err(_) => return,
        };
        let wait = match renew(&api, &name, heartbeat.lease, uid).await {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    info!(node = name, "the Lease is renewed again");
                }
                heartbeat.interval
            }
            Err(error) => {
                if std::mem::replace(&mut failing, true) {
                    debug!(node = name, %error, "still cannot renew the Lease");
                } else {
                    warn!(node = name, %error, "cannot renew the Lease; trying until it works");
                }
                (heartbeat.interval / 5).max(Duration::from_millis(100))
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn renew(
    api: &Objects<Lease>,
    name: &str,
    duration: Duration,
    uid: Option<String>,
) -> Result<(), RequestError> {
    let spec = spec(name, duration);
    let patch = json!({ "spec": spec });
    match in_time(api.patch(name, &Patch::Merge(patch))).await {
        Err(RequestError::Api(error)) if is_code(&error, 404) => {}
        other => return other.map(drop),
    }
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: uid.map(|uid| vec![owner(name, uid)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    };
    match in_time(api.create(&lease)).await {
        // The namespace is made by the controllers, who may be a moment behind on a new cluster.
        Err(RequestError::Api(error)) if is_code(&error, 404) => {
            debug!(%error, "kube-node-lease is not there yet");
            Err(RequestError::Api(error))
        }
        other => other.map(drop),
    }
}

fn spec(name: &str, duration: Duration) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(name.to_owned()),
        // A Lease of zero seconds would be refused.
        lease_duration_seconds: Some(i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX)),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    }
}

/// The Lease goes with its Node.
fn owner(name: &str, uid: String) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_owned(),
        uid,
        ..OwnerReference::default()
    }
}
