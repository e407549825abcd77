//! Event objects for what happens to pods, and to Services on this node: for people, so best effort. Too many are
//! dropped, and repeated ones are counted.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as EventObject, EventSource, ObjectReference, Service};
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

/// The object that an Event is about, and who says it.
#[derive(Clone, Debug)]
pub(crate) struct About {
    component: &'static str,
    kind: &'static str,
    namespace: String,
    name: String,
    /// Looked up when it is not known: `kubectl describe` finds Events by it.
    uid: Option<String>,
}

impl About {
    fn pod(pod: &PodRef) -> Self {
        Self {
            component: "kubelet",
            kind: "Pod",
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: Some(pod.uid.clone()),
        }
    }

    /// A Service, as kube-proxy speaks of it.
    pub(crate) fn service(namespace: &str, name: &str) -> Self {
        Self {
            component: "kube-proxy",
            kind: "Service",
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: None,
        }
    }
}

/// Takes events without ever blocking. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<(About, Event)>,
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
        self.send_about(About::pod(pod), event);
    }

    pub(crate) fn send_about(&self, about: About, event: Event) {
        if let Err(full) = self.queue.try_send((about, event)) {
            let (About { kind, namespace, name, .. }, _) = full.into_inner();
            debug!(kind, namespace, name, "too many events; one is dropped");
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
    async fn run(mut self, mut queue: mpsc::Receiver<(About, Event)>) {
        while let Some((about, event)) = queue.recv().await {
            let (namespace, name) = (about.namespace.clone(), about.name.clone());
            if let Err(error) = self.write(about, event).await {
                debug!(namespace, name, %error, "an event was lost");
            }
        }
    }

    async fn write(&mut self, mut about: About, event: Event) -> Result<(), RequestError> {
        if about.uid.is_none() {
            let services: Objects<Service> = Objects::namespaced(self.client.clone(), &about.namespace);
            about.uid = in_time(services.get(&about.name)).await?.metadata.uid;
        }
        let api: Objects<EventObject> = Objects::namespaced(self.client.clone(), &about.namespace);
        let key = (about.uid.clone().unwrap_or_default(), event.reason, event.message.clone());
        if let Some((name, count)) = self.counted.get_mut(&key) {
            *count += 1;
            let patch = Patch::Merge(json!({ "count": *count, "lastTimestamp": Time(Timestamp::now()) }));
            if in_time(api.patch(name, &patch)).await.is_ok() {
                return Ok(());
            }
            // It has run out meanwhile: say it anew.
        }
        let object = self.object(about, event);
        in_time(api.create(&object)).await?;
        if self.counted.len() >= REMEMBERED {
            self.counted.clear();
        }
        self.counted.insert(key, (object.metadata.name.unwrap_or_default(), 1));
        Ok(())
    }

    fn object(&self, about: About, event: Event) -> EventObject {
        let now = Timestamp::now();
        EventObject {
            metadata: ObjectMeta {
                // As upstream names them, so that two events of one object never collide.
                name: Some(format!("{}.{:x}", about.name, now.as_nanosecond())),
                namespace: Some(about.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some(about.kind.to_owned()),
                namespace: Some(about.namespace),
                name: Some(about.name),
                uid: about.uid,
                field_path: event.container.map(|name| format!("spec.containers{{{name}}}")),
                ..ObjectReference::default()
            },
            type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(event.reason.to_owned()),
            message: Some(event.message),
            source: Some(EventSource {
                component: Some(about.component.to_owned()),
                host: Some(self.node_name.clone()),
            }),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..EventObject::default()
        }
    }
}
