//! The PodStatus that a pod's containers add up to, in the kubelet's words. Pure.
//!
//! What others own in a status (`PodScheduled`, conditions of readiness gates, `qosClass`) is handed through.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};

use crate::model::{Kind, Model, RestartPolicy, Run, State};
use crate::runtime::Exit;
use crate::time::whole;

/// What the status is made from, beyond the containers.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    /// The status last reported, or the API's.
    pub(crate) previous: Option<&'a PodStatus>,
    pub(crate) uid: &'a str,
    pub(crate) pod_ip: Option<Ipv4Addr>,
    pub(crate) host_ip: Ipv4Addr,
    pub(crate) now: Timestamp,
}

const OURS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

pub(crate) fn status(model: &Model, facts: &Facts<'_>) -> PodStatus {
    let phase = phase(model);
    let ip = facts.pod_ip.map(|ip| ip.to_string());
    let host_ip = facts.host_ip.to_string();
    let statuses = |init: bool| -> Vec<ContainerStatus> {
        let mut all: Vec<_> = model
            .runs
            .iter()
            .filter(|run| (run.kind != Kind::Main) == init)
            .map(|run| container_status(run, facts))
            .collect();
        if !init {
            // Upstream sorts these by name, and init containers by their order.
            all.sort_by(|one, other| one.name.cmp(&other.name));
        }
        all
    };
    let init = statuses(true);
    let generation = facts.pod.metadata.generation;
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions(model, facts, phase, generation)),
        container_statuses: Some(statuses(false)),
        init_container_statuses: if init.is_empty() { None } else { Some(init) },
        host_ip: Some(host_ip.clone()),
        host_ips: Some(vec![HostIP { ip: host_ip }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        start_time: facts
            .previous
            .and_then(|status| status.start_time.clone())
            .or_else(|| Some(whole(facts.now))),
        observed_generation: generation,
        ..facts.pod.status.clone().unwrap_or_default()
    }
}

/// Upstream's rule: waiting containers that never ran keep a pod pending, whatever the others do.
fn phase(model: &Model) -> &'static str {
    let never = model.policy == RestartPolicy::Never;
    for run in model.runs.iter().filter(|run| run.kind == Kind::Init) {
        match &run.state {
            State::Exited(exit) if exit.code == 0 => {}
            State::Exited(_) if never => return "Failed",
            _ => return "Pending",
        }
    }
    if model.runs.iter().any(|run| run.kind == Kind::Sidecar && run.starts == 0) {
        return "Pending";
    }
    let main = || model.runs.iter().filter(|run| run.kind == Kind::Main);
    let ended = |run: &Run| match &run.state {
        State::Exited(exit) => Some(exit.code),
        State::Waiting { .. } => run.last.as_ref().map(|exit| exit.code),
        State::Running { .. } => None,
    };
    if main().any(|run| matches!(run.state, State::Waiting { .. }) && run.last.is_none()) {
        return "Pending";
    }
    if main().any(|run| matches!(run.state, State::Running { .. })) || model.policy == RestartPolicy::Always {
        return "Running";
    }
    if main().all(|run| ended(run) == Some(0)) {
        return "Succeeded";
    }
    if never { "Failed" } else { "Running" }
}

/// The phase of a pod that was told to end: all has ended, whatever the policy says.
pub(crate) fn ended_phase(model: &Model) -> &'static str {
    let failed = |run: &Run| !matches!(&run.state, State::Exited(exit) if exit.code == 0);
    if model.runs.iter().any(|run| run.kind == Kind::Main && failed(run)) { "Failed" } else { "Succeeded" }
}

/// What a status says about readiness, and since when.
pub(crate) fn ready(status: &PodStatus) -> Option<(&str, Timestamp)> {
    let ready = status.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")?;
    Some((&ready.status, ready.last_transition_time.as_ref()?.0))
}

fn container_status(run: &Run, facts: &Facts<'_>) -> ContainerStatus {
    let container = container(facts.pod, &run.name);
    let image = container.and_then(|container| container.image.clone()).unwrap_or_default();
    let id = run.id(facts.uid).map(|id| id.to_string());
    let state = match &run.state {
        State::Waiting { reason, message, .. } => ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.clone()), message: message.clone() }),
            ..ContainerState::default()
        },
        State::Running { since } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(whole(*since)) }),
            ..ContainerState::default()
        },
        State::Exited(exit) => terminated(exit, id.clone()),
    };
    let before = run.starts.checked_sub(match run.state {
        State::Waiting { .. } => 1,
        _ => 2,
    });
    let last_id = before.map(|attempt| {
        crate::runtime::ContainerId { uid: facts.uid.to_owned(), name: run.name.clone(), attempt }.to_string()
    });
    let running = matches!(run.state, State::Running { .. });
    let done = run.kind == Kind::Init && matches!(&run.state, State::Exited(exit) if exit.code == 0);
    ContainerStatus {
        name: run.name.clone(),
        image_id: if run.starts > 0 { image.clone() } else { String::new() },
        image,
        container_id: id,
        ready: (running && run.ready) || done,
        started: Some(running && run.started),
        restart_count: i32::try_from(run.starts.saturating_sub(1)).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(
            run.last.as_ref().map_or_else(ContainerState::default, |exit| terminated(exit, last_id)),
        ),
        ..ContainerStatus::default()
    }
}

fn terminated(exit: &Exit, id: Option<String>) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: id,
            exit_code: exit.code,
            signal: None,
            reason: Some(exit.reason.clone()),
            message: exit.message.clone(),
            started_at: Some(whole(exit.started_at)),
            finished_at: Some(whole(exit.finished_at)),
        }),
        ..ContainerState::default()
    }
}

/// A container of a pod by its name, init containers included.
pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.find(|container| container.name == name)
}

/// A verdict of a condition: met, or why not.
type Verdict = Result<Option<&'static str>, (&'static str, String)>;

fn conditions(model: &Model, facts: &Facts<'_>, phase: &str, generation: Option<i64>) -> Vec<PodCondition> {
    let containers = containers_ready(model, phase);
    let ready = match &containers {
        Ok(_) => gates(facts.pod),
        Err(reason) => Err(reason.clone()),
    };
    let sandbox = if facts.pod_ip.is_some() { Ok(None) } else { Err(("", String::new())) };
    let verdicts = [sandbox, initialized(model, phase), ready, containers];
    let mut all: Vec<PodCondition> = OURS
        .into_iter()
        .zip(verdicts)
        .map(|(type_, verdict)| condition(type_, verdict, facts, generation))
        .collect();
    let others = facts.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.extend(others.filter(|condition| !OURS.contains(&condition.type_.as_str())).cloned());
    all
}

fn initialized(model: &Model, phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return Ok(Some("PodCompleted"));
    }
    let open = |run: &&Run| match run.kind {
        Kind::Init => !matches!(&run.state, State::Exited(exit) if exit.code == 0),
        Kind::Sidecar => !run.started,
        Kind::Main => false,
    };
    let names: Vec<_> = model.runs.iter().filter(open).map(|run| run.name.as_str()).collect();
    if names.is_empty() || phase == "Running" {
        return Ok(None);
    }
    Err(("ContainersNotInitialized", format!("containers with incomplete status: [{}]", names.join(" "))))
}

fn containers_ready(model: &Model, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Err(("PodCompleted", String::new())),
        "Failed" => return Err(("PodFailed", String::new())),
        _ => {}
    }
    let lasting = model.runs.iter().filter(|run| run.kind != Kind::Init);
    let unready: Vec<_> = lasting
        .filter(|run| !(run.ready && matches!(run.state, State::Running { .. })))
        .map(|run| run.name.as_str())
        .collect();
    if unready.is_empty() {
        return Ok(None);
    }
    Err(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))))
}

fn gates(pod: &Pod) -> Verdict {
    let conditions = || pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let messages: Vec<_> = gates
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match conditions().find(|condition| condition.type_ == *name) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate \"{name}\" does not exist."))
                }
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if messages.is_empty() { Ok(None) } else { Err(("ReadinessGatesNotReady", messages.join(", "))) }
}

fn condition(type_: &str, verdict: Verdict, facts: &Facts<'_>, generation: Option<i64>) -> PodCondition {
    let some = |text: &str| if text.is_empty() { None } else { Some(text.to_owned()) };
    let (status, reason, message) = match verdict {
        Ok(reason) => ("True", reason.map(ToOwned::to_owned), None),
        Err((reason, message)) => ("False", some(reason), some(&message)),
    };
    let before = facts
        .previous
        .and_then(|status| status.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_))
        .filter(|condition| condition.status == status);
    let since = before.and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        last_probe_time: None,
        last_transition_time: since.or_else(|| Some(whole(facts.now))),
        observed_generation: generation,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::tests::{at, exit, start};

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "generation": 3},
            "spec": spec,
            "status": {"qosClass": "BestEffort", "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        }))
        .unwrap()
    }

    fn report(pod: &Pod, model: &Model, previous: Option<&PodStatus>, now: i64) -> PodStatus {
        let facts = Facts {
            pod,
            previous,
            uid: "u",
            pod_ip: Some(Ipv4Addr::new(10, 244, 1, 5)),
            host_ip: Ipv4Addr::new(192, 168, 56, 21),
            now: at(now),
        };
        status(model, &facts)
    }

    fn told<'a>(status: &'a PodStatus, type_: &str) -> (&'a str, Option<&'a str>, Option<&'a str>, i64) {
        let all = status.conditions.as_ref().unwrap();
        let found = all.iter().find(|condition| condition.type_ == type_).unwrap();
        let since = found.last_transition_time.as_ref().unwrap().0.as_second();
        (&found.status, found.reason.as_deref(), found.message.as_deref(), since)
    }

    #[test]
    fn a_running_pod_reads_as_from_a_kubelet() {
        let pod = pod(
            json!({"containers": [{"name": "b", "image": "svcd.io/echo"}, {"name": "a", "image": "svcd.io/host"}]}),
        );
        let mut model = Model::new(pod.spec.as_ref().unwrap());
        let before = report(&pod, &model, None, 1);
        assert_eq!(before.phase.as_deref(), Some("Pending"));
        assert_eq!(
            told(&before, "Ready"),
            ("False", Some("ContainersNotReady"), Some("containers with unready status: [b a]"), 1)
        );
        start(&mut model, 2);
        let status = report(&pod, &model, Some(&before), 3);
        let value = serde_json::to_value(&status).unwrap();
        let containers = value["containerStatuses"].as_array().unwrap();
        assert_eq!(
            containers[0],
            json!({"name": "a", "image": "svcd.io/host", "imageID": "svcd.io/host", "containerID": "svcd://u-a-0",
                "ready": true, "started": true, "restartCount": 0, "lastState": {},
                "state": {"running": {"startedAt": "1970-01-01T00:00:02Z"}}})
        );
        assert_eq!(value["podIP"], "10.244.1.5");
        assert_eq!(value["podIPs"], json!([{"ip": "10.244.1.5"}]));
        assert_eq!(value["hostIPs"], json!([{"ip": "192.168.56.21"}]));
        assert_eq!(value["startTime"], "1970-01-01T00:00:01Z");
        assert_eq!(value["qosClass"], "BestEffort");
        assert_eq!(value["observedGeneration"], 3);
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert_eq!(told(&status, "Ready"), ("True", None, None, 3));
        assert_eq!(told(&status, "Initialized"), ("True", None, None, 1), "unchanged since");
        assert_eq!(told(&status, "PodScheduled").3, 1_767_225_600);
        let order: Vec<_> =
            status.conditions.as_ref().unwrap().iter().map(|one| one.type_.as_str()).collect();
        assert_eq!(
            order,
            ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
        );
        assert_eq!(report(&pod, &model, Some(&status), 99), status, "nothing new, nothing changed");
    }

    #[test]
    fn phases() {
        let cases: [(&str, Option<i32>, &str, &str); 7] = [
            ("Always", Some(0), "Running", "ContainersNotReady"),
            ("Always", Some(1), "Running", "ContainersNotReady"),
            ("OnFailure", Some(0), "Succeeded", "PodCompleted"),
            ("OnFailure", Some(1), "Running", "ContainersNotReady"),
            ("Never", Some(0), "Succeeded", "PodCompleted"),
            ("Never", Some(1), "Failed", "PodFailed"),
            ("Never", None, "Pending", "ContainersNotReady"),
        ];
        for (policy, code, phase, reason) in cases {
            let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
            let mut model = Model::new(pod.spec.as_ref().unwrap());
            if let Some(code) = code {
                start(&mut model, 1);
                model.run_mut("a").unwrap().exited(exit(code, 2));
            }
            let status = report(&pod, &model, None, 3);
            assert_eq!(status.phase.as_deref(), Some(phase), "{policy} {code:?}");
            assert_eq!(told(&status, "Ready").1, Some(reason), "{policy} {code:?}");
        }
    }

    #[test]
    fn a_crash_shows_in_last_state_and_count() {
        let pod = pod(json!({"containers": [{"name": "a", "image": "svcd.io/host"}]}));
        let mut model = Model::new(pod.spec.as_ref().unwrap());
        start(&mut model, 1);
        model.run_mut("a").unwrap().exited(exit(1, 2));
        start(&mut model, 2);
        model.run_mut("a").unwrap().exited(exit(7, 3));
        model.plan(at(3));
        let status = report(&pod, &model, None, 4);
        let value = serde_json::to_value(&status.container_statuses.unwrap()[0]).unwrap();
        assert_eq!(value["state"]["waiting"]["reason"], "CrashLoopBackOff");
        assert_eq!(value["lastState"]["terminated"]["exitCode"], 7);
        assert_eq!(value["lastState"]["terminated"]["containerID"], "svcd://u-a-1");
        assert_eq!(value["restartCount"], 1);
        assert_eq!(value["ready"], false);
        assert_eq!(status.phase.as_deref(), Some("Running"));
    }

    #[test]
    fn initialising_is_told_by_name() {
        let pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
        let mut model = Model::new(pod.spec.as_ref().unwrap());
        start(&mut model, 1);
        let status = report(&pod, &model, None, 2);
        assert_eq!(
            told(&status, "Initialized"),
            ("False", Some("ContainersNotInitialized"), Some("containers with incomplete status: [i]"), 2)
        );
        let waiting = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
        assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
        model.run_mut("i").unwrap().exited(exit(0, 3));
        start(&mut model, 3);
        let status = report(&pod, &model, None, 4);
        assert!(status.init_container_statuses.as_ref().unwrap()[0].ready);
        assert_eq!(told(&status, "Initialized").0, "True");
    }

    #[test]
    fn readiness_gates_hold_a_pod_back() {
        let pod = pod(
            json!({"readinessGates": [{"conditionType": "example.com/lb"}], "containers": [{"name": "a"}]}),
        );
        let mut model = Model::new(pod.spec.as_ref().unwrap());
        start(&mut model, 1);
        let status = report(&pod, &model, None, 2);
        assert_eq!(told(&status, "ContainersReady").0, "True");
        assert_eq!(told(&status, "Ready").1, Some("ReadinessGatesNotReady"));
    }
}
