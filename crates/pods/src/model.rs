//! A pod's containers as a state machine: what has happened to each, and what must be done next. Pure: time comes in
//! as an argument, and starting is somebody else's work.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::backoff::Backoff;
use crate::runtime::{ContainerId, Exit, Record};
use crate::time::after;

/// How long a container waits that could not be made because of something that may yet appear.
pub(crate) const CONFIG_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs to its end before the next.
    Init,
    /// An init container with `restartPolicy: Always`: stays beside the others.
    Sidecar,
    /// What the pod is for.
    Main,
}

/// When a container that waits may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// As soon as it is its turn.
    Now,
    /// Not before.
    At(Timestamp),
    /// Not as the pod stands.
    Never,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting { reason: String, message: Option<String>, retry: Retry },
    Running { since: Timestamp },
    Exited(Exit),
}

/// One container of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) state: State,
    /// How the start before the present one ended.
    pub(crate) last: Option<Exit>,
    /// How often it was started.
    pub(crate) starts: u32,
    pub(crate) ready: bool,
    /// The startup probe, if any, has succeeded.
    pub(crate) started: bool,
    /// A kill is on its way.
    pub(crate) killing: bool,
    backoff: Backoff,
}

/// When a pod's containers are started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub(crate) fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    fn again(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// All containers of a pod, init containers first.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) runs: Vec<Run>,
    pub(crate) policy: RestartPolicy,
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Containers to start.
    pub(crate) start: Vec<String>,
    /// Containers that have just begun to wait for their next start.
    pub(crate) backed_off: Vec<String>,
    /// When to ask again, if nothing happens before.
    pub(crate) wake: Option<Timestamp>,
}

impl Model {
    pub(crate) fn new(spec: &PodSpec) -> Self {
        let init =
            spec.init_containers.iter().flatten().map(|container| Run::new(container, init_kind(container)));
        let main = spec.containers.iter().map(|container| Run::new(container, Kind::Main));
        let mut runs: Vec<Run> = init.chain(main).collect();
        if runs.iter().any(|run| run.kind != Kind::Main) {
            for run in runs.iter_mut().filter(|run| run.kind == Kind::Main) {
                run.state = waiting("PodInitializing");
            }
        }
        Self { runs, policy: RestartPolicy::of(spec) }
    }

    pub(crate) fn run(&self, name: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.name == name)
    }

    pub(crate) fn run_mut(&mut self, name: &str) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.name == name)
    }

    /// Takes up what an earlier agent left: the records of one pod, oldest first.
    pub(crate) fn adopt(&mut self, records: &[Record]) {
        for record in records {
            let Some(run) = self.run_mut(&record.id.name) else { continue };
            if let State::Exited(exit) = &run.state {
                run.last = Some(exit.clone());
            }
            run.starts = record.id.attempt + 1;
            run.state = match &record.exit {
                Some(exit) => State::Exited(exit.clone()),
                None => State::Running { since: record.started_at },
            };
        }
    }

    /// The network was lost, with a reboot perhaps: what had been initialised must be so again.
    pub(crate) fn initialise_again(&mut self) {
        for run in self.runs.iter_mut().filter(|run| run.kind == Kind::Init) {
            if let State::Exited(exit) = &run.state {
                run.last = Some(exit.clone());
                run.state = waiting("PodInitializing");
            }
        }
    }

    /// Decides what comes next; containers that ended and may not start yet begin to wait.
    pub(crate) fn plan(&mut self, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        let policy = self.policy;
        for run in &mut self.runs {
            let blocks = match run.kind {
                Kind::Init if matches!(&run.state, State::Exited(exit) if exit.code == 0) => false,
                Kind::Init => {
                    // An init container that succeeded is done, whatever the policy says.
                    let policy =
                        if policy == RestartPolicy::Always { RestartPolicy::OnFailure } else { policy };
                    run.drive(policy, now, &mut plan);
                    true
                }
                Kind::Sidecar => {
                    run.drive(RestartPolicy::Always, now, &mut plan);
                    !(matches!(run.state, State::Running { .. }) && run.started)
                }
                Kind::Main => {
                    run.drive(policy, now, &mut plan);
                    false
                }
            };
            if blocks {
                break;
            }
        }
        plan
    }

    /// Whether nothing runs.
    pub(crate) fn idle(&self) -> bool {
        !self.runs.iter().any(|run| matches!(run.state, State::Running { .. }))
    }
}

fn init_kind(container: &Container) -> Kind {
    if container.restart_policy.as_deref() == Some("Always") { Kind::Sidecar } else { Kind::Init }
}

pub(crate) fn waiting(reason: &str) -> State {
    State::Waiting { reason: reason.to_owned(), message: None, retry: Retry::Now }
}

impl Run {
    fn new(container: &Container, kind: Kind) -> Self {
        Self {
            name: container.name.clone(),
            kind,
            state: waiting("ContainerCreating"),
            last: None,
            starts: 0,
            ready: false,
            started: false,
            killing: false,
            backoff: Backoff::default(),
        }
    }

    /// The present or latest start; `None` before the first.
    pub(crate) fn id(&self, uid: &str) -> Option<ContainerId> {
        let attempt = self.starts.checked_sub(1)?;
        Some(ContainerId { uid: uid.to_owned(), name: self.name.clone(), attempt })
    }

    fn drive(&mut self, policy: RestartPolicy, now: Timestamp, plan: &mut Plan) {
        if let State::Exited(exit) = &self.state {
            if !policy.again(exit.code) {
                return;
            }
            let due = self.backoff.due(exit.finished_at);
            if due > now {
                plan.backed_off.push(self.name.clone());
            }
            self.last = Some(exit.clone());
            self.state = State::Waiting {
                reason: "CrashLoopBackOff".to_owned(),
                message: Some(format!(
                    "back-off {} restarting failed container={}",
                    human(self.backoff.delay()),
                    self.name
                )),
                retry: Retry::At(due),
            };
        }
        match &self.state {
            State::Waiting { retry: Retry::Now, .. } => plan.start.push(self.name.clone()),
            State::Waiting { retry: Retry::At(due), .. } if *due <= now => plan.start.push(self.name.clone()),
            State::Waiting { retry: Retry::At(due), .. } => {
                plan.wake = Some(plan.wake.map_or(*due, |wake| wake.min(*due)));
            }
            _ => {}
        }
    }

    /// It is about to be started: counts, and moves the back-off on when this is a restart.
    pub(crate) fn starting(&mut self, now: Timestamp) -> u32 {
        if self.starts > 0 {
            self.backoff.restarted(now);
        }
        self.starts += 1;
        self.ready = false;
        self.started = false;
        self.killing = false;
        self.starts - 1
    }

    /// The start could not even be tried.
    pub(crate) fn refused(&mut self, reason: &str, message: String, retry: Retry) {
        self.state = State::Waiting { reason: reason.to_owned(), message: Some(message), retry };
    }

    /// As [`refused`](Self::refused), to be tried again soon.
    pub(crate) fn refused_for_now(&mut self, reason: &str, message: String, now: Timestamp) {
        self.refused(reason, message, Retry::At(after(now, CONFIG_RETRY)));
    }

    pub(crate) fn exited(&mut self, exit: Exit) {
        self.state = State::Exited(exit);
        self.ready = false;
        self.started = false;
        self.killing = false;
    }
}

/// As Go prints durations: `10s`, `1m20s`, `5m0s`.
fn human(delay: std::time::Duration) -> String {
    let seconds = delay.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    pub(crate) fn exit(code: i32, second: i64) -> Exit {
        Exit {
            code,
            signal: None,
            reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
            message: None,
            started_at: at(second - 1),
            finished_at: at(second),
        }
    }

    pub(crate) fn model(spec: &str) -> Model {
        Model::new(&serde_json::from_str(spec).unwrap())
    }

    /// Does what plans say until they say nothing, all starts succeeding.
    pub(crate) fn start(model: &mut Model, now: i64) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let plan = model.plan(at(now));
            if plan.start.is_empty() {
                return all;
            }
            for name in plan.start {
                let run = model.run_mut(&name).unwrap();
                run.starting(at(now));
                run.started = true;
                run.ready = true;
                run.state = State::Running { since: at(now) };
                all.push(name);
            }
        }
    }

    #[test]
    fn init_containers_run_one_after_the_other_then_all_others() {
        let mut model = model(
            r#"{"initContainers": [{"name": "i1"}, {"name": "side", "restartPolicy": "Always"}, {"name": "i2"}],
                "containers": [{"name": "a"}, {"name": "b"}]}"#,
        );
        assert_eq!(start(&mut model, 1), ["i1"]);
        assert_eq!(start(&mut model, 2), [""; 0]);
        model.run_mut("i1").unwrap().exited(exit(0, 3));
        assert_eq!(start(&mut model, 3), ["side", "i2"]);
        model.run_mut("i2").unwrap().exited(exit(1, 4));
        assert_eq!(start(&mut model, 4), ["i2"], "a failed init container is tried again");
        model.run_mut("i2").unwrap().exited(exit(0, 5));
        assert_eq!(start(&mut model, 5), ["a", "b"]);
    }

    #[test]
    fn a_failed_init_container_ends_a_pod_that_never_restarts() {
        let mut model = model(
            r#"{"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}"#,
        );
        start(&mut model, 1);
        model.run_mut("i").unwrap().exited(exit(1, 2));
        assert_eq!(model.plan(at(3)), Plan::default());
    }

    #[test]
    fn restart_policies() {
        for (policy, after_success, after_failure) in
            [("Always", true, true), ("OnFailure", false, true), ("Never", false, false)]
        {
            for (code, again) in [(0, after_success), (1, after_failure)] {
                let mut model =
                    model(&format!(r#"{{"restartPolicy": "{policy}", "containers": [{{"name": "a"}}]}}"#));
                start(&mut model, 1);
                model.run_mut("a").unwrap().exited(exit(code, 2));
                assert_eq!(!model.plan(at(2)).start.is_empty(), again, "{policy} {code}");
            }
        }
    }

    #[test]
    fn a_crashing_container_waits_longer_each_time() {
        let mut model = model(r#"{"containers": [{"name": "a"}]}"#);
        start(&mut model, 0);
        model.run_mut("a").unwrap().exited(exit(1, 1));
        assert_eq!(start(&mut model, 1), ["a"], "the first time at once");
        model.run_mut("a").unwrap().exited(exit(1, 2));
        let plan = model.plan(at(2));
        assert_eq!(plan, Plan { start: vec![], backed_off: vec!["a".into()], wake: Some(at(12)) });
        let run = model.run("a").unwrap();
        let State::Waiting { reason, message, .. } = &run.state else { panic!("{run:?}") };
        assert_eq!(
            (reason.as_str(), message.as_deref()),
            ("CrashLoopBackOff", Some("back-off 10s restarting failed container=a"))
        );
        assert_eq!(run.last.as_ref().unwrap().code, 1);
        assert_eq!(model.plan(at(11)), Plan { start: vec![], backed_off: vec![], wake: Some(at(12)) });
        assert_eq!(start(&mut model, 12), ["a"]);
        model.run_mut("a").unwrap().exited(exit(1, 13));
        assert_eq!(model.plan(at(13)).wake, Some(at(33)));
        assert_eq!(model.run("a").unwrap().starts, 3);
    }

    #[test]
    fn what_an_earlier_agent_left_is_taken_up() {
        let mut model =
            model(r#"{"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]}"#);
        let record = |name: &str, attempt: u32, exit: Option<Exit>| Record {
            id: ContainerId { uid: "u".into(), name: name.into(), attempt },
            started_at: at(5),
            exit,
        };
        model.adopt(&[
            record("i", 0, Some(exit(0, 2))),
            record("a", 3, Some(exit(7, 4))),
            record("a", 4, None),
            record("gone", 0, None),
        ]);
        let run = model.run("a").unwrap();
        assert_eq!((run.starts, run.last.as_ref().unwrap().code), (5, 7));
        assert_eq!(run.state, State::Running { since: at(5) });
        assert_eq!(start(&mut model, 6), ["b"]);
        assert_eq!(run_id(&model, "a"), "svcd://u-a-4");
    }

    fn run_id(model: &Model, name: &str) -> String {
        model.run(name).unwrap().id("u").unwrap().to_string()
    }

    #[test]
    fn durations_read_as_upstream_prints_them() {
        let texts = [10, 40, 80, 300].map(|seconds| human(std::time::Duration::from_secs(seconds)));
        assert_eq!(texts, ["10s", "40s", "1m20s", "5m0s"]);
    }
}
