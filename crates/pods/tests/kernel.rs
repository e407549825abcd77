//! Pods as processes against a real kernel. This binary is also what it tests: with the hidden subcommands it is the shim
//! and the echo server, so it has its own `main`, which understands the usual filters of `cargo test`.
//!
//! Every test has a network namespace for a node, private mounts, and kills all its containers whatever happens.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and says where")]

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Service};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use svcd_podnet::PodNet;
use svcd_pods::process::{self, ProcessRuntime};
use svcd_pods::{Config, ECHO_COMMAND, Event, Lookup, PodManager, PodRef, SHIM_COMMAND, Sink, echo, shim};
use svcd_testkit::{Netns, eventually_async, privileged};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("echo_answers_over_http_tcp_and_udp", echo_answers_over_http_tcp_and_udp),
    ("a_crash_is_counted_and_waits", a_crash_is_counted_and_waits),
    ("pods_that_end_have_ended", pods_that_end_have_ended),
    ("a_failing_liveness_probe_restarts", a_failing_liveness_probe_restarts),
    ("readiness_follows_its_probe", readiness_follows_its_probe),
    ("a_pod_ends_gracefully_or_is_killed", a_pod_ends_gracefully_or_is_killed),
    ("a_new_agent_adopts_what_runs", a_new_agent_adopts_what_runs),
    ("what_others_said_meanwhile_is_put_right", what_others_said_meanwhile_is_put_right),
    ("a_command_sees_its_pods_world", a_command_sees_its_pods_world),
    ("what_cannot_run_says_why", what_cannot_run_says_why),
    ("a_killed_shim_leaves_nothing_behind", a_killed_shim_leaves_nothing_behind),
    ("a_relist_ends_what_is_not_in_it", a_relist_ends_what_is_not_in_it),
    ("init_containers_and_hooks_run_in_order", init_containers_and_hooks_run_in_order),
    ("forgetting_kills_without_an_agent", forgetting_kills_without_an_agent),
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(SHIM_COMMAND) => return shim::main(&args[1..]),
        Some(ECHO_COMMAND) => return echo::main(&args[1..]),
        _ => {}
    }
    let exact = args.iter().any(|arg| arg == "--exact");
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let chosen = |name: &str| {
        filters.is_empty()
            || filters
                .iter()
                .any(|filter| if exact { *filter == name } else { name.contains(filter.as_str()) })
    };
    let chosen: Vec<&Test> = TESTS.iter().filter(|(name, _)| chosen(name)).collect();
    if args.iter().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let failed = run(&chosen);
    println!("\ntest result: {} passed; {} failed", chosen.len() - failed.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All at once: they wait for time to pass most of the time.
fn run(tests: &[&'static Test]) -> Vec<&'static str> {
    let threads: Vec<_> = tests
        .iter()
        .map(|(name, body)| {
            let start = Instant::now();
            let body = move || (catch_unwind(AssertUnwindSafe(|| privileged(body))).is_ok(), start.elapsed());
            (*name, thread::Builder::new().name((*name).to_owned()).spawn(body).unwrap())
        })
        .collect();
    let mut failed = Vec::new();
    for (name, thread) in threads {
        let (passed, took) = thread.join().unwrap();
        println!("test {name} ... {} ({took:?})", if passed { "ok" } else { "FAILED" });
        failed.extend((!passed).then_some(name));
    }
    failed
}

/// What the pods said, and what became of them.
#[derive(Default)]
struct Recorder {
    statuses: Mutex<HashMap<String, Vec<PodStatus>>>,
    terminated: Mutex<Vec<String>>,
    events: Mutex<Vec<String>>,
}

impl Sink for Recorder {
    fn status(&self, pod: &PodRef, status: PodStatus) {
        self.statuses.lock().unwrap().entry(pod.name.clone()).or_default().push(status);
    }

    fn terminated(&self, pod: &PodRef) {
        self.terminated.lock().unwrap().push(pod.name.clone());
    }

    fn event(&self, pod: &PodRef, event: Event) {
        self.events.lock().unwrap().push(format!("{} {}: {}", pod.name, event.reason, event.message));
    }
}

impl Recorder {
    fn last(&self, pod: &str) -> Value {
        let statuses = self.statuses.lock().unwrap();
        let last = statuses.get(pod).and_then(|all| all.last());
        last.map_or(Value::Null, |status| serde_json::to_value(status).unwrap())
    }

    /// Waits until the last status of a pod is as wanted, and returns it.
    async fn wait(&self, pod: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually_async(DEADLINE, || async {
            let last = self.last(pod);
            if wanted(&last) { Ok(last) } else { Err(format!("{pod} is not {what}: {last:#}")) }
        })
        .await
    }

    async fn ready(&self, pod: &str) -> Value {
        self.wait(pod, "ready", |status| condition(status, "Ready") == "True").await
    }

    async fn ended(&self, pod: &str) {
        eventually_async(DEADLINE, || async {
            let terminated = self.terminated.lock().unwrap().clone();
            if terminated.iter().any(|name| name == pod) {
                Ok(())
            } else {
                Err(format!("{pod} is not among {terminated:?}"))
            }
        })
        .await;
    }
}

fn condition(status: &Value, type_: &str) -> String {
    let all = status["conditions"].as_array().into_iter().flatten();
    let mut found = all.filter(|condition| condition["type"] == type_);
    found.next().map(|condition| condition["status"].as_str().unwrap().to_owned()).unwrap_or_default()
}

struct Objects;

#[async_trait]
impl Lookup for Objects {
    async fn config_map(&self, _: &str, name: &str) -> Result<Option<BTreeMap<String, String>>, String> {
        Ok((name == "conf").then(|| [("color".to_owned(), "blue".to_owned())].into()))
    }

    async fn secret(&self, _: &str, _: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, String> {
        Ok(None)
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        let service = json!({"metadata": {"name": "my-nginx", "namespace": namespace},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}});
        vec![Arc::new(serde_json::from_value(service).unwrap())]
    }
}

/// A node whose agents come and go.
struct Node {
    state: PathBuf,
    sink: Arc<Recorder>,
}

impl Node {
    async fn agent(&self) -> PodManager {
        let net = svcd_podnet::Config {
            bridge: "svcd0".to_owned(),
            node_range: "10.244.1.0/24".parse().unwrap(),
            cluster_range: "10.244.0.0/16".parse().unwrap(),
            node_address: None,
            mtu: None,
            state_dir: self.state.join("net"),
        };
        let net = Arc::new(PodNet::start(net).await.unwrap());
        let node_address = Ipv4Addr::new(192, 168, 56, 21);
        let runtime =
            process::Config { state_dir: self.pods(), self_exe: env::current_exe().unwrap(), node_address };
        let config = Config {
            node_name: "node1".to_owned(),
            node_address,
            cluster_domain: "cluster.local".to_owned(),
            dns_address: Ipv4Addr::new(10, 96, 0, 10),
            resolv_conf: PathBuf::from("/dev/null"),
        };
        let runtime = Arc::new(ProcessRuntime::new(runtime, net).unwrap());
        let sink: Arc<dyn Sink> = Arc::clone(&self.sink) as _;
        PodManager::new(config, runtime, Arc::new(Objects), sink, CancellationToken::new())
    }

    fn pods(&self) -> PathBuf {
        self.state.join("pods")
    }

    fn log(&self, pod: &str, container: &str) -> String {
        let path = process::log_path(&self.pods(), &uid(pod), container, false);
        path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// Waits until a container has written a line that holds this.
    async fn logged(&self, pod: &str, container: &str, words: &str) -> String {
        eventually_async(DEADLINE, || async {
            let log = self.log(pod, container);
            if log.contains(words) {
                Ok(log)
            } else {
                Err(format!("no {words:?} in the log of {container}: {log}"))
            }
        })
        .await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whatever the test did: nothing of it may stay.
        process::forget(&self.pods()).unwrap();
    }
}

/// Runs a test on a node of its own.
fn on_node<F: Future<Output = ()>>(body: impl FnOnce(Arc<Node>) -> F + Send) {
    let netns = Netns::new("node");
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_owned();
    netns.block_on(|| async move {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let node = Arc::new(Node { state: state.clone(), sink: Arc::default() });
        body(node).await;
        // Lets go of the namespaces' directory, so that it can be removed.
        let _ = nix::mount::umount2(&state.join("net/netns"), nix::mount::MntFlags::MNT_DETACH);
    });
}

fn uid(name: &str) -> String {
    format!("uid-{name}")
}

fn pod(name: &str, spec: Value) -> Pod {
    let metadata = json!({"name": name, "namespace": "default", "uid": uid(name), "labels": {"app": "web"}});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// A pod of one container.
fn single(name: &str, container: Value) -> Pod {
    let mut container = container;
    container["name"] = json!("c");
    pod(name, json!({"containers": [container]}))
}

fn shell(script: &str) -> Value {
    json!({"image": "svcd.io/host", "command": ["sh", "-c", script]})
}

fn deleted(pod: &Pod, grace: i64) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    pod
}

async fn get(address: &str, port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((address, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn ip(status: &Value) -> String {
    status["podIP"].as_str().unwrap().to_owned()
}

fn echo_answers_over_http_tcp_and_udp() {
    on_node(|node| async move {
        let manager = node.agent().await;
        let start = Instant::now();
        manager.apply(single(
            "web",
            json!({"image": "svcd.io/echo:latest", "args": ["--tcp", "7"],
                "ports": [{"containerPort": 80}, {"containerPort": 5353, "protocol": "UDP"}]}),
        ));
        let status = node.sink.ready("web").await;
        let ready = start.elapsed();
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
        assert_eq!(status["hostIP"], "192.168.56.21");
        // Ready means that it answers: the first try counts.
        let address = ip(&status);
        let answer = get(&address, 80, "/hello?a=b").await.unwrap();
        println!("echo: ready after {ready:?}, answered after {:?}", start.elapsed());
        for line in [
            "pod: web",
            "namespace: default",
            "node: node1",
            "client: 10.244.1.1:",
            "request: GET /hello?a=b HTTP/1.1",
        ] {
            assert!(answer.contains(line), "{line} in {answer}");
        }
        let mut raw = TcpStream::connect((address.as_str(), 7)).await.unwrap();
        raw.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        raw.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"ping");
        let udp = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        udp.send_to(b"datagram", (address.as_str(), 5353)).await.unwrap();
        let mut back = [0; 16];
        let (length, _) = tokio::time::timeout(DEADLINE, udp.recv_from(&mut back)).await.unwrap().unwrap();
        assert_eq!(&back[..length], b"datagram");
        assert!(node.sink.events.lock().unwrap().contains(&"web Started: Started container c".to_owned()));
    });
}

fn a_crash_is_counted_and_waits() {
    on_node(|node| async move {
        let manager = node.agent().await;
        manager.apply(single("crash", shell("echo oops; exit 3")));
        let status = node
            .sink
            .wait("crash", "in back-off", |status| {
                status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            })
            .await;
        let container = &status["containerStatuses"][0];
        assert_eq!(container["restartCount"], 1, "the first restart is at once, the second waits");
        assert_eq!(container["lastState"]["terminated"]["exitCode"], 3);
        assert_eq!(container["lastState"]["terminated"]["reason"], "Error");
        assert_eq!(status["phase"], "Running");
        assert_eq!(condition(&status, "Ready"), "False");
        assert!(node.log("crash", "c").ends_with("stdout F oops\n"), "{}", node.log("crash", "c"));
    });
}

fn pods_that_end_have_ended() {
    on_node(|node| async move {
        let manager = node.agent().await;
        for (name, script, policy) in
            [("good", "exit 0", "Never"), ("bad", "exit 1", "Never"), ("done", "exit 0", "OnFailure")]
        {
            let mut job = single(name, shell(script));
            job.spec.as_mut().unwrap().restart_policy = Some(policy.to_owned());
            manager.apply(job);
        }
        for (name, phase, reason) in [
            ("good", "Succeeded", "Completed"),
            ("bad", "Failed", "Error"),
            ("done", "Succeeded", "Completed"),
        ] {
            let status = node.sink.wait(name, phase, |status| status["phase"] == phase).await;
            assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], reason);
        }
    });
}

fn a_failing_liveness_probe_restarts() {
    on_node(|node| async move {
        let manager = node.agent().await;
        let probe = json!({"httpGet": {"path": "/healthz", "port": "web"}, "periodSeconds": 1, "failureThreshold": 1});
        manager.apply(single(
            "web",
            json!({"image": "svcd.io/echo", "ports": [{"name": "web", "containerPort": 8080}], "livenessProbe": probe}),
        ));
        let address = ip(&node.sink.ready("web").await);
        get(&address, 8080, "/healthz/fail").await.unwrap();
        let status = node
            .sink
            .wait("web", "restarted and ready", |status| {
                status["containerStatuses"][0]["restartCount"] == 1 && condition(status, "Ready") == "True"
            })
            .await;
        assert_eq!(ip(&status), address, "the pod keeps its address");
        let last = &status["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!(last["reason"], "Completed", "it ended by itself when asked to: {last}");
        let events = node.sink.events.lock().unwrap().join("\n");
        assert!(
            events.contains("Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 503"),
            "{events}"
        );
    });
}

fn readiness_follows_its_probe() {
    on_node(|node| async move {
        let manager = node.agent().await;
        let probe =
            json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1});
        let web = single("web", json!({"image": "svcd.io/echo", "readinessProbe": probe}));
        manager.apply(web);
        let flag = node.state.join("flag");
        let command = ["test", "-e", flag.to_str().unwrap()];
        let mut exec = shell("sleep 1000");
        exec["readinessProbe"] = json!({"exec": {"command": command}, "periodSeconds": 1});
        manager.apply(single("exec", exec));

        let address = ip(&node.sink.ready("web").await);
        get(&address, 8080, "/healthz/fail").await.unwrap();
        let status = node.sink.wait("web", "unready", |status| condition(status, "Ready") == "False").await;
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
        get(&address, 8080, "/healthz/recover").await.unwrap();
        node.sink.ready("web").await;

        let status = node.sink.last("exec");
        assert_eq!(condition(&status, "Ready"), "False", "{status:#}");
        fs::write(&flag, "").unwrap();
        node.sink.ready("exec").await;
    });
}

fn a_pod_ends_gracefully_or_is_killed() {
    on_node(|node| async move {
        let manager = node.agent().await;
        let polite =
            single("polite", shell("trap 'sleep 0.2; exit 0' TERM; echo up; while :; do sleep 0.02; done"));
        let stubborn = single("stubborn", shell("trap '' TERM; echo up; while :; do sleep 0.02; done"));
        for pod in [&polite, &stubborn] {
            manager.apply(pod.clone());
            node.sink.ready(pod.metadata.name.as_ref().unwrap()).await;
        }
        node.logged("polite", "c", "up").await;
        node.logged("stubborn", "c", "up").await;
        manager.apply(deleted(&polite, 30));
        manager.apply(deleted(&stubborn, 1));
        for (name, code, reason) in [("polite", 0, "Completed"), ("stubborn", 137, "Error")] {
            node.sink.ended(name).await;
            let status = node.sink.last(name);
            let ended = &status["containerStatuses"][0]["state"]["terminated"];
            assert_eq!(
                (&ended["exitCode"], &ended["reason"]),
                (&json!(code), &json!(reason)),
                "{name} {status:#}"
            );
            assert_eq!(condition(&status, "Ready"), "False");
            assert!(!node.pods().join(uid(name)).exists(), "nothing is left of {name}");
            assert!(!node.state.join("net/netns").join(uid(name)).exists());
        }
        assert_eq!(fs::read_dir(node.state.join("net/addresses")).unwrap().count(), 0);
        assert!(manager.pods().is_empty());
    });
}

fn a_new_agent_adopts_what_runs() {
    on_node(|node| async move {
        let first = node.agent().await;
        let probe = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
        let web = single("web", json!({"image": "svcd.io/echo", "readinessProbe": probe}));
        let short = single("short", shell("while test ! -e $FLAG; do sleep 0.01; done; exit 5"));
        let mut short = serde_json::to_value(short).unwrap();
        let flag = node.state.join("flag");
        short["spec"]["containers"][0]["env"] = json!([{"name": "FLAG", "value": flag}]);
        short["spec"]["restartPolicy"] = json!("Never");
        let short: Pod = serde_json::from_value(short).unwrap();
        first.apply(web.clone());
        first.apply(short.clone());
        let before = node.sink.ready("web").await;
        node.sink.ready("short").await;
        drop(first);

        // Without an agent everything goes on, and some things end.
        get(&ip(&before), 8080, "/").await.unwrap();
        fs::write(&flag, "").unwrap();
        let told = node.sink.statuses.lock().unwrap()["web"].len();
        let second = node.agent().await;
        let with = |pod: &Pod, status: &Value| Pod {
            status: serde_json::from_value(status.clone()).unwrap(),
            ..pod.clone()
        };
        second.reset(vec![with(&web, &before), with(&short, &node.sink.last("short"))]);
        let ended = node.sink.wait("short", "ended", |status| status["phase"] == "Failed").await;
        assert_eq!(ended["containerStatuses"][0]["state"]["terminated"]["exitCode"], 5);
        get(&ip(&before), 8080, "/").await.unwrap();
        assert_eq!(node.sink.last("web"), before, "not even a status has changed");
        assert_eq!(node.sink.statuses.lock().unwrap()["web"].len(), told);

        // And it is really this agent's now.
        second.apply(deleted(&web, 5));
        node.sink.ended("web").await;
        let address = ip(&before);
        let answer = tokio::time::timeout(Duration::from_millis(500), get(&address, 8080, "/")).await;
        assert!(!matches!(answer, Ok(Ok(_))), "{answer:?}");
    });
}

fn what_others_said_meanwhile_is_put_right() {
    on_node(|node| async move {
        let manager = node.agent().await;
        let mut web = single("web", json!({"image": "svcd.io/echo"}));
        manager.apply(web.clone());
        let ready = node.sink.ready("web").await;
        let told = || node.sink.statuses.lock().unwrap()["web"].len();
        let before = told();
        // Our own status coming back is nothing new; another's later word is.
        let mut version = 1;
        let mut come_back = |status: &Value| {
            version += 1;
            web.metadata.resource_version = Some(version.to_string());
            web.status = serde_json::from_value(status.clone()).unwrap();
            manager.apply(web.clone());
        };
        come_back(&ready);
        let mut overruled = ready.clone();
        for condition in overruled["conditions"].as_array_mut().unwrap() {
            if condition["type"] == "Ready" {
                condition["status"] = json!("False");
                condition["lastTransitionTime"] = json!("2100-01-01T00:00:00Z");
            }
        }
        come_back(&overruled);
        eventually_async(DEADLINE, || async {
            if told() == before + 1 { Ok(()) } else { Err(format!("{} statuses", told())) }
        })
        .await;
        assert_eq!(node.sink.last("web"), ready);
    });
}

fn a_command_sees_its_pods_world() {
    on_node(|node| async move {
        let manager = node.agent().await;
        let script = "hostname; cat /etc/hosts /etc/resolv.conf; env; ip -4 -o addr show dev eth0; id -u; echo END; sleep 1000";
        // In a user namespace there may be nobody but root.
        let user =
            if fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295") { 1000 } else { 0 };
        let mut spec = json!({"hostname": "box", "subdomain": "sub", "containers": [
            {"name": "c", "image": "svcd.io/host", "command": ["sh", "-c"], "args": [script], "workingDir": "/usr",
             "securityContext": {"runAsUser": user}, "env": [
                {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "color"}}},
                {"name": "URL", "value": "http://$(MY_NGINX_SERVICE_HOST)/$(WHO)"}]}]});
        manager.apply(pod("box", spec.clone()));
        let address = ip(&node.sink.ready("box").await);
        let log = node.logged("box", "c", "END").await;
        for line in [
            " F box\n",
            &format!("{address}\tbox.sub.default.svc.cluster.local\tbox\n"),
            " F nameserver 10.96.0.10\n",
            " F search default.svc.cluster.local svc.cluster.local cluster.local\n",
            " F options ndots:5\n",
            " F WHO=web\n",
            &format!(" F IP={address}\n"),
            " F COLOR=blue\n",
            " F URL=http://10.96.0.7/web\n",
            " F MY_NGINX_PORT_80_TCP_PROTO=tcp\n",
            " F HOSTNAME=box\n",
            " F PWD=/usr\n",
            &format!("inet {address}/32"),
            &format!(" F {user}\n"),
        ] {
            assert!(log.contains(line), "{line:?} in {log}");
        }
        assert!(
            !fs::read_to_string("/etc/resolv.conf").unwrap_or_default().contains("default.svc.cluster.local")
        );

        // On the node's own network everything is the node's.
        spec["hostNetwork"] = json!(true);
        spec["containers"][0]["args"] = json!(["ip -o link; echo END; sleep 1000"]);
        manager.apply(pod("hostnet", spec));
        let status = node.sink.ready("hostnet").await;
        assert_eq!(ip(&status), "192.168.56.21");
        assert!(node.logged("hostnet", "c", "END").await.contains("svcd0"));
    });
}

fn what_cannot_run_says_why() {
    on_node(|node| async move {
        let manager = node.agent().await;
        let waits = |reason: &'static str| {
            move |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
        };
        manager.apply(single("nginx", json!({"image": "nginx:1.27"})));
        let status = node.sink.wait("nginx", "refused", waits("ErrImagePull")).await;
        let message = status["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap();
        assert!(message.contains("nginx:1.27") && message.contains("svcd.io/echo"), "{message}");
        assert_eq!(status["phase"], "Pending");

        let mut config = shell("true");
        config["env"] = json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}]);
        manager.apply(single("config", config));
        let status = node.sink.wait("config", "refused", waits("CreateContainerConfigError")).await;
        assert_eq!(
            status["containerStatuses"][0]["state"]["waiting"]["message"],
            "secret \"gone\" not found"
        );

        let mut none = single("none", json!({"image": "svcd.io/host", "command": ["/no/such/program"]}));
        none.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
        manager.apply(none);
        let status = node.sink.wait("none", "failed", |status| status["phase"] == "Failed").await;
        let ended = &status["containerStatuses"][0]["state"]["terminated"];
        assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("StartError"), &json!(128)));
        assert!(ended["message"].as_str().unwrap().contains("/no/such/program"), "{ended}");

        // A pod that waits ends as promptly as any other.
        manager.apply(deleted(&single("nginx", json!({"image": "nginx:1.27"})), 30));
        node.sink.ended("nginx").await;
    });
}

fn a_killed_shim_leaves_nothing_behind() {
    on_node(|node| async move {
        let manager = node.agent().await;
        let web = single("web", shell("echo pid $$$$; sleep 1000"));
        manager.apply(web.clone());
        node.sink.ready("web").await;
        let container = logged_pid(&node).await;
        drop(manager);
        // No agent is needed for the container to go with it.
        let shim = nix::unistd::Pid::from_raw(parent(container));
        nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
        eventually_async(DEADLINE, || async {
            let state = fs::read_to_string(format!("/proc/{container}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                Ok(())
            } else {
                Err(format!("{container} runs: {state}"))
            }
        })
        .await;
        let manager = node.agent().await;
        manager.apply(web);
        let again = |status: &Value| status["containerStatuses"][0]["restartCount"] == 1;
        let status = node.sink.wait("web", "restarted", again).await;
        let last = &status["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!((&last["reason"], &last["exitCode"]), (&json!("ContainerStatusUnknown"), &json!(137)));
    });
}

/// The process number that a container has written.
async fn logged_pid(node: &Node) -> i32 {
    let log = node.logged("web", "c", "pid ").await;
    log.trim().rsplit(' ').next().unwrap().parse().unwrap()
}

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn a_relist_ends_what_is_not_in_it() {
    on_node(|node| async move {
        let manager = node.agent().await;
        let (one, two) = (single("one", shell("sleep 1000")), single("two", shell("sleep 1000")));
        manager.apply(one.clone());
        manager.apply(two.clone());
        node.sink.ready("one").await;
        node.sink.ready("two").await;
        manager.reset(vec![one.clone()]);
        gone(&node.pods().join(uid("two"))).await;
        drop(manager);
        // The next agent hears of neither: what the last one left is ended too.
        let manager = node.agent().await;
        manager.reset(vec![]);
        gone(&node.pods().join(uid("one"))).await;
        assert!(node.sink.terminated.lock().unwrap().is_empty(), "the API knows already");
        manager.delete(&PodRef::of(&one));
    });
}

async fn gone(path: &Path) {
    eventually_async(DEADLINE, || async {
        if path.exists() { Err(format!("{} is still there", path.display())) } else { Ok(()) }
    })
    .await;
}

fn init_containers_and_hooks_run_in_order() {
    on_node(|node| async move {
        let manager = node.agent().await;
        let order = node.state.join("order");
        let write = |word: &str| format!("echo {word} >> {}", order.display());
        let step = |name: &str, script: String| json!({"name": name, "image": "svcd.io/host", "command": ["sh", "-c", script]});
        let mut main = step("main", format!("{}; while :; do sleep 0.02; done", write("main")));
        main["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", write("preStop")]}}});
        main["startupProbe"] =
            json!({"exec": {"command": ["grep", "-q", "main", order]}, "periodSeconds": 1});
        let mut side = step("side", "sleep 1000".to_owned());
        side["restartPolicy"] = json!("Always");
        let ordered = pod(
            "ordered",
            json!({"initContainers": [step("first", write("first")), side, step("second", write("second"))],
                "containers": [main]}),
        );
        manager.apply(ordered.clone());
        let status = node.sink.ready("ordered").await;
        assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
        assert!(status["initContainerStatuses"][1]["state"]["running"].is_object());
        assert_eq!(status["containerStatuses"][0]["started"], true);
        manager.apply(deleted(&ordered, 10));
        node.sink.ended("ordered").await;
        assert_eq!(fs::read_to_string(&order).unwrap(), "first\nsecond\nmain\npreStop\n");
    });
}

fn forgetting_kills_without_an_agent() {
    on_node(|node| async move {
        let manager = node.agent().await;
        manager.apply(single("web", shell("(setsid sleep 1001 &) ; echo pid $$$$; sleep 1000")));
        node.sink.ready("web").await;
        let container = logged_pid(&node).await;
        drop(manager);
        let pods = node.pods();
        tokio::task::spawn_blocking(move || process::forget(&pods)).await.unwrap().unwrap();
        assert!(!Path::new(&format!("/proc/{container}")).exists());
        assert!(!node.pods().exists());
    });
}
