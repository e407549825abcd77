//! Services that change their type: every way from every shape to every other, as upstream's storage has it.

use serde_json::{Value, json};
use svcd_api::kind::Claim;

use crate::harness::{create, errors, kind, merged, update};

/// A shape of Service: what makes one, and what it then has.
struct Shape {
    name: &'static str,
    /// What a merge patch says to make one out of another.
    patch: &'static str,
    /// The fields that come with it, besides ports, selector, affinity and type.
    fields: &'static [&'static str],
    /// Addresses, node ports and health-check ports that it holds.
    holds: (usize, usize, usize),
}

const ADDRESSED: [&str; 5] =
    ["clusterIP", "clusterIPs", "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy"];

const SHAPES: &[Shape] = &[
    Shape {
        name: "ClusterIP",
        patch: r#"{"type": "ClusterIP", "externalName": null}"#,
        fields: &[],
        holds: (1, 0, 0),
    },
    Shape {
        name: "headless",
        patch: r#"{"type": "ClusterIP", "externalName": null, "clusterIP": "None"}"#,
        fields: &[],
        holds: (0, 0, 0),
    },
    Shape {
        name: "NodePort",
        patch: r#"{"type": "NodePort", "externalName": null}"#,
        fields: &["externalTrafficPolicy"],
        holds: (1, 2, 0),
    },
    Shape {
        name: "LoadBalancer",
        patch: r#"{"type": "LoadBalancer", "externalName": null, "externalTrafficPolicy": "Cluster"}"#,
        fields: &["allocateLoadBalancerNodePorts", "externalTrafficPolicy"],
        holds: (1, 2, 0),
    },
    Shape {
        name: "LoadBalancer, Local",
        patch: r#"{"type": "LoadBalancer", "externalName": null, "externalTrafficPolicy": "Local"}"#,
        fields: &["allocateLoadBalancerNodePorts", "externalTrafficPolicy", "healthCheckNodePort"],
        holds: (1, 2, 1),
    },
    Shape {
        name: "ExternalName",
        patch: r#"{"type": "ExternalName", "externalName": "a.example.com"}"#,
        fields: &["externalName"],
        holds: (0, 0, 0),
    },
];

fn spec(shape: &Shape) -> Value {
    let mut spec: Value = serde_json::from_str(shape.patch).unwrap();
    spec["selector"] = json!({ "app": "web" });
    spec["ports"] = json!([{ "name": "http", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
    spec
}

fn make(shape: &Shape) -> Value {
    create("Service", json!({ "spec": spec(shape) })).unwrap()
}

/// Why a change cannot be made.
fn refusal(from: &str, to: &str) -> Option<String> {
    match (from, to) {
        ("headless", "NodePort" | "LoadBalancer" | "LoadBalancer, Local") => {
            let kind = to.split(',').next().unwrap();
            Some(format!(
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for {kind} services"
            ))
        }
        ("ClusterIP" | "NodePort" | "LoadBalancer" | "LoadBalancer, Local", "headless") => {
            Some(r#"spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set"#.to_owned())
        }
        _ => None,
    }
}

fn check(shape: &Shape, service: &Value, what: &str) {
    let mut want = vec!["ports", "selector", "sessionAffinity", "type"];
    want.extend(shape.fields);
    if shape.name != "ExternalName" {
        want.extend(ADDRESSED);
    }
    want.sort_unstable();
    let mut got: Vec<&str> = service["spec"].as_object().unwrap().keys().map(String::as_str).collect();
    got.sort_unstable();
    assert_eq!(got, want, "{what}");
    let claims = kind("Service").claims(service);
    let addresses = claims.iter().filter(|claim| matches!(claim, Claim::ServiceIp { .. })).count();
    let ports = claims.len() - addresses;
    assert_eq!((addresses, ports), (shape.holds.0, shape.holds.1 + shape.holds.2), "{what}");
    let node_ports =
        service["spec"]["ports"].as_array().unwrap().iter().filter(|p| p.get("nodePort").is_some());
    assert_eq!(node_ports.count(), shape.holds.1, "{what}");
}

#[test]
fn every_change_of_type_gives_and_takes_what_upstream_does() {
    for from in SHAPES {
        let before = make(from);
        check(from, &before, from.name);
        for to in SHAPES {
            let what = format!("{} to {}", from.name, to.name);
            let patch = json!({ "spec": serde_json::from_str::<Value>(to.patch).unwrap() });
            let after = merged(&before, patch);
            if let Some(why) = refusal(from.name, to.name) {
                assert_eq!(errors(after), [why], "{what}");
                continue;
            }
            // A headless Service that is asked to be a ClusterIP one is one already.
            let shape = if from.name == "headless" && to.name == "ClusterIP" { from } else { to };
            let after = after.unwrap_or_else(|why| panic!("{what}: {why:?}"));
            check(shape, &after, &what);
            kept(&before, &after, &what);
        }
    }
}

/// What both have is the same.
fn kept(before: &Value, after: &Value, what: &str) {
    for field in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
        if let (Some(old), Some(new)) = (before["spec"].get(field), after["spec"].get(field)) {
            assert_eq!(old, new, "{field}, {what}");
        }
    }
    for index in [0, 1] {
        let port = |service: &Value| service["spec"]["ports"][index].get("nodePort").cloned();
        if let (Some(old), Some(new)) = (port(before), port(after)) {
            assert_eq!(old, new, "{what}");
        }
    }
}

#[test]
fn a_put_that_leaves_out_what_was_given_keeps_it() {
    for shape in SHAPES {
        let before = make(shape);
        let mut sent = before.clone();
        sent["spec"] = spec(shape);
        assert_eq!(update(&before, sent).unwrap()["spec"], before["spec"], "{}", shape.name);
    }
}

#[test]
fn a_put_to_another_type_that_carries_the_old_fields_along_drops_them() {
    let balancer = make(&SHAPES[4]);
    let mut sent = balancer.clone();
    sent["spec"]["type"] = "ClusterIP".into();
    let after = update(&balancer, sent.clone()).unwrap();
    check(&SHAPES[0], &after, "all of it carried along");
    // What was changed in the same write was meant.
    sent["spec"]["ports"][0]["nodePort"] = 31_000.into();
    sent["spec"]["healthCheckNodePort"] = 31_001.into();
    assert_eq!(
        errors(update(&balancer, sent)),
        [
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.healthCheckNodePort: Invalid value: 31001: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ]
    );
}

#[test]
fn the_health_check_port_stays_while_it_is_needed() {
    let balancer = make(&SHAPES[4]);
    let moved = merged(&balancer, json!({ "spec": { "healthCheckNodePort": 31_000 } }));
    assert_eq!(errors(moved), ["spec.healthCheckNodePort: Forbidden: field is immutable"]);
    let asked = json!({ "spec": {
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31_000, "ports": [{ "port": 80 }],
    } });
    assert_eq!(create("Service", asked.clone()).unwrap()["spec"]["healthCheckNodePort"], 31_000);
    let mut twice = asked;
    twice["spec"]["ports"][0]["nodePort"] = 31_000.into();
    assert_eq!(
        errors(create("Service", twice)),
        ["spec.healthCheckNodePort: Invalid value: 31000: provided port is already allocated"]
    );
}

#[test]
fn node_ports_stay_when_a_load_balancer_stops_asking_for_them() {
    let balancer = make(&SHAPES[3]);
    let mut sent = balancer.clone();
    sent["spec"]["allocateLoadBalancerNodePorts"] = false.into();
    for port in sent["spec"]["ports"].as_array_mut().unwrap() {
        port.as_object_mut().unwrap().remove("nodePort");
    }
    let after = update(&balancer, sent).unwrap();
    assert_eq!(after["spec"]["ports"], balancer["spec"]["ports"]);
    // A port of another name is a new port, and asks for nothing.
    let renamed = json!([{ "name": "web", "port": 80 }]);
    let after = merged(&after, json!({ "spec": { "ports": renamed } })).unwrap();
    assert_eq!(after["spec"]["ports"][0].get("nodePort"), None);
}

#[test]
fn what_a_load_balancer_was_given_goes_with_its_type() {
    let mut balancer = make(&SHAPES[3]);
    balancer["status"]["loadBalancer"] = json!({ "ingress": [{ "ip": "203.0.113.5", "ipMode": "VIP" }] });
    let same = merged(&balancer, json!({ "metadata": { "labels": { "a": "b" } } })).unwrap();
    assert_eq!(same["status"], balancer["status"]);
    let plain = merged(&balancer, json!({ "spec": { "type": "NodePort" } })).unwrap();
    assert_eq!(plain["status"], json!({ "loadBalancer": {} }));
}
