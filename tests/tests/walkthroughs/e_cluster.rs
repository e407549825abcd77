//! E: getting a cluster.

use svcd_tests::{Lab, eventually};

#[test]
fn e1_one_command_gives_a_cluster_with_something_to_look_at() {
    let lab = Lab::without_cluster();
    let said = lab.svcd(&["lab", "up"]).ok();
    for wanted in [
        "control-plane   192.168.56.11",
        "node3           192.168.56.23",
        "export KUBECONFIG=",
        "kubectl get nodes",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is not in\n{said}");
    }
    let ready = lab.kubectl(&["get", "nodes", "--no-headers"]).ok();
    assert_eq!(ready.lines().filter(|l| l.contains(" Ready ")).count(), 4, "{ready}");
    // What it says to type next works, word for word.
    let mut typed = 0;
    for line in said.lines().map(|l| l.split('#').next().unwrap_or_default().trim()) {
        if ["curl ", "kubectl "].iter().any(|c| line.starts_with(c)) || line.contains("svcd lab exec") {
            lab.run("sh", &["-c", line]).ok();
            typed += 1;
        }
    }
    assert_eq!(typed, 6, "{said}");
    let second = lab.svcd(&["lab", "up"]);
    assert_eq!(second.code, 1);
    assert!(second.failed().contains("a lab is running already"));
    lab.svcd(&["lab", "down"]).ok();
    let left = lab.machine().ip("-o link") + &lab.machine().run(&["iptables-save"]);
    assert!(!left.contains("svcd"), "{left}");
    assert!(!lab.dir().exists());
    assert!(lab.svcd(&["lab", "down"]).failed().contains("no lab is running"));
}

#[test]
fn e1_a_network_in_use_is_refused_with_a_free_one() {
    let lab = Lab::without_cluster();
    lab.machine().ip("link add d0 type bridge");
    lab.machine().ip("addr add 192.168.56.7/24 dev d0");
    let refusal = lab.svcd(&["lab", "up", "--nodes", "1"]).failed();
    assert!(refusal.contains("192.168.56.0/24") && refusal.contains("--subnet 192.168.57.0/24"), "{refusal}");
    lab.svcd(&["lab", "up", "--nodes", "1", "--subnet", "192.168.57.0/24"]).ok();
    assert_eq!(lab.get("default", "node node1", "{.status.addresses[0].address}"), "192.168.57.21");
}

#[test]
fn e1_down_cleans_up_after_a_crash() {
    let lab = Lab::up(1);
    let status = lab.svcd(&["lab", "status"]).ok();
    for pid in status.lines().skip(1).filter_map(|l| l.split_whitespace().nth(2)) {
        lab.run("kill", &["-9", pid]).ok();
    }
    lab.svcd(&["lab", "down"]).ok();
    assert!(!lab.dir().exists());
    let links = lab.machine().ip("-o link");
    assert!(!links.contains("svcd"), "{links}");
    lab.svcd(&["lab", "up", "--nodes", "1"]).ok();
}

#[test]
fn e2_a_server_prints_a_kubeconfig_and_the_join_command() {
    let lab = Lab::without_cluster();
    let data = lab.scratch().join("server");
    let log = lab.scratch().join("server.log");
    let script = format!(
        "exec {} server --no-agent --data-dir {} --listen 127.0.0.1:6443 >{} 2>&1",
        svcd_tests::binary().display(),
        data.display(),
        log.display()
    );
    let _server = lab.machine().spawn(std::process::Command::new("sh").args(["-c", &script]));
    let kubeconfig = data.join("admin.kubeconfig");
    let kubectl = |words: &[&str]| {
        lab.run("kubectl", &[&["--kubeconfig", kubeconfig.to_str().unwrap()], words].concat())
    };
    eventually("ready", || {
        let done = kubectl(&["get", "--raw", "/readyz"]);
        if done.out == "ok" { Ok(()) } else { Err(done.err) }
    });
    let said = eventually("the join line", || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if said.contains("svcd agent --join https://127.0.0.1:6443 --token svcd1.") {
            Ok(said)
        } else {
            Err(said)
        }
    });
    assert!(said.contains(kubeconfig.to_str().unwrap()), "{said}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&kubeconfig).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(kubectl(&["version"]).ok().contains("v1.37.0+svcd.0.1.0"));
}

#[test]
fn e3_a_bad_join_gives_one_clear_line() {
    let lab = Lab::up(1);
    let token =
        std::fs::read_to_string(lab.dir().join("control-plane/join-token")).unwrap().trim().to_owned();
    let data = lab.scratch().join("joiner");
    let join = |server: &str, token: &str, name: &str| {
        let script = format!(
            "{} agent --join {server} --token {token} --node-name {name} --data-dir {} --health-address 127.0.0.1:0",
            svcd_tests::binary().display(),
            data.display()
        );
        let done = lab.on("node1", &script);
        assert_eq!(done.code, 1, "{}{}", done.out, done.err);
        let said: Vec<String> =
            done.err.lines().filter(|l| l.starts_with("svcd: ")).map(str::to_owned).collect();
        assert_eq!(said.len(), 1, "{}", done.err);
        assert!(!data.join("agent/credentials.json").exists(), "nothing is half-done");
        said[0].clone()
    };
    let url = "https://192.168.56.11:6443";
    let parts: Vec<&str> = token.split('.').collect();
    let wrong_secret = format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], "x".repeat(parts[3].len()));
    assert!(join(url, &wrong_secret, "new").contains("token"), "a wrong token");
    assert!(join(url, "nonsense", "new").contains("token"), "no token at all");
    let other_ca = format!("{}.{}.{}.{}", parts[0], "A".repeat(parts[1].len()), parts[2], parts[3]);
    assert!(join(url, &other_ca, "new").contains("CA"), "another cluster's token");
    assert!(join(url, &token, "control-plane").contains("control-plane"), "a taken name");
    assert!(
        join("https://192.168.56.99:6443", &token, "new").contains("192.168.56.99"),
        "an unreachable server"
    );
    lab.on(
        "control-plane",
        &format!(
            "{} token revoke {} --data-dir {}",
            svcd_tests::binary().display(),
            parts[2],
            lab.dir().join("control-plane").display()
        ),
    )
    .ok();
    assert!(join(url, &token, "new").contains("token"), "a revoked token");
}

#[test]
fn e3_tokens_are_created_listed_and_revoked() {
    let lab = Lab::up(0);
    let data = lab.dir().join("control-plane");
    let data = data.to_str().unwrap();
    let line =
        lab.svcd(&["token", "create", "--data-dir", data, "--ttl", "1", "--description", "for a test"]).ok();
    let token = line.split_whitespace().last().unwrap().to_owned();
    assert!(line.starts_with("svcd agent --join https://192.168.56.11:6443 --token svcd1."), "{line}");
    let id = token.split('.').nth(2).unwrap();
    let list = lab.svcd(&["token", "list", "--data-dir", data]).ok();
    assert!(list.lines().any(|l| l.starts_with(id) && l.ends_with("for a test")), "{list}");
    let secret = token.split('.').nth(3).unwrap();
    let stored = lab.kubectl(&["get", "secrets", "-n", "kube-system", "-o", "json"]).ok();
    assert!(!stored.contains(secret), "only a hash is stored");
    lab.svcd(&["token", "revoke", id, "--data-dir", data]).ok();
    assert!(!lab.svcd(&["token", "list", "--data-dir", data]).ok().contains(id));
    assert!(lab.svcd(&["token", "revoke", id, "--data-dir", data]).failed().contains("no token"));
}

#[test]
fn e2_mistakes_give_one_line_of_what_and_one_of_what_to_do() {
    let lab = Lab::without_cluster();
    let data = lab.scratch().join("s");
    let data = data.to_str().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["server", "--nonsense"], "--nonsense"),
        (&["server", "--no-agent", "--data-dir", data, "--service-cidr", "300.0.0.0/8"], "--service-cidr"),
        (&["server", "--no-agent", "--data-dir", data, "--pod-cidr", "10.96.0.0/16"], "overlap"),
        (&["server", "--no-agent", "--data-dir", data, "--proxy-mode", "magic"], "magic"),
        (&["agent", "--join", "http://192.168.56.11:6443", "--data-dir", data], "https"),
    ];
    for (words, wanted) in cases {
        let done = lab.svcd(words);
        assert_eq!(done.code, 1, "{words:?}");
        let said = done.failed();
        assert!(said.contains(wanted), "{words:?}: {said}");
        assert_eq!(said.lines().count(), 2, "{words:?}: {said}");
    }
}
