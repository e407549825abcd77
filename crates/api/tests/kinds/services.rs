//! Services: the golden answers of a real server for good and bad input, and for changes of type.

use proptest::prelude::*;
use serde_json::{Value, json};
use svcd_api::kind::{Claim, Subresource};

use crate::harness::{create, create_named, errors, kind, merged, parse, patched, row, status};

fn service(spec: &str) -> Result<Value, Vec<String>> {
    create("Service", json!({ "spec": parse(spec) }))
}

fn web() -> Value {
    create(
        "Service",
        json!({
            "metadata": { "labels": { "app": "web" } },
            "spec": {
                "selector": { "app": "web" },
                "ports": [
                    { "name": "http", "port": 80, "targetPort": 8080 },
                    { "name": "https", "port": 443, "targetPort": "https" },
                ],
            },
        }),
    )
    .unwrap()
}

#[test]
fn a_new_service_as_stored() {
    assert_eq!(
        web(),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "x", "namespace": "t1", "labels": { "app": "web" },
                "uid": "11111111-2222-3333-4444-555555555555", "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "clusterIP": "10.96.0.10",
                "clusterIPs": ["10.96.0.10"],
                "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "ports": [
                    { "name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080 },
                    { "name": "https", "port": 443, "protocol": "TCP", "targetPort": "https" },
                ],
                "selector": { "app": "web" },
                "sessionAffinity": "None",
                "type": "ClusterIP",
            },
            "status": { "loadBalancer": {} },
        })
    );
}

#[test]
fn defaults_of_each_type() {
    for (given, want) in [
        (
            r#"{"type": "NodePort", "selector": {"a": "b"}, "ports": [{"port": 80, "nodePort": 30080}]}"#,
            r#"{"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "externalTrafficPolicy": "Cluster",
                "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "ports": [{"nodePort": 30080, "port": 80, "protocol": "TCP", "targetPort": 80}],
                "selector": {"a": "b"}, "sessionAffinity": "None", "type": "NodePort"}"#,
        ),
        (
            r#"{"type": "LoadBalancer", "ports": [{"port": 80}]}"#,
            r#"{"allocateLoadBalancerNodePorts": true, "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
                "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{"nodePort": 30001, "port": 80, "protocol": "TCP", "targetPort": 80}],
                "sessionAffinity": "None", "type": "LoadBalancer"}"#,
        ),
        (
            r#"{"type": "ExternalName", "externalName": "example.com", "selector": {"app": "en"}}"#,
            r#"{"externalName": "example.com", "selector": {"app": "en"}, "sessionAffinity": "None",
                "type": "ExternalName"}"#,
        ),
        (
            r#"{"clusterIP": "None", "selector": {"app": "hl"}, "ports": [{"name": "80", "port": 80}]}"#,
            r#"{"clusterIP": "None", "clusterIPs": ["None"], "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "80", "port": 80, "protocol": "TCP", "targetPort": 80}],
                "selector": {"app": "hl"}, "sessionAffinity": "None", "type": "ClusterIP"}"#,
        ),
        (
            r#"{"clusterIP": "10.96.0.77", "externalIPs": ["198.51.100.7"], "internalTrafficPolicy": "Local",
                "publishNotReadyAddresses": true, "sessionAffinity": "ClientIP", "selector": {"app": "fixed"},
                "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]}"#,
            r#"{"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"], "externalIPs": ["198.51.100.7"],
                "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Local", "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack", "ports": [
                  {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                  {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53}],
                "publishNotReadyAddresses": true, "selector": {"app": "fixed"}, "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "type": "ClusterIP"}"#,
        ),
        (
            r#"{"clusterIP": "None"}"#,
            r#"{"clusterIP": "None", "clusterIPs": ["None"], "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack", "sessionAffinity": "None",
                "type": "ClusterIP"}"#,
        ),
    ] {
        assert_eq!(service(given).unwrap()["spec"], parse(want), "{given}");
    }
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

#[test]
fn bad_input_as_a_real_server_words_it() {
    let label = format!("spec.ports[0].name: Invalid value: \"UPPER\": {LABEL}");
    let cases: &[(&str, &[&str])] = &[
        (
            r#"{"ports": [{"port": 0}]}"#,
            &[
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            r#"{"ports": [{"port": 70000}]}"#,
            &[
                "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            r#"{"ports": [{"port": -1}]}"#,
            &[
                "spec.ports[0].port: Invalid value: -1: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: -1: must be between 1 and 65535, inclusive",
            ],
        ),
        ("{}", &["spec.ports: Required value"]),
        (r#"{"ports": []}"#, &["spec.ports: Required value"]),
        (
            r#"{"ports": [{"port": 80}, {"port": 81}]}"#,
            &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
        ),
        (
            r#"{"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}"#,
            &["spec.ports[1].name: Duplicate value: \"a\""],
        ),
        (
            r#"{"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}"#,
            &[
                r#"spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#,
            ],
        ),
        (r#"{"ports": [{"port": 80, "name": "UPPER"}]}"#, &[&label]),
        (
            r#"{"ports": [{"port": 80, "protocol": "FOO"}]}"#,
            &[r#"spec.ports[0].protocol: Unsupported value: "FOO": supported values: "SCTP", "TCP", "UDP""#],
        ),
        (
            r#"{"ports": [{"port": 80, "targetPort": 70000}]}"#,
            &["spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
        ),
        (
            r#"{"ports": [{"port": 80, "targetPort": "BAD_NAME"}]}"#,
            &[
                r#"spec.ports[0].targetPort: Invalid value: "BAD_NAME": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
                r#"spec.ports[0].targetPort: Invalid value: "BAD_NAME": must contain at least one letter (a-z)"#,
            ],
        ),
        (
            r#"{"type": "Foo", "ports": [{"port": 80}]}"#,
            &[
                r#"spec.type: Unsupported value: "Foo": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
            ],
        ),
        (
            r#"{"ports": [{"port": 80, "nodePort": 30081}]}"#,
            &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            r#"{"clusterIP": "foo", "ports": [{"port": 80}]}"#,
            &[
                r#"spec.clusterIPs[0]: Invalid value: "foo": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        ),
        (
            r#"{"clusterIP": "010.096.000.005", "ports": [{"port": 80}]}"#,
            &[r#"spec.clusterIPs[0]: Invalid value: "010.096.000.005": must not have leading 0s"#],
        ),
        (
            r#"{"clusterIP": "fd00::1", "ports": [{"port": 80}]}"#,
            &[r#"spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster"#],
        ),
        (
            r#"{"ipFamilies": ["IPv6"], "ports": [{"port": 80}]}"#,
            &[r#"spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster"#],
        ),
        (
            r#"{"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80}]}"#,
            &[
                r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#,
            ],
        ),
        (
            r#"{"clusterIPs": ["10.96.0.90", "10.96.0.91"], "ports": [{"port": 80}]}"#,
            &[
                r#"spec.clusterIPs: Invalid value: ["10.96.0.90","10.96.0.91"]: must be empty when `clusterIP` is not specified"#,
                r#"spec.clusterIPs: Invalid value: ["10.96.0.90","10.96.0.91"]: may specify no more than one IP for each IP family"#,
            ],
        ),
        (r#"{"type": "ExternalName", "ports": [{"port": 80}]}"#, &["spec.externalName: Required value"]),
        (
            r#"{"type": "ExternalName", "externalName": "a.com", "clusterIP": "10.96.0.95"}"#,
            &["spec.clusterIPs: Forbidden: may not be set for ExternalName services"],
        ),
        (
            r#"{"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80}]}"#,
            &[r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services"#],
        ),
        (
            r#"{"externalIPs": ["127.0.0.1"], "ports": [{"port": 80}]}"#,
            &[
                r#"spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
            ],
        ),
        (
            r#"{"externalIPs": ["foo"], "ports": [{"port": 80}]}"#,
            &[
                r#"spec.externalIPs[0]: Invalid value: "foo": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        ),
        (
            r#"{"sessionAffinity": "Foo", "ports": [{"port": 80}]}"#,
            &[r#"spec.sessionAffinity: Unsupported value: "Foo": supported values: "ClientIP", "None""#],
        ),
        (
            r#"{"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90000}},
                "ports": [{"port": 80}]}"#,
            &[
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 90000: must be greater than 0 and less than 86400",
            ],
        ),
        (
            r#"{"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}},
                "ports": [{"port": 80}]}"#,
            &[
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
            ],
        ),
        (
            r#"{"externalTrafficPolicy": "Local", "ports": [{"port": 80}]}"#,
            &[
                r#"spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#,
            ],
        ),
        (
            r#"{"type": "NodePort", "externalTrafficPolicy": "Foo", "ports": [{"port": 80}]}"#,
            &[
                r#"spec.externalTrafficPolicy: Unsupported value: "Foo": supported values: "Cluster", "Local""#,
            ],
        ),
        (
            r#"{"internalTrafficPolicy": "Foo", "ports": [{"port": 80}]}"#,
            &[
                r#"spec.internalTrafficPolicy: Unsupported value: "Foo": supported values: "Cluster", "Local""#,
            ],
        ),
        (
            r#"{"healthCheckNodePort": 30090, "ports": [{"port": 80}]}"#,
            &[
                "spec.healthCheckNodePort: Invalid value: 30090: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ],
        ),
        (
            r#"{"type": "LoadBalancer", "loadBalancerSourceRanges": ["foo"], "ports": [{"port": 80}]}"#,
            &[
                r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "foo": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
            ],
        ),
        (
            r#"{"loadBalancerClass": "x.y/z", "ports": [{"port": 80}]}"#,
            &["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
        ),
        (
            r#"{"trafficDistribution": "Foo", "ports": [{"port": 80}]}"#,
            &[
                r#"spec.trafficDistribution: Unsupported value: "Foo": supported values: "PreferClose", "PreferSameZone", "PreferSameNode""#,
            ],
        ),
        (
            r#"{"selector": {"bad key!": "x"}, "ports": [{"port": 80}]}"#,
            &[
                r#"spec.selector: Invalid value: "bad key!": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#,
            ],
        ),
    ];
    for (spec, want) in cases {
        assert_eq!(errors(service(spec)), *want, "{spec}");
    }
}

#[test]
fn names() {
    let ports = || json!({ "spec": { "ports": [{ "port": 80 }] } });
    assert!(create_named("Service", "1web", ports()).is_ok());
    let upper = errors(create_named("Service", "UP", ports()));
    assert_eq!(upper, [format!("metadata.name: Invalid value: \"UP\": {LABEL}")]);
    let long = "a".repeat(64);
    assert_eq!(
        errors(create_named("Service", &long, ports())),
        [format!("metadata.name: Invalid value: \"{long}\": must be no more than 63 characters")]
    );
}

#[test]
fn target_port_zero_means_the_port() {
    let spec = r#"{"ports": [{"port": 80, "targetPort": 0}]}"#;
    assert_eq!(service(spec).unwrap()["spec"]["ports"][0]["targetPort"], 80);
}

#[test]
fn preferring_dual_stack_falls_back() {
    let preferred = service(r#"{"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]}"#).unwrap();
    assert_eq!(preferred["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(preferred["spec"]["ipFamilyPolicy"], "PreferDualStack");
}

#[test]
fn the_address_stays() {
    let web = web();
    for same in [
        json!({ "spec": { "clusterIP": "10.96.0.10" } }),
        json!({ "spec": { "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"] } }),
        json!({ "spec": { "clusterIP": null, "clusterIPs": null } }),
    ] {
        assert_eq!(patched(&web, same.clone()).unwrap(), web, "{same}");
    }
    let headless = json!({ "spec": { "clusterIP": "None", "clusterIPs": ["None"] } });
    assert_eq!(
        errors(patched(&web, headless)),
        [r#"spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set"#]
    );
    let other = json!({ "spec": { "clusterIP": "10.96.0.11" } });
    assert_eq!(
        errors(patched(&web, other)),
        [r#"spec.clusterIPs[0]: Invalid value: ["10.96.0.11"]: may not change once set"#]
    );
}

#[test]
fn patches_of_ports() {
    let web = web();
    let by_key = patched(&web, json!({ "spec": { "ports": [{ "port": 80, "targetPort": 9090 }] } })).unwrap();
    assert_eq!(
        by_key["spec"]["ports"],
        json!([
            { "name": "http", "port": 80, "protocol": "TCP", "targetPort": 9090 },
            { "name": "https", "port": 443, "protocol": "TCP", "targetPort": "https" },
        ])
    );
    let whole = merged(&by_key, json!({ "spec": { "ports": [{ "port": 80, "name": "only" }] } })).unwrap();
    assert_eq!(
        whole["spec"]["ports"],
        json!([{ "name": "only", "port": 80, "protocol": "TCP", "targetPort": 80 }])
    );
}

#[test]
fn a_journey_through_the_types() {
    let web = web();
    let node_port = merged(&web, json!({ "spec": { "type": "NodePort" } })).unwrap();
    assert_eq!(node_port["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(node_port["spec"]["ports"][0]["nodePort"], 30_001);
    assert_eq!(node_port["spec"]["ports"][1]["nodePort"], 30_002);
    let same = merged(&node_port, json!({ "metadata": { "labels": { "a": "b" } } })).unwrap();
    assert_eq!(same["spec"], node_port["spec"]);

    let back = merged(&node_port, json!({ "spec": { "type": "ClusterIP" } })).unwrap();
    assert_eq!(back["spec"], web["spec"]);

    let external = json!({ "spec": { "type": "ExternalName", "externalName": "a.example.com" } });
    let external = merged(&back, external).unwrap();
    let fields: Vec<&String> = external["spec"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["externalName", "ports", "selector", "sessionAffinity", "type"]);
    assert_eq!(kind("Service").claims(&external), []);

    let home = merged(&external, json!({ "spec": { "type": "ClusterIP", "externalName": null } })).unwrap();
    assert_eq!(home["spec"], web["spec"]);
}

#[test]
fn load_balancers_give_back_what_is_theirs() {
    let spec = r#"{"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "x.y/z",
        "selector": {"app": "web"}, "ports": [{"port": 80}]}"#;
    let balancer = service(spec).unwrap();
    let node_port = merged(&balancer, json!({ "spec": { "type": "NodePort" } })).unwrap();
    assert_eq!(node_port["spec"]["ports"], balancer["spec"]["ports"]);
    for gone in ["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"] {
        assert!(balancer["spec"].get(gone).is_some() && node_port["spec"].get(gone).is_none(), "{gone}");
    }
    let plain = merged(&node_port, json!({ "spec": { "type": "ClusterIP" } })).unwrap();
    let want = service(r#"{"selector": {"app": "web"}, "ports": [{"port": 80}]}"#).unwrap();
    assert_eq!(plain["spec"], want["spec"]);
}

#[test]
fn affinity_takes_its_timeout_along() {
    let sticky = service(r#"{"sessionAffinity": "ClientIP", "ports": [{"port": 80}]}"#).unwrap();
    assert_eq!(sticky["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
    let loose = merged(&sticky, json!({ "spec": { "sessionAffinity": "None" } })).unwrap();
    assert_eq!(loose["spec"].get("sessionAffinityConfig"), None);
}

#[test]
fn node_ports_that_are_left_out_stay_by_name() {
    let spec = r#"{"type": "NodePort", "ports": [
        {"name": "a", "port": 1, "nodePort": 30100}, {"name": "b", "port": 2, "nodePort": 30200}]}"#;
    let old = service(spec).unwrap();
    let ports = json!([{ "name": "b", "port": 2 }, { "name": "c", "port": 3, "nodePort": 30100 }]);
    let new = merged(&old, json!({ "spec": { "ports": ports } })).unwrap();
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30200);
    assert_eq!(new["spec"]["ports"][1]["nodePort"], 30100);
}

#[test]
fn claims_share_numbers_between_protocols() {
    let spec = r#"{"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [
        {"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53}, {"name": "h", "port": 80}]}"#;
    let object = service(spec).unwrap();
    let ports = object["spec"]["ports"].as_array().unwrap();
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"]);
    assert_ne!(ports[0]["nodePort"], ports[2]["nodePort"]);
    let health = object["spec"]["healthCheckNodePort"].as_i64().unwrap();
    assert!(ports.iter().all(|p| p["nodePort"] != health));

    let claims = kind("Service").claims(&object);
    assert_eq!(claims.len(), 5);
    let exact = claims.iter().all(|claim| match claim {
        Claim::ServiceIp { exact, .. } => exact.is_some(),
        Claim::NodePort { exact, .. } => exact.is_some(),
    });
    assert!(exact, "a stored object claims what it has: {claims:?}");
}

#[test]
fn load_balancers_without_node_ports() {
    let spec = r#"{"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]}"#;
    let object = service(spec).unwrap();
    assert_eq!(object["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(kind("Service").claims(&object).len(), 1);
}

#[test]
fn rows() {
    let cells = |spec: &str| row(&service(spec).unwrap());
    assert_eq!(row(&web())[1..], ["ClusterIP", "10.96.0.10", "<none>", "80/TCP,443/TCP", "42s", "app=web"]);
    assert_eq!(
        cells(r#"{"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}"#)[1..5],
        ["NodePort", "10.96.0.10", "<none>", "80:30080/TCP"]
    );
    assert_eq!(
        cells(r#"{"type": "ExternalName", "externalName": "example.com"}"#)[1..5],
        ["ExternalName", "<none>", "example.com", "<none>"]
    );
    assert_eq!(cells(r#"{"clusterIP": "None"}"#)[1..5], ["ClusterIP", "None", "<none>", "<none>"]);
    let balancer =
        service(r#"{"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30021}]}"#).unwrap();
    assert_eq!(row(&balancer)[3..5], ["<pending>", "80:30021/TCP"]);
    let ready =
        status(&balancer, json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.5" }] } })).unwrap();
    assert_eq!(ready["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    assert_eq!(row(&ready)[3], "203.0.113.5");
}

#[test]
fn status_belongs_to_load_balancers() {
    let refused = status(&web(), json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.5" }] } }));
    assert_eq!(
        errors(refused),
        ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is \"LoadBalancer\""]
    );
}

#[test]
fn writes_of_spec_and_status_keep_apart() {
    let web = web();
    let conditions = json!([{
        "type": "X", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"
    }]);
    assert_eq!(merged(&web, json!({ "status": { "conditions": conditions } })).unwrap(), web);
    let mut changed = web.clone();
    changed["spec"]["selector"]["app"] = json!("other");
    changed["status"]["conditions"] = conditions;
    let service = kind("Service");
    service.prepare_part(Subresource::Status, &mut changed, &web, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(changed["spec"], web["spec"]);
    assert_eq!(changed["status"]["conditions"][0]["type"], "X");
}

#[test]
fn fields_to_select_by() {
    let fields = kind("Service").selectable_fields(&web());
    assert_eq!(fields, [("spec.clusterIP", "10.96.0.10".to_owned()), ("spec.type", "ClusterIP".to_owned())]);
}

fn any_port() -> impl Strategy<Value = Value> {
    let protocol = prop::sample::select(vec![json!(null), json!("TCP"), json!("UDP")]);
    let node_port = prop::sample::select(vec![json!(null), json!(30_500), json!(30_501)]);
    let name = prop::sample::select(vec![json!(null), json!("a"), json!("b"), json!("c")]);
    (name, 79..83_i32, protocol, node_port)
        .prop_map(|(name, port, protocol, node_port)| json!({ "name": name, "port": port, "protocol": protocol, "nodePort": node_port }))
}

/// Specs of which about half are good.
fn any_spec() -> impl Strategy<Value = Value> {
    let one_of = |values: &[Value]| prop::sample::select(values.to_vec());
    (
        one_of(&[json!(null), json!("ClusterIP"), json!("NodePort"), json!("LoadBalancer"), json!("ExternalName")]),
        one_of(&[json!(null), json!(null), json!("None"), json!("10.96.0.5")]),
        prop::collection::vec(any_port(), 0..3),
        one_of(&[json!(null), json!(null), json!("Cluster"), json!("Local")]),
        one_of(&[json!(null), json!({ "a": "b" })]),
        one_of(&[json!(null), json!(["192.0.2.1"])]),
        one_of(&[json!(null), json!(null), json!(false)]),
    )
        .prop_map(|(kind, ip, ports, policy, selector, external_ips, allocate)| {
            let name = if kind == "ExternalName" { json!("a.example.com") } else { json!(null) };
            json!({
                "type": kind, "clusterIP": ip, "ports": ports, "externalTrafficPolicy": policy, "selector": selector,
                "externalIPs": external_ips, "allocateLoadBalancerNodePorts": allocate, "externalName": name,
            })
        })
}

proptest! {
    #[test]
    fn what_is_stored_is_stable_and_holds_what_it_claims(spec in any_spec()) {
        let Ok(stored) = create("Service", json!({ "spec": spec })) else { return Ok(()) };
        let again = crate::harness::update(&stored, stored.clone());
        prop_assert_eq!(again.as_ref(), Ok(&stored));
        for claim in kind("Service").claims(&stored) {
            let is_exact = match &claim {
                Claim::ServiceIp { exact, .. } => exact.is_some(),
                Claim::NodePort { exact, .. } => exact.is_some(),
            };
            prop_assert!(is_exact, "{:?}", claim);
        }
    }

    #[test]
    fn a_change_of_type_is_accepted_and_can_be_undone(
        spec in any_spec(),
        to in prop::sample::select(vec!["ClusterIP", "NodePort", "LoadBalancer"]),
    ) {
        let Ok(before) = create("Service", json!({ "spec": spec })) else { return Ok(()) };
        let from = before["spec"]["type"].clone();
        // Headless Services and external names cannot become all of them.
        prop_assume!(from != "ExternalName" && before["spec"]["clusterIP"] != "None");
        let changed = merged(&before, json!({ "spec": { "type": to } }));
        prop_assert!(changed.is_ok(), "{:?} of {}", changed, before);
        let back = merged(&changed.unwrap(), json!({ "spec": { "type": from } }));
        prop_assert!(back.is_ok(), "{:?} of {}", back, before);
        prop_assert_eq!(&back.unwrap()["spec"]["clusterIP"], &before["spec"]["clusterIP"]);
    }
}
