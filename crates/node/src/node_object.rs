//! The Node object: what this machine says of itself, and what must be sent to make the server's copy say the same.
//!
//! Pure. The server's copy is the only memory: nothing is sent when it already says what it should, so it does not matter who
//! changed it, or that it was deleted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use crate::Role;
use crate::health::{States, is_starting, problem};
use crate::system::{Capacity, Pressure};

const MAX_PODS: u32 = 110;

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) role: Role,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) capacity: Capacity,
    pub(crate) info: NodeSystemInfo,
}

impl Facts {
    /// All labels that this node wants to have.
    pub(crate) fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        let mut put = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
        put("kubernetes.io/hostname", &self.name);
        for prefix in ["kubernetes.io", "beta.kubernetes.io"] {
            put(&format!("{prefix}/os"), &self.info.operating_system);
            put(&format!("{prefix}/arch"), &self.info.architecture);
        }
        if self.role == Role::ControlPlane {
            put("node-role.kubernetes.io/control-plane", "");
        }
        labels
    }

    /// The object to register. `range` is the pod range it had when it was deleted under a running agent.
    pub(crate) fn object(&self, range: Option<String>) -> Node {
        Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(self.all_labels()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                pod_cidrs: range.clone().map(|range| vec![range]),
                pod_cidr: range,
                taints: (!self.taints.is_empty()).then(|| self.taints.clone()),
                ..NodeSpec::default()
            }),
            status: None,
        }
    }

    /// What the status should say; the times of conditions come from [`status_patch`].
    fn status(&self, states: &States, pressure: Pressure) -> NodeStatus {
        let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
        let resources: BTreeMap<String, Quantity> = [
            ("cpu", self.capacity.cpus.to_string()),
            ("memory", format!("{}Ki", self.capacity.memory_kib)),
            ("ephemeral-storage", format!("{}Ki", self.capacity.disk_kib)),
            ("pods", MAX_PODS.to_string()),
        ]
        .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
        .into();
        NodeStatus {
            addresses: Some(vec![
                address("InternalIP", self.address.to_string()),
                address("Hostname", self.name.clone()),
            ]),
            capacity: Some(resources.clone()),
            allocatable: Some(resources),
            node_info: Some(self.info.clone()),
            conditions: Some(conditions(states, pressure)),
            ..NodeStatus::default()
        }
    }
}

fn conditions(states: &States, pressure: Pressure) -> Vec<NodeCondition> {
    let condition = |type_: &str, holds: bool, reason: &str, message: String| NodeCondition {
        type_: type_.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        ..NodeCondition::default()
    };
    // The kubelet's words, which monitoring looks for.
    let pressed = |type_: &str, holds: bool, yes: &str, no: &str| {
        let (reason, word) = if holds { (yes, "too little") } else { (no, "enough") };
        condition(type_, holds, reason, format!("this machine has {word} left"))
    };
    let ready = match problem(states) {
        None => condition("Ready", true, "KubeletReady", "pod network, proxy and dns work".to_owned()),
        Some(problem) => condition("Ready", false, "KubeletNotReady", problem),
    };
    vec![
        pressed(
            "MemoryPressure",
            pressure.memory,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
        ),
        pressed("DiskPressure", pressure.disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
        pressed("PIDPressure", pressure.pids, "KubeletHasInsufficientPID", "KubeletHasSufficientPID"),
        ready,
    ]
}

/// What to PATCH (merge) into `status` so that it says what it should; `None` when it does already.
pub(crate) fn status_patch(
    facts: &Facts,
    states: &States,
    pressure: Pressure,
    actual: Option<&NodeStatus>,
    now: Timestamp,
) -> Option<Value> {
    let nothing = NodeStatus::default();
    let actual = actual.unwrap_or(&nothing);
    let mut wanted = facts.status(states, pressure);
    let before = actual.conditions.as_deref().unwrap_or_default();
    if is_starting(states) {
        stay_ready(wanted.conditions.as_deref_mut().unwrap_or_default(), before);
    }
    let mut changed = wanted.addresses != actual.addresses
        || wanted.capacity != actual.capacity
        || wanted.allocatable != actual.allocatable
        || wanted.node_info != actual.node_info;
    let ours = wanted.conditions.get_or_insert_default();
    for condition in &mut *ours {
        changed |= settle(condition, before.iter().find(|old| old.type_ == condition.type_), now);
    }
    if !changed {
        return None;
    }
    // A merge patch replaces the whole list: what others wrote into it stays.
    let foreign = before.iter().filter(|old| !ours.iter().any(|own| own.type_ == old.type_));
    let all: Vec<NodeCondition> = foreign.cloned().chain(ours.iter().cloned()).collect();
    wanted.conditions = Some(all);
    Some(json!({ "status": wanted }))
}

/// An agent that was ready and starts again has left rules, links and pods in place: the node is as ready as it was, until a
/// part says otherwise. Saying NotReady meanwhile would take its pods out of every Service.
fn stay_ready(conditions: &mut [NodeCondition], before: &[NodeCondition]) {
    let was_ready = before.iter().find(|old| old.type_ == "Ready" && old.status == "True");
    let slot = conditions.iter_mut().find(|condition| condition.type_ == "Ready");
    if let (Some(old), Some(slot)) = (was_ready, slot) {
        *slot = old.clone();
    }
}

/// Gives a condition its times, and says whether it differs from what the server has. One that does not keeps its times, so that
/// sending it again changes nothing and cannot wake its own sender.
fn settle(condition: &mut NodeCondition, before: Option<&NodeCondition>, now: Timestamp) -> bool {
    let same_status = before.filter(|old| old.status == condition.status);
    let same = same_status.filter(|old| old.reason == condition.reason && old.message == condition.message);
    let kept = |old: Option<&NodeCondition>, time: fn(&NodeCondition) -> Option<&Time>| {
        old.and_then(time).cloned().or(Some(Time(now)))
    };
    condition.last_heartbeat_time = kept(same, |old| old.last_heartbeat_time.as_ref());
    condition.last_transition_time = kept(same_status, |old| old.last_transition_time.as_ref());
    same.is_none()
}

/// What to PATCH (merge) into the labels; `None` when they are there already.
pub(crate) fn label_patch(facts: &Facts, actual: &Node) -> Option<Value> {
    let have = actual.metadata.labels.as_ref();
    let missing: BTreeMap<String, String> = facts
        .all_labels()
        .into_iter()
        .filter(|(key, value)| have.and_then(|labels| labels.get(key)) != Some(value))
        .collect();
    (!missing.is_empty()).then(|| json!({ "metadata": { "labels": missing } }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Part;

    fn facts() -> Facts {
        Facts {
            name: "node1".into(),
            address: [192, 168, 56, 21].into(),
            role: Role::Worker,
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            taints: Vec::new(),
            capacity: Capacity { cpus: 2, memory_kib: 1024, disk_kib: 2048 },
            info: NodeSystemInfo {
                operating_system: "linux".into(),
                architecture: "amd64".into(),
                ..Default::default()
            },
        }
    }

    fn states(dns: Result<(), &str>) -> States {
        [(Part::Proxy, Ok(())), (Part::Dns, dns.map_err(str::to_owned))].into()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The status after the server has taken the patch.
    fn patched(patch: Value) -> NodeStatus {
        serde_json::from_value(patch["status"].clone()).unwrap()
    }

    fn condition<'a>(status: &'a NodeStatus, type_: &str) -> &'a NodeCondition {
        status.conditions.as_ref().unwrap().iter().find(|c| c.type_ == type_).unwrap()
    }

    #[test]
    fn registers_with_labels_and_taints() {
        let mut facts = facts();
        facts.role = Role::ControlPlane;
        facts.taints = vec![crate::control_plane_taint()];
        let node = facts.object(None);
        let labels = node.metadata.labels.unwrap();
        assert_eq!(labels["kubernetes.io/hostname"], "node1");
        assert_eq!(labels["kubernetes.io/os"], "linux");
        assert_eq!(labels["kubernetes.io/arch"], "amd64");
        assert_eq!(labels["node-role.kubernetes.io/control-plane"], "");
        assert_eq!(labels["zone"], "a");
        assert_eq!(node.spec.unwrap().taints.unwrap()[0].effect, "NoSchedule");
    }

    #[test]
    fn nothing_is_sent_when_nothing_changed() {
        let first = status_patch(&facts(), &states(Ok(())), Pressure::default(), None, at(1)).unwrap();
        let status = patched(first);
        assert_eq!(condition(&status, "Ready").status, "True");
        assert_eq!(status.addresses.as_ref().unwrap()[0].address, "192.168.56.21");
        assert_eq!(status_patch(&facts(), &states(Ok(())), Pressure::default(), Some(&status), at(9)), None);
    }

    #[test]
    fn transition_times_move_with_the_status_only() {
        let status = patched(
            status_patch(&facts(), &states(Err("starting")), Pressure::default(), None, at(1)).unwrap(),
        );
        assert_eq!(condition(&status, "Ready").message.as_deref(), Some("dns: starting"));
        let later = patched(
            status_patch(&facts(), &states(Err("port 53")), Pressure::default(), Some(&status), at(5))
                .unwrap(),
        );
        assert_eq!(condition(&later, "Ready").last_transition_time, Some(Time(at(1))));
        let ready = patched(
            status_patch(&facts(), &states(Ok(())), Pressure::default(), Some(&later), at(9)).unwrap(),
        );
        assert_eq!(condition(&ready, "Ready").last_transition_time, Some(Time(at(9))));
        assert_eq!(condition(&ready, "DiskPressure").last_transition_time, Some(Time(at(1))));
    }

    #[test]
    fn a_restart_is_no_reason_to_be_not_ready_but_a_broken_part_is() {
        let ready =
            patched(status_patch(&facts(), &states(Ok(())), Pressure::default(), None, at(1)).unwrap());
        let starting = states(Err("starting"));
        assert_eq!(status_patch(&facts(), &starting, Pressure::default(), Some(&ready), at(5)), None);
        let broken = states(Err("port 53 is busy"));
        let status =
            patched(status_patch(&facts(), &broken, Pressure::default(), Some(&ready), at(5)).unwrap());
        assert_eq!(condition(&status, "Ready").status, "False");
    }

    #[test]
    fn a_verdict_of_others_is_corrected_and_their_conditions_stay() {
        let mut status =
            patched(status_patch(&facts(), &states(Ok(())), Pressure::default(), None, at(1)).unwrap());
        let all = status.conditions.as_mut().unwrap();
        all.iter_mut().find(|c| c.type_ == "Ready").unwrap().status = "Unknown".into();
        all.push(NodeCondition { type_: "Sunny".into(), status: "True".into(), ..Default::default() });
        let fixed = patched(
            status_patch(&facts(), &states(Ok(())), Pressure::default(), Some(&status), at(2)).unwrap(),
        );
        assert_eq!(condition(&fixed, "Ready").status, "True");
        assert_eq!(condition(&fixed, "Sunny").status, "True");
    }

    #[test]
    fn pressure_is_told() {
        let pressure = Pressure { memory: true, ..Default::default() };
        let status = patched(status_patch(&facts(), &states(Ok(())), pressure, None, at(1)).unwrap());
        let memory = condition(&status, "MemoryPressure");
        assert_eq!(
            (memory.status.as_str(), memory.reason.as_deref()),
            ("True", Some("KubeletHasInsufficientMemory"))
        );
        let pids = condition(&status, "PIDPressure");
        assert_eq!(
            (pids.status.as_str(), pids.reason.as_deref()),
            ("False", Some("KubeletHasSufficientPID"))
        );
    }

    #[test]
    fn only_missing_labels_are_sent() {
        let mut node = facts().object(None);
        node.metadata.labels.as_mut().unwrap().insert("theirs".into(), "x".into());
        assert_eq!(label_patch(&facts(), &node), None);
        node.metadata.labels.as_mut().unwrap().remove("zone");
        assert_eq!(label_patch(&facts(), &node).unwrap(), json!({"metadata": {"labels": {"zone": "a"}}}));
    }
}
