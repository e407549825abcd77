//! Events for people: what a controller did to an object, and why it could not.
//!
//! Promises: telling never blocks and never fails a reconcile; the same message about the same object is counted up in
//! one Event. Refuses: to be reliable. When too many wait, more are dropped.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::Patch;
use kube::{Client, Resource};
use serde_json::json;
use svcd_client::Objects;
use tokio::sync::mpsc;

use super::meta;

/// How many events may wait for being written.
const WAITING: usize = 1024;
/// How many recent events are remembered for counting.
const REMEMBERED: usize = 512;

/// Something worth telling about an object.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Note {
    component: &'static str,
    kind: &'static str,
    reason: &'static str,
    message: String,
    about: Reference,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Reference {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

/// Where controllers leave their notes.
#[derive(Clone)]
pub(crate) struct Recorder {
    notes: mpsc::Sender<Note>,
}

impl Recorder {
    /// A recorder, and the other end for [`run`].
    pub(crate) fn new() -> (Self, Inbox) {
        let (notes, inbox) = mpsc::channel(WAITING);
        (Self { notes }, Inbox(inbox))
    }

    /// Tells of something that went as it should.
    pub(crate) fn normal<K>(&self, component: &'static str, about: &K, reason: &'static str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        self.note(component, "Normal", about, reason, message);
    }

    /// Tells of something that someone may have to look after.
    pub(crate) fn warning<K>(&self, component: &'static str, about: &K, reason: &'static str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        self.note(component, "Warning", about, reason, message);
    }

    fn note<K>(
        &self,
        component: &'static str,
        kind: &'static str,
        about: &K,
        reason: &'static str,
        message: String,
    ) where
        K: Resource<DynamicType = ()>,
    {
        let note = Note { component, kind, reason, message, about: Reference::to(about) };
        if self.notes.try_send(note).is_err() {
            tracing::debug!(reason, "an event was dropped");
        }
    }
}

impl Reference {
    fn to<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            namespace: meta::namespace(meta).to_owned(),
            name: meta::name(meta).to_owned(),
            uid: meta::uid(meta).to_owned(),
        }
    }
}

/// Notes that wait for being written.
pub(crate) struct Inbox(mpsc::Receiver<Note>);

/// Writes the notes as Events, for ever.
pub(crate) async fn run(client: Client, mut inbox: Inbox) {
    let mut written: HashMap<Note, (String, i32)> = HashMap::new();
    while let Some(note) = inbox.0.recv().await {
        if written.len() >= REMEMBERED {
            written.clear();
        }
        // Events about what lives in no namespace go to the default one, as upstream's do.
        let namespace = if note.about.namespace.is_empty() { "default" } else { &note.about.namespace };
        let api: Objects<Event> = Objects::namespaced(client.clone(), namespace);
        let result = match written.get(&note) {
            Some((name, count)) => again(&api, name, count + 1).await,
            None => api.create(&event(&note, namespace)).await,
        };
        match result {
            Ok(event) => {
                let name = event.metadata.name.unwrap_or_default();
                written.insert(note, (name, event.count.unwrap_or(1)));
            }
            Err(error) => {
                tracing::debug!(reason = note.reason, %error, "an event could not be written");
                written.remove(&note);
            }
        }
    }
}

async fn again(api: &Objects<Event>, name: &str, count: i32) -> kube::Result<Event> {
    let patch = Patch::Merge(json!({ "count": count, "lastTimestamp": Time(meta::now()) }));
    api.patch(name, &patch).await
}

fn event(note: &Note, namespace: &str) -> Event {
    let now = Time(meta::now());
    let about = note.about.clone();
    Event {
        metadata: ObjectMeta {
            // As upstream names them: the object and a moment.
            name: Some(format!("{}.{:x}", about.name, jiff::Timestamp::now().as_nanosecond())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(about.api_version),
            kind: Some(about.kind),
            namespace: Some(about.namespace).filter(|n| !n.is_empty()),
            name: Some(about.name),
            uid: Some(about.uid),
            ..ObjectReference::default()
        },
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.clone()),
        type_: Some(note.kind.to_owned()),
        source: Some(EventSource { component: Some(note.component.to_owned()), host: None }),
        reporting_component: Some(note.component.to_owned()),
        reporting_instance: Some(String::new()),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    }
}
