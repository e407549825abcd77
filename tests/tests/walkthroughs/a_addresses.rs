//! A, where Services' addresses and ports come from, and what load balancers are told.

use std::collections::BTreeSet;

use svcd_testkit::Running;
use svcd_tests::{Done, Lab, binary, eventually};

use crate::pages::{NODES, pod_of, service};

fn range(name: &str, cidr: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {{ name: {name} }}\nspec: {{ cidrs: [{cidr}] }}\n"
    )
}

#[test]
fn a2_ranges_of_addresses_come_and_go_as_with_a_real_server() {
    let lab = Lab::shared();
    let ns = lab.namespace("a2-ranges");
    lab.kubectl(&["wait", "servicecidr/kubernetes", "--for=condition=Ready", "--timeout=30s"]).ok();
    let line = lab.kubectl(&["get", "servicecidr", "kubernetes", "--no-headers"]).ok();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[..2], ["kubernetes", "10.96.0.0/12"], "{line}");
    let line = lab.kubectl(&["get", "ipaddress", "10.96.0.1", "--no-headers"]).ok();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["10.96.0.1", "services/default/kubernetes"],
        "{line}"
    );

    lab.apply("default", &range("sc2", "10.127.97.0/28"));
    lab.kubectl(&["wait", "servicecidr/sc2", "--for=condition=Ready", "--timeout=30s"]).ok();
    let other = "{\"spec\":{\"cidrs\":[\"10.127.98.0/28\"]}}";
    let refused = lab.kubectl(&["patch", "servicecidr", "sc2", "--type=merge", "-p", other]).failed();
    assert!(
        refused.contains("spec.cidrs[0]: Invalid value: \"10.127.98.0/28\": field is immutable"),
        "{refused}"
    );
    lab.apply("default", &range("sc3", "10.200.97.0/28"));
    lab.kubectl(&["wait", "servicecidr/sc3", "--for=condition=Ready", "--timeout=30s"]).ok();
    lab.apply(&ns, &service("in-sc3", "{ clusterIP: 10.200.97.3, ports: [{ port: 80 }] }"));
    lab.kubectl(&["get", "ipaddress", "10.200.97.3"]).ok();

    lab.kubectl(&["delete", "servicecidr", "sc2", "sc3", "--wait=false"]).ok();
    lab.kubectl(&["wait", "servicecidr/sc2", "--for=delete", "--timeout=30s"]).ok();
    let why = eventually("sc3 says why it waits", || {
        let why = lab.get("default", "servicecidr sc3", "{.status.conditions[0].reason}");
        if why == "Terminating" { Ok(why) } else { Err(why) }
    });
    assert_eq!(why, "Terminating");
    let late = service("late", "{ clusterIP: 10.200.97.4, ports: [{ port: 80 }] }");
    let refused = lab.kubectl_with(&late, &["create", "-n", &ns]).failed();
    assert!(refused.contains("spec.clusterIPs") && refused.contains("10.200.97.4"), "{refused}");
    lab.kubectl(&["delete", "svc", "in-sc3", "-n", &ns]).ok();
    lab.kubectl(&["wait", "servicecidr/sc3", "--for=delete", "--timeout=30s"]).ok();

    let bad = lab.kubectl_with(&range("bad", "10.97.0.1/28"), &["create"]).failed();
    assert!(bad.contains("spec.cidrs[0]: Invalid value: \"10.97.0.1/28\": must not have bits set"), "{bad}");
}

#[test]
fn a2_an_address_reserved_by_hand_is_not_given_out() {
    let lab = Lab::shared();
    let ns = lab.namespace("a2-reserved");
    let claim = "apiVersion: networking.k8s.io/v1\nkind: IPAddress\nmetadata: { name: 10.101.7.200 }\n\
                 spec: { parentRef: { resource: services, namespace: t1, name: nope } }\n";
    lab.apply("default", claim);
    let clash = service("clash", "{ clusterIP: 10.101.7.200, ports: [{ port: 80 }] }");
    let refused = lab.kubectl_with(&clash, &["create", "-n", &ns]).failed();
    assert!(
        refused.contains("failed to allocate IP 10.101.7.200: provided IP is already allocated"),
        "{refused}"
    );
    lab.kubectl(&["delete", "ipaddress", "10.101.7.200"]).ok();
    lab.apply(&ns, &clash);
    lab.kubectl(&["delete", "ipaddress", "10.101.7.200"]).ok();
    eventually("a Service gets its IPAddress back", || {
        let owner =
            lab.kubectl(&["get", "ipaddress", "10.101.7.200", "-o", "jsonpath={.spec.parentRef.name}"]);
        if owner.out == "clash" { Ok(()) } else { Err(owner.err) }
    });
}

/// Address of a node, as clients outside the cluster reach it.
fn address(lab: &Lab, node: &str) -> String {
    lab.get("default", &format!("node {node}"), "{.status.addresses[0].address}")
}

/// HTTP status, weight header and body of a node's health-check port.
fn health(lab: &Lab, node: &str, port: &str) -> String {
    let url = format!("{}:{port}", address(lab, node));
    let format = "\n%{http_code} %header{x-load-balancing-endpoint-weight}";
    let done: Done = lab.run("curl", &["-sS", "-m", "2", "-w", format, &url]);
    format!("{}{}", done.out, done.err)
}

#[test]
fn a16_external_policy_local_keeps_the_client_and_tells_load_balancers() {
    let lab = Lab::shared();
    let ns = lab.namespace("a16");
    lab.echo(&ns, "web", 1);
    let spec = "{ type: LoadBalancer, externalTrafficPolicy: Local, selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }";
    lab.apply(&ns, &service("web", spec));
    let port = lab.get(&ns, "svc web", "{.spec.ports[0].nodePort}");
    let check = lab.get(&ns, "svc web", "{.spec.healthCheckNodePort}");
    assert!((30_000..=32_767).contains(&check.parse().unwrap()) && check != port, "{check}");
    let home = lab.get(&ns, "pods -l app=web", "{.items[0].spec.nodeName}");

    let answer = eventually("the node of the pod answers", || {
        let done = lab.run("curl", &["-sS", "-m", "2", &format!("{}:{port}", address(lab, &home))]);
        pod_of(&done.out).map(|_| done.out).ok_or(done.err)
    });
    let client = answer.lines().find_map(|line| line.strip_prefix("client: ")).unwrap();
    assert!(
        client.starts_with("192.168.56.")
            && !NODES.iter().any(|node| client.starts_with(&format!("{}:", address(lab, node)))),
        "the client's own address: {answer}"
    );
    eventually("the health port of that node", || {
        let said = health(lab, &home, &check);
        let good = ["\"localEndpoints\": 1", "\"serviceProxyHealthy\": true", "\n200 1", "\"name\": \"web\""];
        if good.iter().all(|part| said.contains(part)) { Ok(()) } else { Err(said) }
    });
    for node in NODES.into_iter().filter(|node| *node != home) {
        let done = lab.run("curl", &["-sS", "-m", "1", &format!("{}:{port}", address(lab, node))]);
        assert_ne!(done.code, 0, "{node} has no pod of it: {}", done.out);
        eventually("the health port of a node without a pod", || {
            let said = health(lab, node, &check);
            if said.contains("\"localEndpoints\": 0") && said.contains("\n503 0") {
                Ok(())
            } else {
                Err(said)
            }
        });
    }

    lab.kubectl(&["scale", "deployment", "web", "-n", &ns, "--replicas=0"]).ok();
    eventually("the pod is gone, and the health port says so", || {
        let said = health(lab, &home, &check);
        if said.contains("\n503 0") { Ok(()) } else { Err(said) }
    });
    let cluster = "{\"spec\":{\"externalTrafficPolicy\":\"Cluster\"}}";
    lab.kubectl(&["patch", "svc", "web", "-n", &ns, "-p", cluster]).ok();
    assert_eq!(lab.get(&ns, "svc web", "{.spec.healthCheckNodePort}"), "");
    eventually("the port is closed", || {
        let said = health(lab, &home, &check);
        if said.contains("refused")
            || said.contains("Failed to connect")
            || said.contains("Could not connect")
        {
            Ok(())
        } else {
            Err(said)
        }
    });
}

#[test]
fn a16_a_health_port_that_is_taken_on_a_node_is_told_and_had_later() {
    let lab = Lab::shared();
    let ns = lab.namespace("a16-taken");
    lab.echo(&ns, "web", 1);
    let home = lab.get(&ns, "pods -l app=web", "{.items[0].spec.nodeName}");
    let pid = lab.on(&home, "nc -lk 32666 </dev/null >/dev/null 2>&1 & echo $!").ok();
    let pid = pid.trim().to_owned();
    eventually("the port is taken", || {
        let done = lab.on(&home, "ss -ltn | grep -c :32666");
        if done.out.trim() == "1" { Ok(()) } else { Err(done.out) }
    });
    let spec = "{ type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32666, selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }";
    lab.apply(&ns, &service("web", spec));
    eventually("an Event", || {
        let said = lab.kubectl(&["describe", "svc", "web", "-n", &ns]).ok();
        if said.contains("FailedToStartServiceHealthcheck") { Ok(()) } else { Err(said) }
    });
    lab.on(&home, &format!("kill {pid}")).ok();
    eventually("the port is had", || {
        let said = health(lab, &home, "32666");
        if said.contains("\n200 1") { Ok(()) } else { Err(said) }
    });
}

/// A control plane alone, with flags of its own.
struct Plane<'a> {
    lab: &'a Lab,
    data: std::path::PathBuf,
    log: std::path::PathBuf,
    _server: Running,
}

impl<'a> Plane<'a> {
    fn start(lab: &'a Lab, flags: &str) -> Self {
        let (data, log) = (lab.scratch().join("server"), lab.scratch().join("server.log"));
        let script = format!(
            "exec {} server --no-agent --data-dir {} {flags} >{} 2>&1",
            binary().display(),
            data.display(),
            log.display()
        );
        let server = lab.machine().spawn(std::process::Command::new("sh").args(["-c", &script]));
        let plane = Self { lab, data, log, _server: server };
        eventually("ready", || {
            let done = plane.kubectl(&["get", "svc", "kubernetes"]);
            if done.code == 0 { Ok(()) } else { Err(format!("{}{}", done.err, plane.said())) }
        });
        plane
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn kubectl(&self, words: &[&str]) -> Done {
        let kubeconfig = self.data.join("admin.kubeconfig");
        let kubeconfig = kubeconfig.to_str().expect("the path is text");
        self.lab.run("kubectl", &[&["--kubeconfig", kubeconfig], words].concat())
    }

    fn apply(&self, manifest: &str) {
        let file = self.lab.scratch().join("manifest.yaml");
        std::fs::write(&file, manifest).expect("the manifest can be written");
        self.kubectl(&["apply", "-f", file.to_str().expect("the path is text")]).ok();
    }

    fn get(&self, name: &str, path: &str) -> String {
        self.kubectl(&["get", "svc", name, "-o", &format!("jsonpath={{{path}}}")]).ok()
    }
}

#[test]
fn a23_a_dual_stack_control_plane_gives_both_families_and_no_agent_pretends() {
    let lab = Lab::without_cluster();
    let plane = Plane::start(
        &lab,
        "--listen 127.0.0.1:6443 --service-cidr 10.96.0.0/12,fd00:96::/108 --pod-cidr 10.244.0.0/16,fd00:244::/48",
    );
    let line = plane.kubectl(&["get", "servicecidr", "kubernetes", "--no-headers"]).ok();
    assert!(line.contains("10.96.0.0/12,fd00:96::/108"), "{line}");
    plane.apply(&service("both", "{ ipFamilyPolicy: RequireDualStack, ports: [{ port: 80 }] }"));
    assert_eq!(plane.get("both", ".spec.ipFamilies"), r#"["IPv4","IPv6"]"#);
    let ips = plane.get("both", ".spec.clusterIPs[*]");
    let given: Vec<&str> = ips.split(' ').collect();
    assert!(given[0].parse::<std::net::Ipv4Addr>().is_ok() && given[1].starts_with("fd00:96::"), "{ips}");
    let claims = plane.kubectl(&["get", "ipaddress", "-o", "jsonpath={.items[*].metadata.name}"]).ok();
    let claims: BTreeSet<&str> = claims.split(' ').collect();
    assert!(given.iter().all(|ip| claims.contains(ip)), "{claims:?}");
    let single = "{\"spec\":{\"ipFamilyPolicy\":\"SingleStack\"}}";
    plane.kubectl(&["patch", "svc", "both", "-p", single]).ok();
    assert_eq!(plane.get("both", ".spec.clusterIPs[*]"), given[0]);
    plane.apply(&service("six", "{ ipFamilies: [IPv6], ports: [{ port: 80 }] }"));
    assert!(plane.get("six", ".spec.clusterIP").starts_with("fd00:96::"));
    assert_eq!(plane.get("kubernetes", ".spec.clusterIPs"), r#"["10.96.0.1"]"#);

    let token = std::fs::read_to_string(plane.data.join("join-token")).unwrap();
    let data = lab.scratch().join("joiner");
    let refused = lab.svcd(&[
        "agent",
        "--join",
        "https://127.0.0.1:6443",
        "--token",
        token.trim(),
        "--node-name",
        "joiner",
        "--data-dir",
        data.to_str().unwrap(),
        "--health-address",
        "127.0.0.1:0",
    ]);
    let said = refused.failed();
    assert!(said.contains("fd00:96::/108") && said.contains("IPv4 only"), "{said}");
    let beside = lab.scratch().join("beside");
    let refused = lab.svcd(&[
        "server",
        "--data-dir",
        beside.to_str().unwrap(),
        "--listen",
        "127.0.0.1:6444",
        "--service-cidr",
        "fd00:96::/108",
        "--pod-cidr",
        "fd00:244::/48",
    ]);
    assert!(refused.failed().contains("--no-agent"));
}

#[test]
fn a23_an_ipv6_control_plane() {
    let lab = Lab::without_cluster();
    let flags = "--listen [::1]:6443 --service-cidr fd00:96::/108 --pod-cidr fd00:244::/48";
    let plane = Plane::start(&lab, flags);
    assert_eq!(plane.get("kubernetes", ".spec.clusterIPs"), r#"["fd00:96::1"]"#);
    plane.apply(&service("web", "{ ports: [{ port: 80 }] }"));
    assert_eq!(plane.get("web", ".spec.ipFamilies"), r#"["IPv6"]"#);
    let manifest = service("four", "{ ipFamilies: [IPv4], ports: [{ port: 80 }] }");
    let file = lab.scratch().join("four.yaml");
    std::fs::write(&file, manifest).unwrap();
    let refused = plane.kubectl(&["create", "-f", file.to_str().unwrap()]).failed();
    assert!(
        refused.contains("spec.ipFamilies[0]: Invalid value: \"IPv4\": not configured on this cluster"),
        "{refused}"
    );
}

/// Every address of a Service, and every address that is claimed.
fn addresses(plane: &Plane<'_>) -> (BTreeSet<String>, BTreeSet<String>) {
    let words = |what: &str, path: &str| -> BTreeSet<String> {
        let all = plane.kubectl(&["get", what, "-A", "-o", &format!("jsonpath={{.items[*]{path}}}")]).ok();
        all.split_whitespace().filter(|ip| *ip != "None").map(str::to_owned).collect()
    };
    (words("services", ".spec.clusterIPs[*]"), words("ipaddresses", ".metadata.name"))
}

#[test]
fn a2_a_killed_server_leaves_neither_a_service_without_its_address_nor_an_address_without_its_service() {
    let lab = Lab::without_cluster();
    let mut plane = Plane::start(&lab, "--listen 127.0.0.1:6443");
    for round in 0..3 {
        let creators: Vec<Running> = (0..4)
            .map(|creator| {
                let name = |n: usize| format!("s{round}-{creator}-{n}");
                let one =
                    |n| format!("---\n{}", service(&name(n), "{ type: NodePort, ports: [{ port: 80 }] }"));
                let file = lab.scratch().join(format!("many-{round}-{creator}.yaml"));
                std::fs::write(&file, (0..200).map(one).collect::<String>()).unwrap();
                let mut kubectl = std::process::Command::new("kubectl");
                kubectl
                    .arg("--kubeconfig")
                    .arg(plane.data.join("admin.kubeconfig"))
                    .args(["create", "-f"])
                    .arg(file);
                lab.machine()
                    .spawn(kubectl.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()))
            })
            .collect();
        let before = addresses(&plane).0.len();
        eventually("some have come", || {
            let now = addresses(&plane).0.len();
            if now > before + 20 { Ok(()) } else { Err(now.to_string()) }
        });
        drop(plane);
        drop(creators);
        plane = Plane::start(&lab, "--listen 127.0.0.1:6443");
        let (of_services, claimed) = addresses(&plane);
        assert_eq!(of_services, claimed, "after kill {round}");
    }
    let told = plane.kubectl(&["get", "events", "-A", "-o", "jsonpath={.items[*].reason}"]).ok();
    assert!(!told.contains("ClusterIPNotAllocated"), "nothing had to be repaired: {told}");
}
