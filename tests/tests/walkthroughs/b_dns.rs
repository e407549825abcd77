//! B: DNS.

use svcd_tests::{Lab, eventually};

use crate::pages::{plain_service, service};

#[test]
fn b1_a_pods_resolv_conf() {
    let lab = Lab::shared();
    let ns = lab.namespace("b1");
    let text = lab.in_pod(&ns, "cat /etc/resolv.conf").ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.contains(&"nameserver 10.96.0.10"), "{text}");
    assert!(
        lines.iter().any(|l| l.starts_with("search b1.svc.cluster.local svc.cluster.local cluster.local")),
        "{text}"
    );
    assert!(lines.contains(&"options ndots:5"), "{text}");
}

#[test]
fn b2_short_and_long_names_give_the_address() {
    let lab = Lab::shared();
    let ns = lab.namespace("b2");
    lab.apply(&ns, &plain_service("my-nginx"));
    let vip = lab.get(&ns, "svc my-nginx", "{.spec.clusterIP}");
    for name in ["my-nginx", "my-nginx.b2", "my-nginx.b2.svc", "my-nginx.b2.svc.cluster.local"] {
        let answer = lab.in_pod(&ns, &format!("nslookup {name}")).ok();
        assert!(answer.contains(&format!("Address: {vip}")), "{name}: {answer}");
    }
}

#[test]
fn b7_names_that_do_not_exist_are_denied_at_once_with_an_soa() {
    let lab = Lab::shared();
    let answer = lab.on("node1", "dig nothing.default.svc.cluster.local @10.96.0.10").ok();
    assert!(answer.contains("status: NXDOMAIN"), "{answer}");
    assert!(answer.contains("SOA") && answer.contains("ns.dns.cluster.local."), "{answer}");
    let nodata = lab.on("node1", "dig AAAA kubernetes.default.svc.cluster.local @10.96.0.10").ok();
    assert!(
        nodata.contains("status: NOERROR") && nodata.contains("ANSWER: 0") && nodata.contains("SOA"),
        "{nodata}"
    );
}

#[test]
fn b8_the_dns_service_and_what_serves_it() {
    let lab = Lab::shared();
    let line = lab.kubectl(&["get", "svc", "kube-dns", "-n", "kube-system", "--no-headers"]).ok();
    assert!(line.contains("10.96.0.10") && line.contains("53/UDP") && line.contains("53/TCP"), "{line}");
    let all = lab.kubectl(&["get", "all", "-n", "kube-system", "-l", "k8s-app=kube-dns"]).ok();
    assert!(all.contains("service/kube-dns"), "{all}");
    eventually("an endpoint for each node", || {
        let slices = "endpointslices -l kubernetes.io/service-name=kube-dns";
        let servers = lab.get("kube-system", slices, "{.items[*].endpoints[*].addresses[0]}");
        if servers.split_whitespace().count() == 4 { Ok(()) } else { Err(servers) }
    });
}

#[test]
fn b10_services_are_in_the_environment_of_later_pods() {
    let lab = Lab::shared();
    let ns = lab.namespace("b10");
    lab.apply(&ns, &plain_service("my-nginx"));
    let vip = lab.get(&ns, "svc my-nginx", "{.spec.clusterIP}");
    let environment = lab.in_pod(&ns, "env").ok();
    for wanted in [
        format!("MY_NGINX_SERVICE_HOST={vip}"),
        "MY_NGINX_SERVICE_PORT=80".to_owned(),
        format!("MY_NGINX_PORT=tcp://{vip}:80"),
        format!("MY_NGINX_PORT_80_TCP_ADDR={vip}"),
        "KUBERNETES_SERVICE_HOST=10.96.0.1".to_owned(),
        "KUBERNETES_SERVICE_PORT=443".to_owned(),
    ] {
        assert!(environment.lines().any(|line| line == wanted), "{wanted} is not in\n{environment}");
    }
}

#[test]
fn b3_b5_b6_service_records_reverse_names_and_the_version() {
    let lab = Lab::shared();
    let ns = lab.namespace("b3");
    lab.apply(&ns, &service("my-nginx", "{ ports: [{ name: http, port: 80 }] }"));
    let vip = lab.get(&ns, "svc my-nginx", "{.spec.clusterIP}");
    let dig = |words: &str| lab.on("node1", &format!("dig {words} @10.96.0.10")).ok();
    let name = "my-nginx.b3.svc.cluster.local.";
    eventually("the SRV record with its address", || {
        let answer = dig(&format!("SRV _http._tcp.{name}"));
        if answer.contains(&format!("0 100 80 {name}")) && answer.contains(&vip) {
            Ok(())
        } else {
            Err(answer)
        }
    });
    assert_eq!(dig(&format!("+short -x {vip}")), format!("{name}\n"));
    assert_eq!(dig("+short TXT dns-version.cluster.local"), "\"1.1.0\"\n");
}

#[test]
fn b4_a_pods_address_has_a_name() {
    let lab = Lab::shared();
    let ns = lab.namespace("b4");
    lab.echo(&ns, "web", 1);
    let address = lab.get(&ns, "pods -l app=web", "{.items[0].status.podIP}").replace('.', "-");
    let answer = lab.in_pod(&ns, &format!("curl -sS -m 2 {address}.b4.pod.cluster.local:8080")).ok();
    assert!(answer.contains("pod: web-"), "{answer}");
}

#[test]
fn b9_the_node_local_address_answers_and_goes_on_without_the_control_plane() {
    let lab = Lab::up(1);
    let ask =
        || lab.on("node1", "dig +short +time=1 +tries=1 webui.default.svc.cluster.local @169.254.25.10");
    let vip = lab.get("default", "svc webui", "{.spec.clusterIP}");
    assert_eq!(ask().ok().trim(), vip);
    let status = lab.svcd(&["lab", "status"]).ok();
    let server = status.lines().find(|l| l.starts_with("control-plane")).unwrap().to_owned();
    lab.run("kill", &["-9", server.split_whitespace().nth(2).unwrap()]).ok();
    eventually("the server is gone", || {
        let done = lab.kubectl(&["get", "--raw", "/readyz", "--request-timeout=1s"]);
        if done.code == 0 { Err(done.out) } else { Ok(()) }
    });
    assert_eq!(ask().ok().trim(), vip);
    assert!(lab.on("node1", &format!("curl -sS -m 2 {vip}")).ok().contains("pod: webui"));
}
