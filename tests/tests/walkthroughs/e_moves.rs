//! Machines whose address changes while svcd runs.

use svcd_tests::{Machine, Site, eventually};

/// The address under which the cluster knows a node.
fn known_address(control_plane: &Machine, node: &str) -> String {
    let path = r#"jsonpath={.status.addresses[?(@.type=="InternalIP")].address}"#;
    control_plane.run("kubectl", &["get", "node", node, "-o", path]).out
}

const GATEWAY: &str = "192.168.56.1";

/// What a new lease does: the old address goes, with the routes that it had, then the new one comes.
fn readdress(machine: &Machine, old: &str, new: &str) {
    machine.netns().ip(&format!("addr del {old}/24 dev eth0"));
    machine.netns().ip(&format!("addr add {new}/24 dev eth0"));
    machine.netns().ip(&format!("route replace default via {GATEWAY} dev eth0"));
}

fn becomes(control_plane: &Machine, node: &str, address: &str) {
    eventually(&format!("{node} is known at {address}"), || {
        let known = known_address(control_plane, node);
        if known == address { Ok(()) } else { Err(known) }
    });
    control_plane.node_is(node, "True");
}

fn answers(from: &Machine, address: &str) {
    eventually(&format!("{address} answers"), || {
        let done = from.run("curl", &["-s", "--max-time", "2", address]);
        if done.out.contains("pod: web") { Ok(()) } else { Err(format!("{} {}", done.out, done.err)) }
    });
}

#[test]
fn e3_machines_whose_address_changes_come_back_by_themselves() {
    let site = Site::new();
    let control_plane = site.machine("control-plane", "192.168.56.11/24");
    let node = site.machine("node1", "192.168.56.21/24");
    for machine in [&control_plane, &node] {
        machine.netns().ip(&format!("route add default via {GATEWAY} dev eth0"));
    }
    let _server = control_plane.start("server --heartbeat 1");
    eventually("a server", || control_plane.token().ok_or_else(|| control_plane.log()));
    let token = control_plane.token().expect("the server wrote it");
    let _agent =
        node.start(&format!("agent --join https://192.168.56.11:6443 --token {token} --heartbeat 1"));
    control_plane.node_is("node1", "True");
    control_plane.kubectl("run web --image svcd.io/echo --port 8080").ok();
    control_plane.kubectl("expose pod web --port 80 --target-port 8080").ok();
    let vip = control_plane.kubectl("get svc web -o jsonpath={.spec.clusterIP}").ok();
    answers(&control_plane, &vip);

    readdress(&node, "192.168.56.21", "192.168.56.31");
    becomes(&control_plane, "node1", "192.168.56.31");
    answers(&control_plane, &vip);
    answers(&node, &vip);
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(control_plane.run("kubectl", &["get", "pod", "web", "-o", restarts]).ok(), "0");

    // Not another network's, when one's own is away for a moment.
    site.plug(&node, "eth1", "192.168.57.21/24");
    node.netns().ip("addr del 192.168.56.31/24 dev eth0");
    node.netns().ip("route replace default via 192.168.57.1 dev eth1");
    std::thread::sleep(std::time::Duration::from_secs(3));
    node.netns().ip("addr add 192.168.56.31/24 dev eth0");
    becomes(&control_plane, "node1", "192.168.56.31");
    assert_eq!(node.log().matches("starting anew").count(), 1, "{}", node.log());

    readdress(&control_plane, "192.168.56.11", "192.168.56.12");
    becomes(&control_plane, "control-plane", "192.168.56.12");
    let kubeconfig = std::fs::read_to_string(control_plane.data().join("admin.kubeconfig")).unwrap();
    assert!(kubeconfig.contains("https://192.168.56.12:6443"), "{kubeconfig}");
    eventually("the API's own Service follows", || {
        let found =
            control_plane.kubectl("get endpoints kubernetes -o jsonpath={.subsets[*].addresses[*].ip}");
        if found.out == "192.168.56.12" { Ok(()) } else { Err(found.out) }
    });
}
