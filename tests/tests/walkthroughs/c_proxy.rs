//! C: kube-proxy.

use svcd_tests::{Lab, eventually};

use crate::pages::{NODES, plain_service, until_pods};

#[test]
fn c1_the_rules_have_the_names_that_people_know() {
    let lab = Lab::shared();
    let ns = lab.namespace("c1");
    lab.echo(&ns, "web", 2);
    lab.apply(&ns, &plain_service("web"));
    lab.kubectl(&[
        "expose",
        "deployment",
        "web",
        "-n",
        &ns,
        "--name=on-nodes",
        "--type=NodePort",
        "--port=8080",
    ])
    .ok();
    for node in NODES {
        eventually("the rules", || {
            let rules = lab.on(node, "iptables -t nat -S").ok();
            let wanted = [
                "-A KUBE-SERVICES",
                "c1/web",
                "c1/on-nodes",
                "KUBE-SVC-",
                "KUBE-SEP-",
                "-A KUBE-NODEPORTS",
                "-A KUBE-MARK-MASQ",
            ];
            match wanted.iter().find(|w| !rules.contains(**w)) {
                None => Ok(()),
                Some(missing) => Err(format!("{missing} is not in the rules of {node}:\n{rules}")),
            }
        });
    }
}

#[test]
fn c5_forwarding_goes_on_without_the_agent() {
    let lab = Lab::up(1);
    lab.echo("default", "web", 2);
    lab.apply("default", &plain_service("web"));
    let vip = lab.get("default", "svc web", "{.spec.clusterIP}");
    until_pods(&lab, "node1", &vip, 2);
    let before = lab.on("node1", "iptables-save -t nat | grep -v '^[#:]'").ok();
    kill(&lab, "node1");
    until_pods(&lab, "node1", &vip, 2);
    start_agent(&lab, "node1", "192.168.56.21");
    eventually("the node is back", || {
        let renewed = lab.on("node1", "curl -s 127.0.0.1:10256/healthz -o /dev/null -w '%{http_code}'").out;
        if renewed == "200" { Ok(()) } else { Err(renewed) }
    });
    until_pods(&lab, "node1", &vip, 2);
    let after = lab.on("node1", "iptables-save -t nat | grep -v '^[#:]'").ok();
    assert_eq!(before, after, "the rules are as they were");
}

#[test]
fn c6_cleanup_leaves_nothing_of_ours() {
    let lab = Lab::up(1);
    kill(&lab, "node1");
    let data = lab.dir().join("node1");
    let binary = svcd_tests::binary();
    let script = format!("{} agent --cleanup --data-dir {}", binary.display(), data.display());
    lab.on("node1", &script).ok();
    let rules = lab.on("node1", "iptables-save | grep -Ei 'kube|svcd' || true").ok();
    assert_eq!(rules, "", "rules are left");
    let links = lab.on("node1", "ip -o link; ip -o addr show dev lo").ok();
    assert!(!links.contains("svcd0") && !links.contains("veth") && !links.contains("10.96.0.10"), "{links}");
    let routes = lab.on("node1", "ip route").ok();
    assert!(!routes.contains("10.244."), "{routes}");
    lab.on("node1", &script).ok();
}

/// Kills a node's process as a crash would.
fn kill(lab: &Lab, node: &str) {
    let status = lab.svcd(&["lab", "status"]).ok();
    let line = status.lines().find(|l| l.starts_with(node)).expect("the node is in the list").to_owned();
    let pid = line.split_whitespace().nth(2).expect("a line has a pid").to_owned();
    lab.run("kill", &["-9", &pid]).ok();
    eventually("the process has ended", || {
        let status = lab.svcd(&["lab", "status"]).ok();
        let line = status.lines().find(|l| l.starts_with(node)).unwrap_or_default().to_owned();
        if line.split_whitespace().nth(2) == Some("-") { Ok(()) } else { Err(line) }
    });
}

/// Starts a node's agent again, as its service manager would: without a token.
fn start_agent(lab: &Lab, node: &str, address: &str) {
    let data = lab.dir().join(node);
    let script = format!(
        "SVCD_LAB_DIR={dir} {svcd} agent --join https://192.168.56.11:6443 --data-dir {data} --node-name {node} --node-ip {address} \
         --heartbeat 2 >>{dir}/{node}.log 2>&1 & ",
        dir = lab.dir().display(),
        svcd = svcd_tests::binary().display(),
        data = data.display(),
    );
    lab.on(node, &script).ok();
}
