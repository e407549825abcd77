use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({ "metadata": { "name": "web", "namespace": "ns" }, "spec": spec })).unwrap()
}

fn pod(name: &str, status: Value, spec: Value) -> Pod {
    let metadata = json!({ "name": name, "namespace": "ns", "uid": name });
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec, "status": status })).unwrap()
}

fn running(ip: &str, ready: &str) -> Value {
    json!({ "phase": "Running", "podIP": ip, "conditions": [{ "type": "Ready", "status": ready }] })
}

fn known(name: &str) -> Option<NodeFacts> {
    (name == "node1").then(|| NodeFacts { zone: Some("z".to_owned()) })
}

fn one(service: &Service, pod: &Pod) -> Option<Endpoint> {
    let all = desired(service, [pod].into_iter(), known);
    assert!(all.len() <= 1, "one shape: {all:?}");
    all.into_values().next().map(|mut endpoints| endpoints.remove(0))
}

#[test]
fn conditions_are_upstreams() {
    let plain = service(json!({ "ports": [{ "port": 80 }] }));
    let eager = service(json!({ "ports": [{ "port": 80 }], "publishNotReadyAddresses": true }));
    // ready, deleted → (ready, serving, terminating), and ready with publishNotReadyAddresses
    let cases = [
        (true, false, (true, true, false), true),
        (false, false, (false, false, false), true),
        (true, true, (false, true, true), true),
        (false, true, (false, false, true), true),
    ];
    for (ready, deleted, expected, eagerly) in cases {
        let mut pod = pod("a", running("10.0.0.1", if ready { "True" } else { "False" }), json!({}));
        if deleted {
            pod.metadata.deletion_timestamp =
                Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        }
        let conditions = one(&plain, &pod).unwrap().conditions.unwrap();
        let found = (conditions.ready.unwrap(), conditions.serving.unwrap(), conditions.terminating.unwrap());
        assert_eq!(found, expected, "ready {ready}, deleted {deleted}");
        assert_eq!(one(&eager, &pod).unwrap().conditions.unwrap().ready, Some(eagerly));
    }
}

#[test]
fn pods_without_address_or_life_are_left_out() {
    let service = service(json!({ "ports": [{ "port": 80 }] }));
    assert_eq!(one(&service, &pod("a", json!({ "phase": "Pending" }), json!({}))), None);
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(one(&service, &pod("a", json!({ "phase": phase, "podIP": "10.0.0.1" }), json!({}))), None);
    }
}

#[test]
fn the_node_gives_name_and_zone_and_must_exist() {
    let plain = service(json!({ "ports": [{ "port": 80 }] }));
    let on = |node: &str| pod("a", running("10.0.0.1", "True"), json!({ "nodeName": node }));
    let endpoint = one(&plain, &on("node1")).unwrap();
    assert_eq!((endpoint.node_name.as_deref(), endpoint.zone.as_deref()), (Some("node1"), Some("z")));
    assert_eq!(one(&plain, &on("gone")), None);
    let eager = service(json!({ "ports": [{ "port": 80 }], "publishNotReadyAddresses": true }));
    assert_eq!(one(&eager, &on("gone")).unwrap().node_name.as_deref(), Some("gone"));
}

#[test]
fn named_ports_are_looked_up_in_each_pod() {
    let service = service(json!({ "ports": [
        { "name": "http", "port": 80, "targetPort": "web" },
        { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns" },
        { "name": "fixed", "port": 90, "targetPort": 9090 },
        { "name": "same", "port": 91 },
    ] }));
    let with = |name: &str, ip: &str, port: i32| {
        let ports =
            json!([{ "name": "web", "containerPort": port }, { "name": "dns", "containerPort": 5353 }]);
        pod(name, running(ip, "True"), json!({ "containers": [{ "name": "c", "ports": ports }] }))
    };
    let pods = [with("a", "10.0.0.1", 8080), with("b", "10.0.0.2", 8081), with("c", "10.0.0.3", 8080)];
    let desired = desired(&service, pods.iter(), known);
    let seen: Vec<(Vec<(String, i32)>, usize)> = desired
        .iter()
        .map(|(shape, e)| (shape.ports.iter().map(|p| (p.name.clone(), p.port.unwrap())).collect(), e.len()))
        .collect();
    let ports = |web: i32| {
        // The pods' `dns` is a TCP port: a UDP port of that name does not exist.
        [("fixed", 9090), ("http", web), ("same", 91)].map(|(n, p)| (n.to_owned(), p)).to_vec()
    };
    assert_eq!(seen, [(ports(8080), 2), (ports(8081), 1)]);
}

#[test]
fn sidecars_name_ports_other_init_containers_do_not() {
    let service = service(json!({ "ports": [{ "port": 80, "targetPort": "web" }] }));
    let with = |policy: Value| {
        let init = json!([{ "name": "i", "restartPolicy": policy, "ports": [{ "name": "web", "containerPort": 1 }] }]);
        pod("a", running("10.0.0.1", "True"), json!({ "initContainers": init }))
    };
    let ports =
        |pod: &Pod| desired(&service, [pod].into_iter(), known).into_keys().next().unwrap().ports.len();
    assert_eq!(ports(&with(json!("Always"))), 1);
    assert_eq!(ports(&with(Value::Null)), 0);
}

#[test]
fn each_family_has_its_own_slices() {
    let dual = service(json!({ "ipFamilies": ["IPv4", "IPv6"], "ports": [{ "port": 80 }] }));
    let mut status = running("10.0.0.1", "True");
    status["podIPs"] = json!([{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }]);
    let all = desired(&dual, [&pod("a", status, json!({}))].into_iter(), known);
    let seen: Vec<_> =
        all.iter().map(|(shape, e)| (shape.address_type.as_str(), e[0].addresses.clone())).collect();
    assert_eq!(seen, [("IPv4", vec!["10.0.0.1".to_owned()]), ("IPv6", vec!["fd00::1".to_owned()])]);
    let six = service(json!({ "clusterIP": "fd00::a", "ports": [{ "port": 80 }] }));
    assert_eq!(one(&six, &pod("a", running("10.0.0.1", "True"), json!({}))), None);
}

#[test]
fn a_headless_service_may_have_no_ports() {
    let headless = service(json!({ "clusterIP": "None" }));
    let all = desired(&headless, [&pod("a", running("10.0.0.1", "True"), json!({}))].into_iter(), known);
    let (shape, endpoints) = all.first_key_value().unwrap();
    assert_eq!((shape.ports.len(), endpoints.len()), (0, 1));
}

#[test]
fn hostnames_are_for_the_governing_service() {
    let service = service(json!({ "clusterIP": "None" }));
    let with = |subdomain: &str| {
        pod("a", running("10.0.0.1", "True"), json!({ "hostname": "h", "subdomain": subdomain }))
    };
    assert_eq!(one(&service, &with("web")).unwrap().hostname.as_deref(), Some("h"));
    assert_eq!(one(&service, &with("other")).unwrap().hostname, None);
}

#[test]
fn only_some_changes_of_a_pod_count() {
    let base = || pod("a", running("10.0.0.1", "True"), json!({ "nodeName": "node1" }));
    let mut noise = base();
    noise.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
    noise.metadata.resource_version = Some("9".to_owned());
    assert!(!is_relevant(&base(), &noise));
    assert!(is_relevant(&base(), &pod("a", running("10.0.0.1", "False"), json!({ "nodeName": "node1" }))));
    assert!(is_relevant(&base(), &pod("a", running("10.0.0.2", "True"), json!({ "nodeName": "node1" }))));
    assert!(is_relevant(&base(), &pod("a", running("10.0.0.1", "True"), json!({ "nodeName": "node2" }))));
    let mut relabelled = base();
    relabelled.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    assert!(is_relevant(&base(), &relabelled));
}
