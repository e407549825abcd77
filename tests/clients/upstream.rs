//! Upstream's own programs in place of ours: kube-controller-manager and kube-scheduler make the same objects out of the
//! same wishes, kube-proxy forwards our Services; none of them complains of anything but kinds that are not served.
//! Only with `SVCD_TEST_UPSTREAM` set: `make test-upstream` builds the programs first.

use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use svcd_testkit::{Answer, Whoami, ask_tcp};
use svcd_tests::eventually;

use crate::place::{Place, Server};
use crate::transcript::Age;
use crate::{Planned, cache, kubectl};

/// The work that upstream's programs do here.
const LEFT_TO_UPSTREAM: &str = "scheduler,endpointslice,endpoints,endpointslicemirroring,deployment,replicaset,\
    replication,disruption,namespace,garbagecollector,nodelifecycle,eviction,podgc";
/// Of upstream's controllers those that need only kinds that are served.
const CONTROLLERS: &str = "endpointslice-controller,endpoints-controller,endpointslice-mirroring-controller,\
    deployment-controller,replicaset-controller,replicationcontroller-controller,disruption-controller,\
    namespace-controller,serviceaccount-controller,garbage-collector-controller,pod-garbage-collector-controller,\
    node-lifecycle-controller,taint-eviction-controller,clusterrole-aggregation-controller";
/// Where the scheduler finds the server; see `upstream/absent`.
const ABSENT: &str = "127.0.0.1:8001";
/// What their logs may hold as errors.
const EXPECTED: &[&str] = &[
    // A kind that is not served.
    "the server could not find the requested resource",
    // Said by their own start.
    "The manifest file is empty",
    "Failed to list existing nftables objects",
    // Their caches are behind their own writes; they try again.
    "is not as new as written version",
    "the object has been modified; please apply your changes to the latest version and try again",
];
/// The address of a pod, and of the Service in front of it.
const POD: &str = "192.0.2.10";
const VIP: &str = "10.96.5.5";

/// The trials, if they are wanted.
pub(crate) fn trials() -> Vec<Planned> {
    if std::env::var_os("SVCD_TEST_UPSTREAM").is_none() {
        return Vec::new();
    }
    let plan = |name: &str, programs: &[&str], run: fn() -> Result<(), Failed>| {
        let missing = |name: &&str| cache::program(format!("upstream/{name}")).err();
        let lacks = programs.iter().find_map(missing);
        Planned { trial: Trial::test(format!("upstream::{name}"), run), lacks }
    };
    vec![
        plan(
            "controllers_and_scheduler",
            &["kube-controller-manager", "kube-scheduler", "absent"],
            controllers,
        ),
        plan("proxy_iptables", &["kube-proxy"], || proxy("iptables")),
        plan("proxy_nftables", &["kube-proxy"], || proxy("nftables")),
    ]
}

/// Starts one of upstream's programs beside a server.
fn start(server: &Server, name: &str, flags: &[&str]) -> Result<(), Failed> {
    server.spawn(name, &cache::program(format!("upstream/{name}"))?, flags);
    Ok(())
}

/// Fails for every error in the programs' logs that is not expected.
fn no_complaints(server: &Server, programs: &[&str]) -> Result<(), Failed> {
    let mut complaints = Vec::new();
    for program in programs {
        let log = server.log(program);
        let is_complaint = |entry: &&String| {
            entry.starts_with(['E', 'F']) && !EXPECTED.iter().any(|text| entry.contains(text))
        };
        complaints
            .extend(entries(&log).iter().filter(is_complaint).map(|entry| format!("{program}: {entry}")));
    }
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n").into()) }
}

/// The entries of a log; what is indented belongs to the line before it.
fn entries(log: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    for line in log.lines() {
        match entries.last_mut().filter(|_| line.starts_with(char::is_whitespace)) {
            Some(entry) => *entry += &format!("\n{line}"),
            None => entries.push(line.to_owned()),
        }
    }
    entries
}

fn controllers() -> Result<(), Failed> {
    let server = Server::start(&["--disable-controllers", LEFT_TO_UPSTREAM]);
    let kubeconfig = server.kubeconfig().display().to_string();
    start(server, "absent", &[&kubeconfig, ABSENT])?;
    let master = format!("--master=http://{ABSENT}");
    let kubeconfig = format!("--kubeconfig={kubeconfig}");
    let controllers = format!("--controllers={CONTROLLERS}");
    let quick = [
        "--node-monitor-period=1s",
        "--node-monitor-grace-period=8s",
        "--node-startup-grace-period=8s",
        "--secure-port=0",
    ];
    let flags = [&[kubeconfig.as_str(), controllers.as_str()], quick.as_slice()].concat();
    start(server, "kube-controller-manager", &flags)?;
    start(server, "kube-scheduler", &[&master, "--secure-port=0"])?;
    let programs = cache::dir().join("kubectl/1.36");
    let played = kubectl::play(include_str!("kubectl/upstream.txt"), Place::Own(server), Age(36), &programs);
    // What they complain of may well be why they did not do their part.
    no_complaints(server, &["kube-controller-manager", "kube-scheduler"])?;
    played
}

/// kube-proxy on the server's machine: a Service that it forwards, by endpoints of our EndpointSlices.
fn proxy(mode: &str) -> Result<(), Failed> {
    let server = Server::start(&[]);
    let machine = server.netns();
    machine.ip("link add pods type veth peer name others");
    machine.ip("link set pods up");
    machine.ip("link set others up");
    machine.ip(&format!("address add {POD}/24 dev pods"));
    machine.ip("route add default dev pods");
    let _pod = Whoami::start(machine, 8080, "pod");
    let (kubeconfig, mode) =
        (format!("--kubeconfig={}", server.kubeconfig().display()), format!("--proxy-mode={mode}"));
    let fixed = [
        "--hostname-override=n1",
        "--nodeport-addresses=primary",
        "--conntrack-max-per-core=0",
        "--metrics-bind-address=127.0.0.1:10249",
        "--healthz-bind-address=127.0.0.1:10256",
    ];
    let programs = cache::dir().join("kubectl/1.36");
    kubectl::play(include_str!("kubectl/upstream_proxy.txt"), Place::Own(server), Age(36), &programs)?;
    start(server, "kube-proxy", &[&[kubeconfig.as_str(), mode.as_str()], fixed.as_slice()].concat())?;
    let service = format!("{VIP}:80").parse().expect("an address");
    eventually("the Service is forwarded", || match ask_tcp(machine, service, Duration::from_secs(1)) {
        Answer::From(name, _) if name == "pod" => Ok(()),
        other => Err(format!("{other:?}\n{}", server.log("kube-proxy"))),
    });
    no_complaints(server, &["kube-proxy"])
}
