//! E, when things go wrong: commands, nodes and control planes that are killed at any moment; and labs without root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use svcd_testkit::Running;
use svcd_tests::{Done, Lab, binary, eventually};

/// An unused user.
const SOMEBODY: u32 = 54_321;
/// A process of a pod that nothing else would start.
const PATIENT: &str = "86399.75";

#[test]
fn e1_an_up_that_is_killed_anywhere_leaves_nothing_after_down() {
    let lab = Lab::without_cluster();
    let forwarding = || lab.machine().run(&["cat", "/proc/sys/net/ipv4/ip_forward"]);
    let before = forwarding();
    let moments = [
        "lab.json",
        "netns",
        "netns/control-plane",
        "netns/node2",
        "control-plane.log",
        "control-plane/store",
        "control-plane/join-token",
        "node1.log",
        "node2/agent/credentials.json",
        "node1/agent/pods",
    ];
    for moment in moments {
        let mut up = Command::new(binary());
        up.args(["lab", "up", "--nodes", "2"]).env("SVCD_LAB_DIR", lab.dir());
        let mut up = lab.machine().spawn(up.stdout(Stdio::null()).stderr(Stdio::null()));
        let seen = lab.dir().join(moment);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !seen.exists() && up.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "{moment} never came");
        }
        drop(up);
        lab.svcd(&["lab", "down"]).ok();
        assert_nothing_left(&lab, moment);
        assert_eq!(forwarding(), before, "{moment}");
    }
    // And as if nothing had been.
    lab.svcd(&["lab", "up", "--nodes", "1"]).ok();
}

#[test]
fn e1_an_up_over_the_ruins_of_another_starts_anew() {
    let lab = Lab::up(1);
    kill_nodes(&lab);
    lab.svcd(&["lab", "up", "--nodes", "2"]).ok();
    assert_eq!(lab.kubectl(&["get", "nodes", "-o", "name"]).ok().lines().count(), 3);
    lab.svcd(&["lab", "down"]).ok();
    assert_nothing_left(&lab, "two labs");
}

#[test]
fn e1_down_ends_pods_whose_node_was_killed() {
    let lab = Lab::up(1);
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "patient" },
        "spec": { "containers": [{ "name": "c", "image": "svcd.io/host", "command": ["sleep", PATIENT] }] },
    });
    lab.apply("default", &pod.to_string());
    lab.kubectl(&["wait", "pod/patient", "--for=condition=Ready", "--timeout=30s"]).ok();
    kill_nodes(&lab);
    lab.svcd(&["lab", "down"]).ok();
    assert_nothing_left(&lab, "killed nodes");
    let left =
        lab.run("sh", &["-c", &format!("grep -lz '^{PATIENT}$' /proc/[0-9]*/cmdline 2>/dev/null")]).out;
    assert_eq!(left, "", "the pod's process still runs");
}

#[test]
fn e1_of_two_ups_at_the_same_time_one_wins() {
    let lab = Lab::without_cluster();
    let results = std::thread::scope(|scope| {
        let up = || lab.svcd(&["lab", "up", "--nodes", "1"]);
        let (one, other) = (scope.spawn(up), scope.spawn(up));
        [one.join().unwrap(), other.join().unwrap()]
    });
    let refused: Vec<&Done> = results.iter().filter(|done| done.code != 0).collect();
    assert_eq!(refused.len(), 1, "{results:?}");
    let said = &refused[0].err;
    assert!(said.contains("another command") || said.contains("running already"), "{said}");
    assert_eq!(lab.kubectl(&["get", "nodes", "-o", "name"]).ok().lines().count(), 2);
}

#[test]
fn e1_without_root_a_lab_runs_in_a_user_namespace() {
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (svcd, home) = (scratch.path().join("svcd"), scratch.path().join("home"));
    // The build directory may be closed to others.
    fs::copy(binary(), &svcd).unwrap();
    fs::create_dir(&home).unwrap();
    chown(&home, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let somebody = |words: &[&str]| -> Done {
        let mut command = Command::new("setpriv");
        let (reuid, regid) = (format!("--reuid={SOMEBODY}"), format!("--regid={SOMEBODY}"));
        command.args([&reuid, &regid, "--clear-groups"]).args(words).current_dir("/");
        // As a user who is logged in has it: below /run, or here below a directory of one's own.
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", &home).env("SHELL", "/bin/sh");
        // Debian gives users no directory of system programs.
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.stdin(Stdio::null()).output().unwrap().into()
    };
    if somebody(&["unshare", "--user", "--map-root-user", "--net", "true"]).code != 0 {
        eprintln!("skipped: this machine allows no user namespaces");
        return;
    }
    let svcd = svcd.to_str().unwrap();
    let lab = |words: &[&str]| somebody(&[&[svcd, "lab"], words].concat());
    assert!(lab(&["status"]).failed().contains("no lab is running"));
    let said = lab(&["up", "--nodes", "1"]).ok();
    assert!(said.contains("lab shell") && !said.contains("export KUBECONFIG"), "{said}");
    let status = lab(&["status"]).ok();
    assert_eq!(status.lines().filter(|line| line.ends_with(" Ready")).count(), 2, "{status}");
    assert!(lab(&["exec", "node1", "--", "ip", "-o", "addr"]).ok().contains("192.168.56.21/24"));
    let answer = "curl -s --max-time 5 192.168.56.21:30080; curl -s webui.default.svc.cluster.local";
    let answered = lab(&["exec", "node1", "--", "sh", "-c", answer]).ok();
    assert_eq!(answered.matches("pod: webui-").count(), 2, "{answered}");
    let script = format!("echo 'kubectl get nodes; curl -s 192.168.56.21:30080' | {svcd} lab shell");
    let inside = somebody(&["sh", "-c", &script]).ok();
    assert!(inside.contains("control-plane") && inside.contains("pod: webui-"), "{inside}");
    assert!(lab(&["up"]).failed().contains("a lab is running already"));
    lab(&["down"]).ok();
    let dir = home.join(format!("svcd-lab-{SOMEBODY}"));
    assert!(!dir.exists(), "nothing is left");
    // After a crash of everything, too.
    lab(&["up", "--nodes", "0"]).ok();
    for pid in lab(&["status"]).ok().lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)) {
        assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
    }
    lab(&["up", "--nodes", "0"]).ok();
    lab(&["down"]).ok();
    assert!(!dir.exists(), "nothing is left");
}

#[test]
fn e6_a_control_plane_that_is_killed_loses_nothing_and_services_go_on() {
    let lab = Lab::up(2);
    let address = lab.get("default", "service webui", "{.spec.clusterIP}");
    let by_address = format!("curl -sf --max-time 5 {address}");
    let by_name = "curl -sf --max-time 5 webui.default.svc.cluster.local";
    let mut servers = Vec::new();
    for (round, signal) in ["-9", "-TERM", "-9"].into_iter().enumerate() {
        let pid = pid_of(&lab, "control-plane");
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let acknowledged = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write_until_refused(&lab, round));
            let some = lab.dir().join(format!("written-{round}"));
            eventually("some writes", || if some.exists() { Ok(()) } else { Err("none yet".to_owned()) });
            lab.run("kill", &[signal, &pid]).ok();
            writer.join().unwrap()
        });
        let gone = || {
            if Path::new(&format!("/proc/{pid}/exe")).exists() { Err("it runs".to_owned()) } else { Ok(()) }
        };
        eventually("its end", gone);
        // The control plane's own node ended with it, DNS and all; its rules did not.
        for (node, ask) in [("control-plane", &*by_address), ("node1", &by_address), ("node2", by_name)] {
            assert!(lab.on(node, ask).ok().contains("pod: webui-"), "{node}");
        }
        servers.push(restart(&lab, &arguments));
        eventually("the API", || {
            let done = lab.kubectl(&["get", "--raw", "/readyz"]);
            if done.out == "ok" { Ok(()) } else { Err(done.err) }
        });
        let there = lab.kubectl(&["get", "configmaps", "-o", "name"]).ok();
        let lost: Vec<_> =
            acknowledged.iter().filter(|name| !there.contains(&format!("/{name}\n"))).collect();
        assert!(lost.is_empty(), "{signal}: {lost:?} of {} lost", acknowledged.len());
        // The agents are back by themselves: they take new pods, and forward to them.
        let name = format!("after-{round}");
        lab.echo("default", &name, 2);
        lab.kubectl(&["expose", "deployment", &name, "--port=80", "--target-port=8080"]).ok();
        for node in ["node1", "node2"] {
            let ask = format!("curl -sf --max-time 5 {name}.default.svc.cluster.local");
            eventually("an answer through the new Service", || {
                let done = lab.on(node, &ask);
                if done.out.contains(&format!("pod: {name}")) { Ok(()) } else { Err(done.out + &done.err) }
            });
        }
    }
    lab.svcd(&["lab", "down"]).ok();
    assert_nothing_left(&lab, "restarts");
}

/// Creates ConfigMaps until the server is gone; the names of those that it said it has.
fn write_until_refused(lab: &Lab, round: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0..1000 {
        let name = format!("kept-{round}-{number}");
        if lab.kubectl(&["create", "configmap", &name, "--request-timeout=5s"]).code != 0 {
            break;
        }
        acknowledged.push(name);
        if number == 5 {
            fs::write(lab.dir().join(format!("written-{round}")), "").expect("it can be told");
        }
    }
    acknowledged
}

/// Starts the control plane again, as it was started before.
fn restart(lab: &Lab, arguments: &[u8]) -> Running {
    let words =
        arguments.split(|byte| *byte == 0).skip(1).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut command = Command::new(binary());
    command
        .args(["lab", "exec", "control-plane", "--"])
        .arg(binary())
        .args(words.filter(|word| !word.is_empty()));
    let log = fs::File::options().append(true).open(lab.dir().join("control-plane.log")).expect("the log");
    command.env("SVCD_LAB_DIR", lab.dir()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    lab.machine().spawn(&mut command)
}

fn pid_of(lab: &Lab, node: &str) -> String {
    let data = lab.dir().join(node);
    let script = format!(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q -- ' [s]erver .*--data-dir {} ' && echo ${{p#/proc/}}; done",
        data.display()
    );
    let pids = lab.run("sh", &["-c", &script]).out;
    let found: Vec<&str> = pids.lines().collect();
    assert_eq!(found.len(), 1, "{node}: {found:?}");
    found[0].to_owned()
}

fn kill_nodes(lab: &Lab) {
    let status = lab.svcd(&["lab", "status"]).ok();
    for pid in status.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)) {
        lab.run("kill", &["-9", pid]).ok();
    }
}

/// No links, rules, mounts, processes and files of the lab.
#[track_caller]
fn assert_nothing_left(lab: &Lab, when: &str) {
    let machine = lab.machine();
    let kernel = machine.ip("-o link") + &machine.ip("route") + &machine.run(&["iptables-save"]);
    assert!(!kernel.contains("svcd") && !kernel.contains("KUBE"), "{when}: {kernel}");
    let dir = lab.dir().to_str().expect("the path is text");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    assert!(!mounts.contains(dir), "{when}: {mounts}");
    let script = format!("grep -lz '^SVCD_LAB_PROCESS={dir}$' /proc/[0-9]*/environ 2>/dev/null");
    assert_eq!(lab.run("sh", &["-c", &script]).out, "", "{when}: processes");
    assert!(!lab.dir().exists(), "{when}: files");
}
