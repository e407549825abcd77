use serde_json::json;

use super::*;

fn service(spec: serde_json::Value) -> Service {
    serde_json::from_value(json!({ "metadata": { "name": "web", "namespace": "ns" }, "spec": spec })).unwrap()
}

fn pod(n: u16, ready: bool, web: i32) -> Pod {
    let ready = if ready { "True" } else { "False" };
    let ports = json!([{ "name": "web", "containerPort": web }]);
    serde_json::from_value(json!({
        "metadata": { "name": format!("p{n}"), "namespace": "ns", "uid": format!("u{n}") },
        "spec": { "containers": [{ "name": "c", "ports": ports }] },
        "status": {
            "phase": "Running",
            "podIP": format!("10.0.{}.{}", n >> 8, n & 255),
            "conditions": [{ "type": "Ready", "status": ready }],
        },
    }))
    .unwrap()
}

/// Ready addresses, those not ready, ports.
type Seen = (Vec<String>, Vec<String>, Vec<i32>);

fn seen(endpoints: &Endpoints) -> Vec<Seen> {
    let list = |list: &Option<Vec<EndpointAddress>>| list.iter().flatten().map(|a| a.ip.clone()).collect();
    let one = |s: &EndpointSubset| {
        (list(&s.addresses), list(&s.not_ready_addresses), s.ports.iter().flatten().map(|p| p.port).collect())
    };
    endpoints.subsets.iter().flatten().map(one).collect()
}

fn ips(numbers: &[u16]) -> Vec<String> {
    numbers.iter().map(|n| format!("10.0.0.{n}")).collect()
}

#[test]
fn ports_with_the_same_addresses_share_a_subset() {
    let service = service(json!({ "ports": [{ "name": "a", "port": 80 }, { "name": "b", "port": 81 }] }));
    let pods = [pod(2, true, 1), pod(10, true, 1), pod(1, false, 1)];
    let found = seen(&endpoints(&service, pods.iter()));
    assert_eq!(found, [(ips(&[2, 10]), ips(&[1]), vec![80, 81])]);
}

#[test]
fn different_numbers_behind_a_name_are_different_subsets() {
    let service = service(json!({ "ports": [{ "name": "web", "port": 80, "targetPort": "web" }] }));
    let pods = [pod(1, true, 8080), pod(2, true, 8081), pod(3, true, 8080)];
    let found = seen(&endpoints(&service, pods.iter()));
    assert_eq!(found, [(ips(&[1, 3]), vec![], vec![8080]), (ips(&[2]), vec![], vec![8081])]);
}

#[test]
fn publishing_not_ready_addresses_calls_them_ready() {
    let service = service(json!({ "ports": [{ "port": 80 }], "publishNotReadyAddresses": true }));
    assert_eq!(seen(&endpoints(&service, [pod(1, false, 1)].iter())), [(ips(&[1]), vec![], vec![80])]);
}

#[test]
fn terminating_pods_are_left_out_and_no_pods_are_no_subsets() {
    let service = service(json!({ "ports": [{ "port": 80 }] }));
    let mut leaving = pod(1, true, 1);
    leaving.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    assert_eq!(endpoints(&service, [leaving].iter()).subsets, Some(Vec::new()));
}

#[test]
fn a_headless_service_without_ports_has_addresses_only() {
    let service = service(json!({ "clusterIP": "None" }));
    let found = endpoints(&service, [pod(1, true, 1)].iter());
    assert_eq!(seen(&found), [(ips(&[1]), vec![], vec![])]);
    assert!(found.metadata.labels.unwrap().contains_key(HEADLESS));
}

#[test]
fn beyond_a_thousand_ready_addresses_come_first() {
    let service = service(json!({ "ports": [{ "port": 80 }] }));
    let pods: Vec<Pod> = (0..1200).map(|n| pod(n, n % 2 == 0, 1)).collect();
    let found = endpoints(&service, pods.iter());
    let annotations = found.metadata.annotations.clone().unwrap();
    assert_eq!(annotations[OVER_CAPACITY], "truncated");
    let (ready, not_ready, _) = seen(&found).remove(0);
    assert_eq!((ready.len(), not_ready.len()), (600, 400));
    let fitting: Vec<Pod> = (0..1000).map(|n| pod(n, true, 1)).collect();
    assert_eq!(endpoints(&service, fitting.iter()).metadata.annotations, None);
}
