//! Service addresses and node ports: one owner each, whoever asks at the same time, and none left behind.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use svcd_apiserver::Config;
use svcd_store::{ListRequest, Options, Store};

use crate::cluster::{Cluster, SERVICES, service};

fn node_port(name: &str, port: Option<u16>) -> Value {
    let mut object = service(name);
    object["spec"]["type"] = "NodePort".into();
    if let Some(port) = port {
        object["spec"]["ports"][0]["nodePort"] = port.into();
    }
    object
}

/// What is claimed: addresses, by the IPAddresses that there are, and node ports.
async fn claims(store: &dyn Store) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for prefix in ["/claims/node-port/", "/objects/networking.k8s.io/ipaddresses//"] {
        let request = ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
        let keys = store.list(request).await.unwrap().records;
        found.extend(keys.iter().map(|r| r.key.strip_prefix(prefix).unwrap().to_owned()));
    }
    found
}

/// The claims that the stored Services should hold.
async fn owed(cluster: &Cluster) -> BTreeSet<String> {
    let list = cluster.admin.get("/api/v1/services").await.expect(200);
    let mut owed = BTreeSet::new();
    for service in list["items"].as_array().unwrap() {
        let spec = &service["spec"];
        let addresses = spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        owed.extend(addresses.filter(|ip| *ip != "None").map(str::to_owned));
        let ports = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
        let ports = ports.chain([&spec["healthCheckNodePort"]]).filter_map(Value::as_u64);
        owed.extend(ports.map(|port| port.to_string()));
    }
    owed
}

fn small() -> Config {
    Config {
        service_cidrs: vec!["10.96.0.0/24".parse().unwrap()],
        node_port_range: 30000..=30099,
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_creators_get_sixty_four_addresses_and_ports() {
    let cluster = Cluster::with(small(), Options::default()).await;
    let creators = (0..64).map(|n| {
        let client = cluster.admin.clone();
        tokio::spawn(
            async move { client.post(SERVICES, &node_port(&format!("s{n}"), None)).await.expect(201) },
        )
    });
    let created: Vec<Value> =
        futures::future::join_all(creators).await.into_iter().map(|created| created.unwrap()).collect();
    let addresses: BTreeSet<_> = created.iter().map(|s| s["spec"]["clusterIP"].to_string()).collect();
    let ports: BTreeSet<_> = created.iter().map(|s| s["spec"]["ports"][0]["nodePort"].to_string()).collect();
    assert_eq!((addresses.len(), ports.len()), (64, 64));
    assert_eq!(claims(&*cluster.store).await, owed(&cluster).await);
    for n in 0..64 {
        cluster.admin.delete(&format!("{SERVICES}/s{n}")).await.expect(200);
    }
    assert_eq!(claims(&*cluster.store).await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_one_address_one_gets_it() {
    let cluster = Cluster::new().await;
    let creators = (0..32).map(|n| {
        let client = cluster.admin.clone();
        let mut object = service(&format!("s{n}"));
        object["spec"]["clusterIP"] = "10.100.100.200".into();
        tokio::spawn(async move { client.post(SERVICES, &object).await.status.as_u16() })
    });
    let mut codes: Vec<u16> =
        futures::future::join_all(creators).await.into_iter().map(|code| code.unwrap()).collect();
    codes.sort_unstable();
    assert_eq!((codes[0], codes[1], codes[31]), (201, 422, 422));
    assert_eq!(claims(&*cluster.store).await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_as_upstream_says_it() {
    let cluster = Cluster::with(small(), Options::default()).await;
    let mut fixed = node_port("np", Some(30080));
    fixed["spec"]["clusterIP"] = "10.96.0.77".into();
    cluster.admin.post(SERVICES, &fixed).await.expect(201);
    for (address, why) in [
        ("10.97.0.1", "the provided network does not match the current range 10.96.0.0/24"),
        ("10.96.0.77", "provided IP is already allocated"),
        ("10.96.0.0", "the provided network does not match the current range 10.96.0.0/24"),
        ("10.96.0.255", "the provided network does not match the current range 10.96.0.0/24"),
    ] {
        let mut object = service("b1");
        object["spec"]["clusterIP"] = address.into();
        let reply = cluster.admin.post(SERVICES, &object).await;
        assert_eq!(reply.json()["details"]["causes"][0]["field"], "spec.clusterIPs");
        assert_eq!(
            reply.refused(422, "Invalid"),
            format!(
                "Service \"b1\" is invalid: spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP \
                 {address}: {why}"
            )
        );
    }
    for (port, why) in [
        (30080, "provided port is already allocated"),
        (40000, "provided port is not in the valid range. The range of valid ports is 30000-30099"),
    ] {
        assert_eq!(
            cluster.admin.post(SERVICES, &node_port("b1", Some(port))).await.refused(422, "Invalid"),
            format!("Service \"b1\" is invalid: spec.ports[0].nodePort: Invalid value: {port}: {why}")
        );
    }
    assert_eq!(claims(&*cluster.store).await, owed(&cluster).await);
}

#[tokio::test]
async fn a_full_range_says_so_and_a_freed_place_is_found() {
    let config = Config { node_port_range: 30000..=30002, ..Config::default() };
    let cluster = Cluster::with(config, Options::default()).await;
    for n in 0..3 {
        cluster.admin.post(SERVICES, &node_port(&format!("s{n}"), None)).await.expect(201);
    }
    let message = cluster.admin.post(SERVICES, &node_port("s3", None)).await.refused(500, "InternalError");
    assert_eq!(message, "Internal error occurred: failed to allocate a nodePort: range is full");
    cluster.admin.delete(&format!("{SERVICES}/s1")).await.expect(200);
    cluster.admin.post(SERVICES, &node_port("s3", None)).await.expect(201);
    assert_eq!(claims(&*cluster.store).await, owed(&cluster).await);
}

#[tokio::test]
async fn what_is_asked_for_by_number_is_settled_before_what_is_not() {
    let config = Config { node_port_range: 30000..=30001, ..Config::default() };
    let cluster = Cluster::with(config, Options::default()).await;
    let ports = |first: Value, second: Value| {
        let mut object = node_port("web", None);
        object["spec"]["ports"] = json!([first, second]);
        object
    };
    let given = |service: &Value| {
        let ports = service["spec"]["ports"].as_array().unwrap().iter();
        ports.map(|port| port["nodePort"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    // Of two numbers the first port would get the second's in half of all cases.
    for _ in 0..8 {
        let both =
            ports(json!({ "name": "a", "port": 80 }), json!({ "name": "b", "port": 81, "nodePort": 30000 }));
        assert_eq!(given(&cluster.admin.post(SERVICES, &both).await.expect(201)), [30001, 30000]);
        cluster.admin.delete(&format!("{SERVICES}/web")).await.expect(200);
    }
    let shared = ports(
        json!({ "name": "tcp", "port": 53 }),
        json!({ "name": "udp", "port": 53, "protocol": "UDP", "nodePort": 30001 }),
    );
    assert_eq!(given(&cluster.admin.post(SERVICES, &shared).await.expect(201)), [30001, 30001]);
    assert_eq!(claims(&*cluster.store).await, owed(&cluster).await);
}

#[tokio::test]
async fn claims_follow_the_type_of_the_service() {
    let cluster = Cluster::new().await;
    cluster.admin.post(SERVICES, &service("web")).await.expect(201);
    let path = format!("{SERVICES}/web");
    for spec in [
        json!({ "type": "NodePort" }),
        json!({ "type": "ClusterIP" }),
        json!({ "type": "LoadBalancer" }),
        json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local" }),
        json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Cluster" }),
        json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local" }),
        json!({ "type": "NodePort" }),
        json!({ "type": "ExternalName", "externalName": "a.example.com" }),
        json!({ "type": "ClusterIP", "externalName": null }),
    ] {
        let changed = cluster.admin.merge(&path, &json!({ "spec": spec })).await.expect(200);
        assert_eq!(claims(&*cluster.store).await, owed(&cluster).await, "{changed}");
    }
    let service = cluster.admin.get(&path).await.expect(200);
    assert!(service["spec"]["clusterIP"].is_string());
    assert!(service["spec"]["ports"][0]["nodePort"].is_null());
}

#[tokio::test]
async fn one_port_number_serves_two_protocols_of_a_service() {
    let cluster = Cluster::new().await;
    let mut object = service("dns");
    object["spec"]["type"] = "NodePort".into();
    object["spec"]["ports"] = json!([{ "name": "udp", "port": 53, "protocol": "UDP" }, { "name": "tcp", "port": 53, "protocol": "TCP" }]);
    let created = cluster.admin.post(SERVICES, &object).await.expect(201);
    let ports = &created["spec"]["ports"];
    assert!(ports[0]["nodePort"].is_u64());
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"]);
    assert_eq!(claims(&*cluster.store).await, owed(&cluster).await);
}

#[tokio::test]
async fn a_node_port_belongs_to_one_service_whatever_the_protocol() {
    let cluster = Cluster::new().await;
    cluster.admin.post(SERVICES, &node_port("a", Some(30001))).await.expect(201);
    let mut other = node_port("b", Some(30001));
    other["spec"]["ports"][0]["protocol"] = "UDP".into();
    assert_eq!(
        cluster.admin.post(SERVICES, &other).await.refused(422, "Invalid"),
        "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"
    );
    let mut balancer = service("c");
    balancer["spec"]["type"] = "LoadBalancer".into();
    balancer["spec"]["externalTrafficPolicy"] = "Local".into();
    balancer["spec"]["healthCheckNodePort"] = 30001.into();
    let refused = cluster.admin.post(SERVICES, &balancer).await;
    assert_eq!(refused.json()["details"]["causes"][0]["field"], "spec.healthCheckNodePort");
    refused.refused(422, "Invalid");
    assert_eq!(claims(&*cluster.store).await, owed(&cluster).await);
}

#[tokio::test]
async fn a_refused_update_keeps_what_was_held() {
    let cluster = Cluster::new().await;
    cluster.admin.post(SERVICES, &node_port("a", Some(30001))).await.expect(201);
    cluster.admin.post(SERVICES, &node_port("b", Some(30002))).await.expect(201);
    let before = claims(&*cluster.store).await;
    let steal = json!({ "spec": { "ports": [{ "port": 80, "nodePort": 30001 }] } });
    cluster.admin.merge(&format!("{SERVICES}/b"), &steal).await.refused(422, "Invalid");
    assert_eq!(claims(&*cluster.store).await, before);
    let moved = json!({ "spec": { "ports": [{ "port": 80, "nodePort": 30003 }] } });
    cluster.admin.merge(&format!("{SERVICES}/b"), &moved).await.expect(200);
    assert_eq!(claims(&*cluster.store).await, owed(&cluster).await);
}
