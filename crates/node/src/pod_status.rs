//! What becomes of pods, written to the server: at once, the latest only, each pod for itself.
//!
//! A status takes no queue: the first one of a pod starts its writer, later ones replace what that writer has not sent yet.
//! While the server is away writers try again, and still send only the latest. A pod that is gone is deleted after its last
//! status was sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Client;
use kube::api::{DeleteParams, Patch, Preconditions};
use serde_json::{Map, Value, json};
use svcd_api::Json;
use svcd_client::Objects;
use svcd_pods::{Event, PodRef, Sink};
use tokio::runtime::Handle;
use tracing::{debug, warn};

use crate::events::Events;
use crate::own_node::{RequestError, in_time, is_code};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Fields of a status that must be said to be gone: a patch that leaves one out would keep it.
const FIELDS: [&str; 12] = [
    "conditions",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "hostIP",
    "hostIPs",
    "initContainerStatuses",
    "message",
    "phase",
    "podIP",
    "podIPs",
    "reason",
    "startTime",
];

/// Writes statuses through a client.
#[derive(Clone)]
pub(crate) struct StatusWriter {
    client: Client,
    runtime: Handle,
    pending: Arc<Mutex<HashMap<PodRef, Pending>>>,
    events: Events,
}

/// What a pod's writer has still to do. The entry's presence means that there is a writer.
#[derive(Debug, Default)]
struct Pending {
    status: Option<PodStatus>,
    terminated: bool,
}

/// One thing to tell the server.
enum Work {
    Status(Box<PodStatus>),
    Delete,
}

impl StatusWriter {
    /// Writers run on the current runtime.
    pub(crate) fn new(client: Client, events: Events) -> Self {
        Self { client, runtime: Handle::current(), pending: Arc::default(), events }
    }

    fn add(&self, pod: &PodRef, change: impl FnOnce(&mut Pending)) {
        let mut pending = self.pending();
        if let Some(entry) = pending.get_mut(pod) {
            change(entry);
            return;
        }
        change(pending.entry(pod.clone()).or_default());
        let (this, pod) = (self.clone(), pod.clone());
        self.runtime.spawn(async move { this.write(pod).await });
    }

    async fn write(&self, pod: PodRef) {
        let mut pause = FIRST_PAUSE;
        while let Some(work) = self.next(&pod) {
            let Err(error) = self.send(&pod, &work).await else {
                pause = FIRST_PAUSE;
                continue;
            };
            warn!(pod = %pod, %error, "cannot tell the server about a pod; trying again");
            self.put_back(&pod, work);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The next thing to tell; the entry goes with the last one.
    fn next(&self, pod: &PodRef) -> Option<Work> {
        let mut pending = self.pending();
        let entry = pending.get_mut(pod)?;
        if let Some(status) = entry.status.take() {
            return Some(Work::Status(Box::new(status)));
        }
        if std::mem::take(&mut entry.terminated) {
            return Some(Work::Delete);
        }
        pending.remove(pod);
        None
    }

    /// Not sent: to be sent again, unless there is something newer.
    fn put_back(&self, pod: &PodRef, work: Work) {
        let mut pending = self.pending();
        let entry = pending.entry(pod.clone()).or_default();
        match work {
            Work::Status(status) => {
                entry.status.get_or_insert(*status);
            }
            Work::Delete => entry.terminated = true,
        }
    }

    async fn send(&self, pod: &PodRef, work: &Work) -> Result<(), RequestError> {
        let api: Objects<Pod> = Objects::namespaced(self.client.clone(), &pod.namespace);
        let sent = match work {
            Work::Status(status) => {
                let patch = Patch::Strategic(status_patch(&pod.uid, status));
                in_time(api.patch_status(&pod.name, &patch)).await.map(drop)
            }
            Work::Delete => in_time(api.delete(&pod.name, &delete_params(&pod.uid))).await.map(drop),
        };
        match sent {
            // Nobody wants to know any more.
            Err(RequestError::Api(error)) if is_gone(&error) => {
                debug!(pod = %pod, %error, "the pod is not there any more");
                Ok(())
            }
            // Sending the same again would be refused again.
            Err(RequestError::Api(error)) if is_code(&error, 400) || is_code(&error, 422) => {
                warn!(pod = %pod, %error, "the server refused what became of a pod");
                Ok(())
            }
            other => other,
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<PodRef, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for StatusWriter {
    fn status(&self, pod: &PodRef, status: PodStatus) {
        self.add(pod, |pending| pending.status = Some(status));
    }

    fn terminated(&self, pod: &PodRef) {
        self.add(pod, |pending| pending.terminated = true);
    }

    fn event(&self, pod: &PodRef, event: Event) {
        self.events.send(pod, event);
    }
}

/// The pod is not there, or another one has its name (which upstream words as a UID that differs); any other conflict is a
/// race with another writer.
fn is_gone(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            status.code == 404 || (status.code == 409 && status.message.contains("UID"))
        }
        _ => false,
    }
}

/// The whole status, with what it does not have said to be gone. The uid makes sure that it is the same pod.
fn status_patch(uid: &str, status: &PodStatus) -> Value {
    let mut fields: Map<String, Value> =
        FIELDS.iter().map(|field| ((*field).to_owned(), Value::Null)).collect();
    if let Value::Object(known) = status.to_json() {
        fields.extend(known);
    }
    json!({ "metadata": { "uid": uid }, "status": fields })
}

fn delete_params(uid: &str) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    /// Takes requests when it is let to, and answers with the given codes, then with 200.
    fn server(codes: Vec<u16>) -> (Client, mpsc::UnboundedReceiver<(String, Value)>, Arc<Semaphore>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let (inner, count) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (sender, gate, count, codes) =
                (sender.clone(), Arc::clone(&inner), Arc::clone(&count), codes.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let what = format!("{} {}", head.method, head.uri.path());
                sender.send((what, serde_json::from_slice(&body).unwrap_or_default())).unwrap();
                let code = codes.get(count.fetch_add(1, Ordering::SeqCst)).copied().unwrap_or(200);
                let answer = if code == 200 {
                    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}})
                } else {
                    json!({"kind": "Status", "status": "Failure", "reason": "x", "message": "m", "code": code})
                };
                Ok::<_, kube::Error>(
                    Response::builder()
                        .status(code)
                        .body(Body::from(answer.to_string().into_bytes()))
                        .unwrap(),
                )
            }
        });
        (Client::new(service, "default"), receiver, gate)
    }

    fn pod() -> PodRef {
        PodRef { namespace: "default".into(), name: "web".into(), uid: "u1".into() }
    }

    fn phase(phase: &str) -> PodStatus {
        PodStatus { phase: Some(phase.into()), ..PodStatus::default() }
    }

    fn writer(client: Client) -> StatusWriter {
        StatusWriter::new(client.clone(), Events::new(client, "node1"))
    }

    #[tokio::test]
    async fn only_the_latest_is_sent() {
        let (client, mut seen, gate) = server(vec![]);
        let writer = writer(client);
        writer.status(&pod(), phase("Pending"));
        tokio::task::yield_now().await;
        for _ in 0..10 {
            writer.status(&pod(), phase("Running"));
        }
        writer.status(&pod(), phase("Succeeded"));
        writer.terminated(&pod());
        gate.add_permits(10);
        let (what, body) = seen.recv().await.unwrap();
        assert_eq!(what, "PATCH /api/v1/namespaces/default/pods/web/status");
        assert_eq!(body["status"]["phase"], "Pending");
        assert_eq!(body["metadata"]["uid"], "u1");
        assert_eq!(body["status"]["podIP"], Value::Null);
        assert_eq!(seen.recv().await.unwrap().1["status"]["phase"], "Succeeded");
        let (what, body) = seen.recv().await.unwrap();
        assert_eq!(what, "DELETE /api/v1/namespaces/default/pods/web");
        assert_eq!(body["gracePeriodSeconds"], 0);
        assert_eq!(body["preconditions"]["uid"], "u1");
    }

    #[tokio::test]
    async fn failures_are_tried_again_and_refusals_are_not() {
        let (client, mut seen, gate) = server(vec![500, 200, 422, 404]);
        gate.add_permits(100);
        let writer = writer(client);
        writer.status(&pod(), phase("Running"));
        assert_eq!(seen.recv().await.unwrap().1["status"]["phase"], "Running");
        assert_eq!(seen.recv().await.unwrap().1["status"]["phase"], "Running");
        writer.status(&pod(), phase("Odd"));
        assert_eq!(seen.recv().await.unwrap().1["status"]["phase"], "Odd");
        writer.terminated(&pod());
        assert!(seen.recv().await.unwrap().0.starts_with("DELETE"));
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !writer.pending().is_empty() {
            assert!(std::time::Instant::now() < deadline, "the writer does not end");
            tokio::task::yield_now().await;
        }
        assert!(seen.try_recv().is_err(), "nothing more is sent");
    }

    /// Against the real server: what it makes of our patches.
    #[tokio::test]
    async fn the_server_keeps_what_others_say_and_forgets_what_is_gone() {
        use svcd_apiserver::{ApiServer, User};
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(svcd_pki::Ca::load_or_create(&dir.path().join("pki")).unwrap());
        let store =
            svcd_store::Embedded::open(dir.path().join("store"), svcd_store::Options::default()).unwrap();
        let server = ApiServer::new(Arc::new(store), ca, svcd_apiserver::Config::default());
        server.bootstrap().await.unwrap();
        let client = |user| Client::new(server.in_process(user), "default");
        let pods: Objects<Pod> = Objects::namespaced(client(User::master("admin")), "default");
        let object = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "svcd.io/echo"}]},
        }))
        .unwrap();
        let made = pods.create(&object).await.unwrap();
        let foreign = json!({"status": {"conditions": [{"type": "Sunny", "status": "True"}]}});
        pods.patch_status("web", &Patch::Strategic(foreign)).await.unwrap();

        let writer = writer(client(User::new("system:node:node1", ["system:nodes"])));
        let pod = PodRef::of(&made);
        let ready = serde_json::from_value(json!({
            "phase": "Running", "podIP": "10.244.1.2", "podIPs": [{"ip": "10.244.1.2"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }))
        .unwrap();
        writer.status(&pod, ready);
        let seen = until(&pods, |status| status.phase.as_deref() == Some("Running")).await;
        assert_eq!(seen.pod_ip.as_deref(), Some("10.244.1.2"));
        assert_eq!(seen.conditions.unwrap().len(), 2);
        writer.status(&PodRef { uid: "another".into(), ..pod.clone() }, phase("Failed"));
        writer.status(&pod, phase("Succeeded"));
        let seen = until(&pods, |status| status.phase.as_deref() == Some("Succeeded")).await;
        assert_eq!((seen.pod_ip, seen.pod_ips.unwrap_or_default().len()), (None, 0));

        pods.delete("web", &DeleteParams::default()).await.unwrap();
        writer.terminated(&pod);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while pods.get_opt("web").await.unwrap().is_some() {
            assert!(std::time::Instant::now() < deadline, "the pod is not deleted");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until(pods: &Objects<Pod>, holds: impl Fn(&PodStatus) -> bool) -> PodStatus {
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            let status = pods.get("web").await.unwrap().status.unwrap_or_default();
            if holds(&status) {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "the status stays {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn pods_do_not_wait_for_each_other() {
        let (client, mut seen, gate) = server(vec![500, 500]);
        gate.add_permits(100);
        let writer = writer(client);
        let other = PodRef { name: "other".into(), ..pod() };
        writer.status(&pod(), phase("Running"));
        writer.status(&other, phase("Running"));
        let first = [seen.recv().await.unwrap().0, seen.recv().await.unwrap().0];
        assert!(
            first.iter().any(|what| what.contains("/web/"))
                && first.iter().any(|what| what.contains("/other/"))
        );
    }
}
