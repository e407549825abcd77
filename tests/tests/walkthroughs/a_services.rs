//! A: Services.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use svcd_tests::{Lab, eventually};

use crate::pages::{NODES, plain_service, pod_of, pods_behind, service, until_pods};

#[test]
fn a1_a_cluster_ip_answers_from_every_node_and_pod_spread_over_its_pods() {
    let lab = Lab::shared();
    let ns = lab.namespace("a1");
    lab.echo(&ns, "web", 3);
    lab.apply(&ns, &plain_service("web"));
    let vip = lab.get(&ns, "svc web", "{.spec.clusterIP}");
    let range: Ipv4Net = "10.96.0.0/12".parse().unwrap();
    assert!(range.contains(&vip.parse::<Ipv4Addr>().unwrap()), "{vip}");
    let line = lab.kubectl(&["get", "svc", "web", "-n", &ns, "--no-headers"]).ok();
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(columns[..5], ["web", "ClusterIP", &vip, "<none>", "80/TCP"], "{line}");
    for node in NODES {
        assert_eq!(until_pods(lab, node, &vip, 3).len(), 3, "from {node}");
    }
    let seen: BTreeSet<String> = lab
        .in_pod(&ns, &format!("for i in $(seq 40); do curl -sS -m 2 {vip}; echo; done"))
        .ok()
        .lines()
        .filter_map(pod_of)
        .collect();
    assert_eq!(seen.len(), 3, "from a pod: {seen:?}");
    lab.kubectl(&["annotate", "svc", "web", "-n", &ns, "looked=at"]).ok();
    assert_eq!(lab.get(&ns, "svc web", "{.spec.clusterIP}"), vip, "the address never changes");
}

#[test]
fn a2_a_chosen_address_is_given_and_refused_to_a_second() {
    let lab = Lab::shared();
    let ns = lab.namespace("a2");
    let spec = "{ clusterIP: 10.100.100.200, ports: [{ port: 80 }] }";
    lab.apply(&ns, &service("first", spec));
    assert_eq!(lab.get(&ns, "svc first", "{.spec.clusterIP}"), "10.100.100.200");
    let refusal = lab.kubectl_with(&service("second", spec), &["create", "-n", &ns]).failed();
    assert!(refusal.contains("spec.clusterIPs") && refusal.contains("already allocated"), "{refusal}");
    let outside = service("third", "{ clusterIP: 10.200.0.1, ports: [{ port: 80 }] }");
    let refusal = lab.kubectl_with(&outside, &["create", "-n", &ns]).failed();
    assert!(refusal.contains("10.200.0.1") && refusal.contains("10.96.0.0/12"), "{refusal}");
    lab.kubectl(&["delete", "svc", "first", "-n", &ns]).ok();
    lab.apply(&ns, &service("second", spec));
}

#[test]
fn a3_describe_and_endpoints_show_addresses_and_ports() {
    let lab = Lab::shared();
    let ns = lab.namespace("a3");
    lab.echo(&ns, "web", 2);
    lab.apply(&ns, &plain_service("web"));
    let mut addresses: Vec<String> =
        lab.get(&ns, "pods -l app=web", "{.items[*].status.podIP}").split(' ').map(str::to_owned).collect();
    addresses.sort();
    eventually("the endpoints", || {
        let described = lab.kubectl(&["describe", "svc", "web", "-n", &ns]).ok();
        let endpoints = lab.kubectl(&["get", "endpoints", "web", "-n", &ns]).ok();
        let slices = lab.kubectl(&["get", "endpointslices", "-n", &ns]).ok();
        let all = addresses.iter().all(|a| {
            described.contains(&format!("{a}:8080"))
                && endpoints.contains(&format!("{a}:8080"))
                && slices.contains(a)
        });
        if all { Ok(()) } else { Err(format!("{described}{endpoints}{slices}")) }
    });
    let described = lab.kubectl(&["describe", "svc", "web", "-n", &ns]).ok();
    for wanted in ["Type:", "ClusterIP", "Port:", "80/TCP", "TargetPort:", "8080/TCP", "Selector:"] {
        assert!(described.contains(wanted), "{wanted} is not in\n{described}");
    }
}

#[test]
fn a5_a_pod_whose_labels_no_longer_match_gets_no_traffic() {
    let lab = Lab::shared();
    let ns = lab.namespace("a5");
    lab.echo(&ns, "web", 2);
    lab.apply(&ns, &plain_service("web"));
    let vip = lab.get(&ns, "svc web", "{.spec.clusterIP}");
    let before = until_pods(lab, "node1", &vip, 2);
    let leaver = before.first().unwrap();
    lab.kubectl(&["label", "pod", leaver, "-n", &ns, "app=other", "--overwrite"]).ok();
    eventually("traffic stops", || {
        let pods = pods_behind(lab, "node1", &vip, 12)?;
        if pods.contains(leaver) { Err(format!("{pods:?}")) } else { Ok(()) }
    });
    // The ReplicaSet makes up for the one that left.
    assert!(!until_pods(lab, "node1", &vip, 2).contains(leaver));
}

#[test]
fn a5_a_pod_whose_process_dies_leaves_and_returns() {
    let lab = Lab::shared();
    let ns = lab.namespace("a5-kill");
    let script = format!("echo $$$$ > {0}/a5.pid; exec nc -lk 8080 >/dev/null", lab.scratch().display());
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "one", "labels": { "app": "one" } },
        "spec": { "containers": [{ "name": "c", "image": "svcd.io/host", "command": ["sh", "-c", script] }] },
    });
    lab.apply(&ns, &pod.to_string());
    lab.apply(&ns, &plain_service("one"));
    let slice = "endpointslices -l kubernetes.io/service-name=one";
    let ready = || lab.get(&ns, slice, "{.items[*].endpoints[*].conditions.ready}");
    eventually("ready", || if ready() == "true" { Ok(()) } else { Err(ready()) });
    let pid = std::fs::read_to_string(lab.scratch().join("a5.pid")).unwrap();
    lab.on("node1", &format!("kill -9 {pid}")).ok();
    eventually("restarted", || {
        let count = lab.get(&ns, "pod one", "{.status.containerStatuses[0].restartCount}");
        if count == "1" { Ok(()) } else { Err(count) }
    });
    eventually("ready again", || if ready() == "true" { Ok(()) } else { Err(ready()) });
}

#[test]
fn a7_a_node_port_answers_on_every_node() {
    let lab = Lab::shared();
    let ns = lab.namespace("a7");
    lab.echo(&ns, "web", 2);
    let with = |name: &str, port: &str| {
        service(
            name,
            &format!(
                "{{ type: NodePort, selector: {{ app: web }}, ports: [{{ port: 80, targetPort: 8080{port} }}] }}"
            ),
        )
    };
    lab.apply(&ns, &with("web", ", nodePort: 30200"));
    assert_ne!(lab.get(&ns, "svc web", "{.spec.clusterIP}"), "");
    for node in NODES {
        assert_eq!(until_pods(lab, "node1", &format!("{node}.example.com:30200"), 2).len(), 2, "at {node}");
        let address = lab.get("default", &format!("node {node}"), "{.status.addresses[0].address}");
        eventually("from outside the cluster", || {
            let done = lab.run("curl", &["-sS", "-m", "2", &format!("{address}:30200")]);
            pod_of(&done.out).ok_or(done.err)
        });
    }
    let taken = lab.kubectl_with(&with("taken", ", nodePort: 30200"), &["create", "-n", &ns]).failed();
    assert!(taken.contains("spec.ports[0].nodePort") && taken.contains("already allocated"), "{taken}");
    let wild = lab.kubectl_with(&with("wild", ", nodePort: 40000"), &["create", "-n", &ns]).failed();
    assert!(wild.contains("spec.ports[0].nodePort") && wild.contains("30000-32767"), "{wild}");
    lab.apply(&ns, &with("free", ""));
    let free: u16 = lab.get(&ns, "svc free", "{.spec.ports[0].nodePort}").parse().unwrap();
    assert!((30000..=32767).contains(&free), "{free}");
}

#[test]
fn a11_a_headless_service_names_every_ready_pod() {
    let lab = Lab::shared();
    let ns = lab.namespace("a11");
    lab.echo(&ns, "web", 2);
    lab.apply(&ns, &service("web", "{ clusterIP: None, selector: { app: web }, ports: [{ port: 8080 }] }"));
    assert_eq!(lab.get(&ns, "svc web", "{.spec.clusterIP}"), "None");
    let mut wanted: Vec<String> =
        lab.get(&ns, "pods -l app=web", "{.items[*].status.podIP}").split(' ').map(str::to_owned).collect();
    wanted.sort();
    eventually("both addresses", || {
        let mut found: Vec<String> = lab
            .on("node2", "dig +short web.a11.svc.cluster.local @10.96.0.10")
            .ok()
            .lines()
            .map(str::to_owned)
            .collect();
        found.sort();
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let rules = lab.on("node2", "iptables -t nat -S | grep a11/web || true").ok();
    assert_eq!(rules, "", "a headless service has no rules");
}

#[test]
fn a11_a_pod_with_a_hostname_and_subdomain_has_a_name() {
    let lab = Lab::shared();
    let ns = lab.namespace("a11-name");
    lab.apply(&ns, &service("sub", "{ clusterIP: None, selector: { app: named }, ports: [{ port: 8080 }] }"));
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "labels": { "app": "named" } },
        "spec": { "hostname": "db-0", "subdomain": "sub", "containers": [{ "name": "c", "image": "svcd.io/echo" }] },
    });
    lab.apply(&ns, &pod.to_string());
    eventually("the pod's own name", || {
        let address = lab.get(&ns, "pod p", "{.status.podIP}");
        let found = lab.on("node1", "dig +short db-0.sub.a11-name.svc.cluster.local @10.96.0.10").ok();
        if !address.is_empty() && found.trim() == address {
            Ok(())
        } else {
            Err(format!("{found} for {address}"))
        }
    });
}

#[test]
fn a12_hand_made_endpoints_are_named_and_forwarded_to() {
    let lab = Lab::shared();
    let ns = lab.namespace("a12");
    lab.echo(&ns, "web", 1);
    let address = lab.get(&ns, "pods -l app=web", "{.items[0].status.podIP}");
    let endpoints = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Endpoints\nmetadata: {{ name: {name} }}\nsubsets:\n- addresses: [{{ ip: {address} }}]\n  ports: [{{ port: 8080 }}]\n"
        )
    };
    lab.apply(&ns, &service("by-hand", "{ clusterIP: None, ports: [{ port: 8080 }] }"));
    lab.apply(&ns, &endpoints("by-hand"));
    eventually("the hand-made address", || {
        let found = lab.on("node1", "dig +short by-hand.a12.svc.cluster.local @10.96.0.10").ok();
        if found.trim() == address { Ok(()) } else { Err(found) }
    });
    lab.apply(&ns, &service("vip", "{ ports: [{ port: 80 }] }"));
    lab.apply(&ns, &endpoints("vip"));
    let vip = lab.get(&ns, "svc vip", "{.spec.clusterIP}");
    until_pods(lab, "node3", &vip, 1);
    // An address outside the cluster: the machine's own end of the lab's network.
    let outside = endpoints("vip").replace(&address, "192.168.56.1");
    let _server = lab.machine().spawn(std::process::Command::new("sh").args([
        "-c",
        "while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\noutside\\n' | nc -N -l 8080 >/dev/null; done",
    ]));
    lab.apply(&ns, &outside);
    eventually("the machine outside", || {
        let done = lab.on("node3", &format!("curl -sS -m 2 {vip}"));
        if done.out.contains("outside") { Ok(()) } else { Err(format!("{}{}", done.out, done.err)) }
    });
}

#[test]
fn a19_without_ready_pods_connections_are_refused_at_once() {
    let lab = Lab::shared();
    let ns = lab.namespace("a19");
    lab.apply(&ns, &plain_service("nobody"));
    let vip = lab.get(&ns, "svc nobody", "{.spec.clusterIP}");
    // curl's exit code for a connection that was refused; a time-out is 28.
    let refused = |done: svcd_tests::Done| {
        if done.code == 7 { Ok(()) } else { Err(format!("{} {}", done.code, done.err)) }
    };
    eventually("refused from a node", || refused(lab.on("node1", &format!("curl -sS -m 5 {vip}"))));
    refused(lab.in_pod(&ns, &format!("curl -sS -m 5 {vip}"))).unwrap();
}

#[test]
fn a22_bad_services_are_refused_and_nothing_is_stored() {
    let lab = Lab::shared();
    let ns = lab.namespace("a22");
    let cases = [
        (service("My_Service", "{ ports: [{ port: 80 }] }"), vec!["metadata.name", "My_Service"]),
        (service("zero", "{ ports: [{ port: 0 }] }"), vec!["spec.ports[0].port", "between 1 and 65535"]),
        (
            service("big", "{ ports: [{ port: 70000 }] }"),
            vec!["spec.ports[0].port", "70000", "between 1 and 65535"],
        ),
        (service("odd", "{ portz: [], ports: [{ port: 80 }] }"), vec!["unknown field", "spec.portz"]),
        (service("sel", "{ selector: { 'a b': c }, ports: [{ port: 80 }] }"), vec!["spec.selector", "a b"]),
        (service("two", "{ ports: [{ port: 80 }, { port: 81 }] }"), vec!["spec.ports[0].name", "Required"]),
    ];
    for (manifest, words) in cases {
        let done = lab.kubectl_with(&manifest, &["create", "-n", &ns]);
        assert_eq!(done.code, 1, "{manifest}");
        let refusal = done.failed();
        assert!(words.iter().all(|w| refusal.contains(w)), "{words:?} not all in: {refusal}");
    }
    assert_eq!(lab.get(&ns, "svc", "{.items[*].metadata.name}"), "");
}

#[test]
fn a4_scaling_moves_the_endpoints_and_fails_no_request() {
    let lab = Lab::shared();
    let ns = lab.namespace("a4");
    lab.echo(&ns, "web", 2);
    lab.apply(&ns, &plain_service("web"));
    let vip = lab.get(&ns, "svc web", "{.spec.clusterIP}");
    // The client asks from node2, whose rules come in their own time.
    for node in ["node1", "node2"] {
        until_pods(lab, node, &vip, 2);
    }
    let stop = lab.scratch().join("a4.stop");
    let script = format!(
        "while [ ! -e {} ]; do curl -sS -m 2 -o /dev/null {vip} || echo failed; done",
        stop.display()
    );
    std::thread::scope(|scope| {
        let client = scope.spawn(|| lab.on("node2", &script));
        for count in [5, 2] {
            lab.kubectl(&["scale", "deployment", "web", "-n", &ns, &format!("--replicas={count}")]).ok();
            until_pods(lab, "node1", &vip, count);
        }
        std::fs::write(&stop, "").unwrap();
        let done = client.join().unwrap();
        assert_eq!(
            (done.out.as_str(), done.err.as_str()),
            ("", ""),
            "requests failed while pods came and went"
        );
    });
}

#[test]
fn a6_a_pod_that_is_not_ready_is_in_the_slice_and_gets_no_traffic() {
    let lab = Lab::shared();
    let ns = lab.namespace("a6");
    let file = lab.scratch().join("a6.ready");
    std::fs::write(&file, "").unwrap();
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": { "containers": [{
            "name": "c", "image": "svcd.io/echo",
            "readinessProbe": { "exec": { "command": ["test", "-e", file] }, "periodSeconds": 1, "failureThreshold": 1 },
        }] },
    });
    lab.apply(&ns, &pod.to_string());
    lab.apply(&ns, &plain_service("web"));
    let vip = lab.get(&ns, "svc web", "{.spec.clusterIP}");
    let until_ready = |wanted: &str| {
        eventually("readiness in the slice", || {
            let slice = "endpointslices -l kubernetes.io/service-name=web";
            let ready = lab.get(&ns, slice, "{.items[*].endpoints[*].conditions.ready}");
            if ready == wanted { Ok(()) } else { Err(ready) }
        });
    };
    until_ready("true");
    until_pods(lab, "node1", &vip, 1);
    std::fs::remove_file(&file).unwrap();
    until_ready("false");
    eventually("no traffic", || {
        let done = lab.on("node1", &format!("curl -sS -m 2 {vip}"));
        if done.code == 7 { Ok(()) } else { Err(done.out) }
    });
    std::fs::write(&file, "").unwrap();
    until_ready("true");
    until_pods(lab, "node1", &vip, 1);
}

#[test]
fn a10_an_external_name_is_an_alias() {
    let lab = Lab::shared();
    let ns = lab.namespace("a10");
    lab.apply(
        &ns,
        &service("out", "{ type: ExternalName, externalName: kube-dns.kube-system.svc.cluster.local }"),
    );
    assert_eq!(lab.get(&ns, "svc out", "{.spec.clusterIP}"), "");
    eventually("the alias and its address", || {
        let answer = lab.on("node1", "dig +short out.a10.svc.cluster.local @10.96.0.10").ok();
        if answer == "kube-dns.kube-system.svc.cluster.local.\n10.96.0.10\n" { Ok(()) } else { Err(answer) }
    });
}

#[test]
fn a13_session_affinity_keeps_a_client_on_its_pod() {
    let lab = Lab::shared();
    let ns = lab.namespace("a13");
    lab.echo(&ns, "web", 3);
    let spec =
        "{ sessionAffinity: ClientIP, selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }";
    lab.apply(&ns, &service("web", spec));
    assert_eq!(lab.get(&ns, "svc web", "{.spec.sessionAffinityConfig.clientIP.timeoutSeconds}"), "10800");
    let vip = lab.get(&ns, "svc web", "{.spec.clusterIP}");
    eventually("one pod for one client", || {
        let pods = pods_behind(lab, "node1", &vip, 20)?;
        if pods.len() == 1 { Ok(()) } else { Err(format!("{pods:?}")) }
    });
}

#[test]
fn a14_two_ports_need_names_and_each_has_its_srv_record() {
    let lab = Lab::shared();
    let ns = lab.namespace("a14");
    lab.echo(&ns, "web", 1);
    let ports = "{ name: http, port: 80, targetPort: 8080 }, { name: alt, port: 81, targetPort: 8080 }";
    lab.apply(&ns, &service("web", &format!("{{ selector: {{ app: web }}, ports: [{ports}] }}")));
    let vip = lab.get(&ns, "svc web", "{.spec.clusterIP}");
    until_pods(lab, "node2", &vip, 1);
    until_pods(lab, "node2", &format!("{vip}:81"), 1);
    for (name, port) in [("http", 80), ("alt", 81)] {
        let answer = lab
            .on("node2", &format!("dig +short SRV _{name}._tcp.web.a14.svc.cluster.local @10.96.0.10"))
            .ok();
        assert_eq!(answer, format!("0 100 {port} web.a14.svc.cluster.local.\n"));
    }
}

#[test]
fn a15_a_named_target_port_follows_each_pod() {
    let lab = Lab::shared();
    let ns = lab.namespace("a15");
    for (name, port) in [("one", 8081), ("two", 8082)] {
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "web" } },
            "spec": { "containers": [{
                "name": "c", "image": "svcd.io/echo", "ports": [{ "name": "web", "containerPort": port }],
            }] },
        });
        lab.apply(&ns, &pod.to_string());
    }
    lab.apply(&ns, &service("web", "{ selector: { app: web }, ports: [{ port: 80, targetPort: web }] }"));
    let vip = lab.get(&ns, "svc web", "{.spec.clusterIP}");
    until_pods(lab, "node3", &vip, 2);
}

#[test]
fn a18_external_addresses_are_forwarded() {
    let lab = Lab::shared();
    let ns = lab.namespace("a18");
    lab.echo(&ns, "web", 1);
    let spec =
        "{ externalIPs: [203.0.113.7], selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }";
    lab.apply(&ns, &service("web", spec));
    until_pods(lab, "node1", "203.0.113.7", 1);
}

#[test]
fn a21_a_pod_reaches_its_own_service() {
    let lab = Lab::shared();
    let ns = lab.namespace("a21");
    let pod = |script: &str| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "self", "labels": { "app": "self" } },
            "spec": { "containers": [
                { "name": "server", "image": "svcd.io/echo" },
                { "name": "client", "image": "svcd.io/host", "command": ["sh", "-c", script] },
            ] },
        })
    };
    lab.apply(&ns, &plain_service("self"));
    let vip = lab.get(&ns, "svc self", "{.spec.clusterIP}");
    let out = lab.scratch().join("a21.out");
    let script =
        format!("until curl -sS -m 2 {vip} >{out}; do sleep 0.2; done; exec sleep 600", out = out.display());
    lab.apply(&ns, &pod(&script).to_string());
    eventually("its own answer", || {
        let answer = std::fs::read_to_string(&out).unwrap_or_default();
        if pod_of(&answer).as_deref() == Some("self") { Ok(()) } else { Err(answer) }
    });
}
