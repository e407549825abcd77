//! E2, E3: what is wrong with a machine is said before anything is started on it.

use serde_json::Value;
use svcd_tests::{Machine, Site};

/// What is wrong, by check, severity and message; the exit code says whether anything is an error.
fn check(machine: &Machine, words: &str) -> Vec<(String, String, String)> {
    let words: Vec<&str> = ["check", "-o", "json"].into_iter().chain(words.split_whitespace()).collect();
    let done = machine.run(svcd_tests::binary(), &words);
    let listed: Value =
        serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err));
    let text = |finding: &Value, field: &str| finding[field].as_str().expect("a text").to_owned();
    let all = listed["findings"].as_array().expect("a list");
    let bad = all.iter().filter(|finding| finding["severity"] != "ok");
    let bad: Vec<_> = bad
        .map(|finding| {
            assert!(!text(finding, "fix").is_empty(), "{finding}");
            (text(finding, "check"), text(finding, "severity"), text(finding, "message"))
        })
        .collect();
    let errors = bad.iter().any(|(_, severity, _)| severity == "error");
    assert_eq!(done.code, i32::from(errors), "{}", done.out);
    bad
}

/// The checks that found errors.
fn errors(machine: &Machine, words: &str) -> Vec<String> {
    let found = check(machine, words).into_iter();
    found.filter(|(_, severity, _)| severity == "error").map(|(check, _, _)| check).collect()
}

/// A virtual machine as Vagrant makes them: the first interface is the same on all, and has the default route.
fn virtual_machine(site: &Site, name: &str, address: &str) -> Machine {
    let machine = site.bare_machine(name);
    let netns = machine.netns();
    netns.ip("link add eth0 type veth peer name nat");
    netns.ip("link set nat up");
    netns.ip("addr add 10.0.2.15/24 dev eth0");
    netns.ip("link set eth0 up");
    netns.ip("route add default via 10.0.2.2");
    site.plug(&machine, "eth1", address);
    machine
}

#[test]
fn e2_what_is_in_the_way_is_found_before_the_start() {
    let site = Site::new();
    let machine = site.machine("m", "192.168.56.11/24");
    assert_eq!(errors(&machine, ""), [""; 0]);
    assert_eq!(errors(&machine, "--pod-cidr 192.168.0.0/16"), ["ranges"]);
    assert_eq!(errors(&machine, "--node-ip 192.168.56.99"), ["addresses"]);
    machine.netns().ip("link add docker0 type bridge");
    machine.netns().ip("addr add 10.244.0.1/24 dev docker0");
    machine.netns().ip("link set docker0 up");
    assert_eq!(errors(&machine, "")[0], "ranges");
    machine.netns().ip("link del docker0");
    machine.run("iptables", &["-P", "INPUT", "DROP"]).ok();
    let told = check(&machine, "");
    assert!(
        told.iter().any(|(check, _, message)| check == "firewall" && message.contains("INPUT")),
        "{told:?}"
    );
    let shown = machine.run(svcd_tests::binary(), &["check"]).ok();
    assert!(shown.contains("fix: iptables -I INPUT -i svcd0 -j ACCEPT"), "{shown}");
    let unread = format!("{{ {} check 2>&3 | true; }} 3>&1", svcd_tests::binary().display());
    assert_eq!(machine.run("sh", &["-c", &unread]).ok(), "", "nobody reads on, and that is no error");
    let taken = machine.netns().enter(|| std::net::TcpListener::bind("0.0.0.0:6443"));
    assert_eq!(errors(&machine, ""), ["ports"]);
    assert_eq!(errors(&machine, "--listen 0.0.0.0:7443"), [""; 0]);
    drop(taken);
}

#[test]
fn e3_virtual_machines_that_share_an_address_find_each_other() {
    let site = Site::new();
    let control_plane = virtual_machine(&site, "control-plane", "192.168.56.11/24");
    let node = virtual_machine(&site, "node1", "192.168.56.21/24");
    let join = "--role agent --join https://192.168.56.11:6443";
    assert_eq!(errors(&node, join), ["clock"], "there is no server yet");
    assert_eq!(errors(&control_plane, ""), [""; 0]);
    let _server = control_plane.serve("");
    assert!(
        control_plane.log().contains("The API is at https://192.168.56.11:6443"),
        "{}",
        control_plane.log()
    );
    assert_eq!(errors(&node, join), [""; 0]);
    // What runs already is no clash with itself.
    assert_eq!(errors(&control_plane, ""), [""; 0]);
    let token = control_plane.token().expect("the server wrote it");
    let _agent =
        node.start(&format!("agent --join https://192.168.56.11:6443 --token {token} --heartbeat 1"));
    control_plane.node_is("node1", "True");
    let address = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
    assert_eq!(control_plane.run("kubectl", &["get", "node", "node1", "-o", address]).ok(), "192.168.56.21");
    assert_eq!(errors(&node, join), [""; 0]);
}
