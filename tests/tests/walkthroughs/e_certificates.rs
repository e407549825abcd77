//! E, over the years: certificates that end, and tokens that are used up.

use std::time::{Duration, SystemTime};

use svcd_tests::{Machine, Site, eventually};

/// The certificates of a machine: name, and when each ends.
fn certificates(machine: &Machine) -> Vec<(String, String)> {
    let listed: serde_json::Value = serde_json::from_str(&machine.svcd("certs -o json").ok()).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = listed["certificates"].as_array().expect("a list");
    all.iter().map(|one| (text(&one["name"]), text(&one["notAfter"]))).collect()
}

#[test]
fn e3_certificates_are_renewed_while_everything_goes_on() {
    let site = Site::new();
    let control_plane = site.machine("control-plane", "192.168.56.11/24");
    let node = site.machine("node1", "192.168.56.21/24");
    let _server = control_plane.serve("--certificate-validity 15s --listen 192.168.56.11:6443");
    let started = SystemTime::now();
    let token = control_plane.token().unwrap();
    let _agent =
        node.start(&format!("agent --join https://192.168.56.11:6443 --token {token} --heartbeat 1"));
    control_plane.node_is("node1", "True");
    let joined = SystemTime::now();
    let first = (certificates(&control_plane), certificates(&node));
    let names: Vec<&str> = first.0.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["svcd-ca", "svcd", "kubernetes-admin"]);
    assert_eq!(first.1[0].0, "system:node:node1");
    // Everything that was there when it began has ended.
    let over = joined.max(started) + Duration::from_secs(16);
    std::thread::sleep(over.duration_since(SystemTime::now()).unwrap_or_default());
    let now = (certificates(&control_plane), certificates(&node));
    assert_eq!(now.0[0], first.0[0], "the authority stays");
    assert!(now.0[1] != first.0[1] && now.0[2] != first.0[2] && now.1 != first.1, "{first:?} {now:?}");
    let table = control_plane.svcd("certs").ok();
    assert!(table.starts_with("NAME") && !table.contains("expired"), "{table}");
    let beat = || {
        let renewed = "jsonpath={.spec.renewTime}";
        control_plane.run("kubectl", &["get", "lease", "node1", "-n", "kube-node-lease", "-o", renewed]).ok()
    };
    let last = beat();
    eventually("a heartbeat under the new certificate", || {
        if beat() == last { Err(last.clone()) } else { Ok(()) }
    });
    control_plane.node_is("node1", "True");
}

#[test]
fn e3_a_token_is_used_once() {
    let site = Site::new();
    let control_plane = site.machine("control-plane", "192.168.56.11/24");
    let (first, second) =
        (site.machine("node1", "192.168.56.21/24"), site.machine("node2", "192.168.56.22/24"));
    let _server = control_plane.serve("--listen 192.168.56.11:6443");
    let line = control_plane.svcd("token create --uses 1 --description once").ok();
    let join = line.trim().strip_prefix("svcd ").unwrap().to_owned();
    let listed = control_plane.svcd("token list").ok();
    let row = listed.lines().find(|line| line.contains("once")).unwrap();
    assert_eq!(row.split_whitespace().nth(2), Some("1"), "{listed}");
    let _agent = first.start(&join);
    control_plane.node_is("node1", "True");
    let said = second.svcd(&format!("{join} --node-name node2")).failed();
    assert!(said.contains("refused the token") && said.contains("used up"), "{said}");
    let listed = control_plane.svcd("token list").ok();
    assert!(!listed.contains("once") && listed.contains("any"), "{listed}");
}
