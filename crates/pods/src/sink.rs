//! Where statuses go.

use k8s_openapi::api::core::v1::{Pod, PodStatus};

/// Which pod something is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: the name may belong to another pod by the time this is read.
    pub uid: String,
}

impl PodRef {
    /// The identity of an object; missing parts are empty.
    pub fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for PodRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Something worth an Event object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether it is a `Warning`; otherwise `Normal`.
    pub warning: bool,
    /// `Started`, `Killing`, `BackOff`, `Unhealthy`, …
    pub reason: &'static str,
    /// In words.
    pub message: String,
    /// The container it is about.
    pub container: Option<String>,
}

/// Takes what becomes of pods. Called from the pods' own loops: no method may block; keep the latest and return.
pub trait Sink: Send + Sync + 'static {
    /// The status has changed. Of several for one pod only the latest matters.
    fn status(&self, pod: &PodRef, status: PodStatus);

    /// All of a pod that is being deleted is gone: its object can be deleted with grace period 0.
    /// May come more than once.
    fn terminated(&self, pod: &PodRef);

    /// Something happened.
    fn event(&self, _pod: &PodRef, _event: Event) {}
}
