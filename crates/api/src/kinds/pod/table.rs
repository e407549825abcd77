//! Pods as `kubectl get` shows them. The status is what hurts most: the reason of a waiting or ended container beats
//! the phase, an init container that has not finished beats both, and a pod being deleted is Terminating.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodSpec, PodStatus};
use serde_json::{Value, json};

use crate::kind::Column;
use crate::table;

pub(super) const COLUMNS: &[Column] = &[
    table::NAME,
    table::text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    table::text("Status", "The aggregate status of the containers in this pod."),
    table::text(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    table::AGE,
    table::wide(
        "IP",
        "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.",
    ),
    table::wide(
        "Node",
        "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by the scheduler defined in schedulerName. Once this field is set, the kubelet for this node becomes responsible for the lifecycle of this pod. This field should not be used to express a desire for the pod to be scheduled on a specific node. https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodename",
    ),
    table::wide(
        "Nominated Node",
        "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods. This field does not guarantee that the pod will be scheduled on this node. Scheduler may decide to place the pod elsewhere if other nodes become available sooner. Scheduler may also decide to give the resources on this node to a higher priority pod that is created after preemption. As a result, this field may be different than PodSpec.nodeName when the pod is scheduled.",
    ),
    table::wide(
        "Readiness Gates",
        "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers are ready AND all conditions specified in the readiness gates have status equal to \"True\" More info: https://git.k8s.io/enhancements/keps/sig-network/580-pod-readiness-gates",
    ),
];

pub(super) fn cells(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let status = pod.status.as_ref().unwrap_or(&no_status);
    let seen = Seen::of(pod, spec, status);
    let restarts = match (seen.restarts, seen.last_restart) {
        (0, _) | (_, None) => seen.restarts.to_string(),
        (count, Some(at)) => format!("{count} ({} ago)", table::since_timestamp(at, now)),
    };
    let ip = status.pod_ips.iter().flatten().next().map(|ip| &ip.ip).or(status.pod_ip.as_ref());
    let or_none =
        |text: Option<&String>| json!(text.filter(|t| !t.is_empty()).map_or(table::NONE, String::as_str));
    vec![
        table::name(&pod.metadata),
        json!(format!("{}/{}", seen.ready, seen.total)),
        json!(seen.reason),
        json!(restarts),
        table::age(&pod.metadata, now),
        or_none(ip),
        or_none(spec.node_name.as_ref()),
        or_none(status.nominated_node_name.as_ref()),
        json!(readiness_gates(spec, status)),
    ]
}

/// What the containers add up to.
struct Seen {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i32,
    last_restart: Option<Timestamp>,
}

impl Seen {
    fn of(pod: &Pod, spec: &PodSpec, status: &PodStatus) -> Self {
        let set = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let reason = set(&status.reason).or_else(|| set(&status.phase)).unwrap_or_default();
        let mut seen =
            Self { reason, ready: 0, total: spec.containers.len(), restarts: 0, last_restart: None };
        if has_condition(status, "PodScheduled", |c| c.reason.as_deref() == Some("SchedulingGated")) {
            seen.reason = "SchedulingGated".to_owned();
        }
        let initializing = seen.add_init_containers(spec, status);
        if !initializing || has_condition(status, "Initialized", |c| c.status == "True") {
            seen.add_containers(spec, status);
        }
        seen.note_deletion(pod, status);
        seen
    }

    fn count_restarts(&mut self, container: &ContainerStatus) {
        self.restarts += container.restart_count;
        let ended = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        let at = ended.and_then(|t| t.finished_at.as_ref()).map(|t| t.0);
        self.last_restart = self.last_restart.max(at);
    }

    /// True while an init container has not done its part.
    fn add_init_containers(&mut self, spec: &PodSpec, status: &PodStatus) -> bool {
        let containers = spec.init_containers.as_deref().unwrap_or_default();
        self.total += containers.iter().filter(|c| is_sidecar(c)).count();
        for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
            self.count_restarts(container);
            if names_sidecar(containers, &container.name) && container.started == Some(true) {
                self.ready += usize::from(container.ready);
                continue;
            }
            let state = container.state.as_ref();
            if let Some(ended) = state.and_then(|s| s.terminated.as_ref()) {
                if ended.exit_code == 0 {
                    continue;
                }
                self.reason = format!("Init:{}", ended_reason(ended));
            } else {
                let waiting = state.and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
                self.reason = match waiting {
                    Some(reason) if !reason.is_empty() && reason != "PodInitializing" => {
                        format!("Init:{reason}")
                    }
                    _ => format!("Init:{index}/{}", containers.len()),
                };
            }
            return true;
        }
        false
    }

    fn add_containers(&mut self, spec: &PodSpec, status: &PodStatus) {
        // Restarts of init containers stop counting once they are done, except for those that go on.
        (self.restarts, self.last_restart) = (0, None);
        let containers = spec.init_containers.as_deref().unwrap_or_default();
        for container in status.init_container_statuses.iter().flatten() {
            if names_sidecar(containers, &container.name) {
                self.count_restarts(container);
            }
        }
        let mut is_running = false;
        for container in status.container_statuses.iter().flatten().rev() {
            self.count_restarts(container);
            let empty = ContainerState::default();
            let state = container.state.as_ref().unwrap_or(&empty);
            let waiting = state.waiting.as_ref().and_then(|w| w.reason.clone()).filter(|r| !r.is_empty());
            if let Some(reason) = waiting {
                self.reason = reason;
            } else if let Some(ended) = &state.terminated {
                self.reason = ended_reason(ended);
            } else if container.ready && state.running.is_some() {
                is_running = true;
                self.ready += 1;
            }
        }
        // One container has completed, another still runs.
        if self.reason == "Completed" && is_running {
            let is_ready = has_condition(status, "Ready", |c| c.status == "True");
            self.reason = if is_ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn note_deletion(&mut self, pod: &Pod, status: &PodStatus) {
        if pod.metadata.deletion_timestamp.is_none() {
            return;
        }
        let phase = status.phase.as_deref().unwrap_or_default();
        if status.reason.as_deref() == Some("NodeLost") {
            self.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            self.reason = "Terminating".to_owned();
        }
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn names_sidecar(containers: &[Container], name: &str) -> bool {
    containers.iter().any(|c| c.name == name && is_sidecar(c))
}

fn ended_reason(ended: &k8s_openapi::api::core::v1::ContainerStateTerminated) -> String {
    match (ended.reason.as_deref(), ended.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended.exit_code),
    }
}

fn has_condition(
    status: &PodStatus,
    kind: &str,
    holds: impl Fn(&k8s_openapi::api::core::v1::PodCondition) -> bool,
) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == kind && holds(c))
}

/// `1/2`, or `<none>`.
fn readiness_gates(spec: &PodSpec, status: &PodStatus) -> String {
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if gates.is_empty() {
        return table::NONE.to_owned();
    }
    let open = gates
        .iter()
        .filter(|gate| has_condition(status, &gate.condition_type, |c| c.status == "True"))
        .count();
    format!("{open}/{}", gates.len())
}
