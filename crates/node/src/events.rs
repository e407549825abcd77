//! Event objects for what happens to pods: for people, so best effort. Too many are dropped, and repeated ones are counted.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as EventObject, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::Patch;
use serde_json::json;
use svcd_client::Objects;
use svcd_pods::{Event, PodRef};
use tokio::sync::mpsc;
use tracing::debug;

use crate::own_node::{RequestError, in_time};

const QUEUE: usize = 256;
/// How many kinds of events are remembered for counting.
const REMEMBERED: usize = 512;

/// Takes events without ever blocking. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<(PodRef, Event)>,
}

impl Events {
    /// Writes from a task on the current runtime, which ends with the last clone.
    pub(crate) fn new(client: Client, node_name: impl Into<String>) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let writer = Writer { client, node_name: node_name.into(), counted: HashMap::new() };
        tokio::spawn(writer.run(receiver));
        Self { queue }
    }

    pub(crate) fn send(&self, pod: &PodRef, event: Event) {
        if self.queue.try_send((pod.clone(), event)).is_err() {
            debug!(pod = %pod, "too many events; one is dropped");
        }
    }
}

struct Writer {
    client: Client,
    node_name: String,
    /// What was said of which pod: the Event's name, and how often.
    counted: HashMap<(String, &'static str, String), (String, i32)>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<(PodRef, Event)>) {
        while let Some((pod, event)) = queue.recv().await {
            if let Err(error) = self.write(&pod, event).await {
                debug!(pod = %pod, %error, "an event was lost");
            }
        }
    }

    async fn write(&mut self, pod: &PodRef, event: Event) -> Result<(), RequestError> {
        let api: Objects<EventObject> = Objects::namespaced(self.client.clone(), &pod.namespace);
        let key = (pod.uid.clone(), event.reason, event.message.clone());
        if let Some((name, count)) = self.counted.get_mut(&key) {
            *count += 1;
            let patch = Patch::Merge(json!({ "count": *count, "lastTimestamp": Time(Timestamp::now()) }));
            if in_time(api.patch(name, &patch)).await.is_ok() {
                return Ok(());
            }
            // It has run out meanwhile: say it anew.
        }
        let object = self.object(pod, event);
        in_time(api.create(&object)).await?;
        if self.counted.len() >= REMEMBERED {
            self.counted.clear();
        }
        self.counted.insert(key, (object.metadata.name.unwrap_or_default(), 1));
        Ok(())
    }

    fn object(&self, pod: &PodRef, event: Event) -> EventObject {
        let now = Timestamp::now();
        EventObject {
            metadata: ObjectMeta {
                // As upstream names them, so that two events of one pod never collide.
                name: Some(format!("{}.{:x}", pod.name, now.as_nanosecond())),
                namespace: Some(pod.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(pod.namespace.clone()),
                name: Some(pod.name.clone()),
                uid: Some(pod.uid.clone()),
                field_path: event.container.map(|name| format!("spec.containers{{{name}}}")),
                ..ObjectReference::default()
            },
            type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(event.reason.to_owned()),
            message: Some(event.message),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node_name.clone()),
            }),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..EventObject::default()
        }
    }
}
