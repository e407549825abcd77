//! The index: joins, changes, relists, and objects that cannot be used.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::serde_json::{Value, from_value, json};
use proptest::prelude::*;
use svcd_svcmap::{Entry, Index, Protocol, ServiceKind, ServiceName, Update};

fn service(name: &str, spec: Value) -> Service {
    from_value(json!({"metadata": {"namespace": "default", "name": name}, "spec": spec})).unwrap()
}

fn web(ip: &str) -> Service {
    service("web", json!({"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80}]}))
}

fn slice(name: &str, service: &str, addresses: &[&str]) -> EndpointSlice {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    from_value(json!({
        "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    }))
    .unwrap()
}

fn started() -> Index {
    let mut index = Index::new();
    assert_eq!(index.take_update(), None);
    index.reset_services([]);
    assert_eq!(index.take_update(), None);
    index.reset_slices([]);
    assert_eq!(index.take_update(), Some(Update::Reset(Vec::new())));
    index
}

fn change(index: &mut Index) -> (ServiceName, Option<Arc<Entry>>) {
    match index.take_update() {
        Some(Update::Changed(changed)) if changed.len() == 1 => changed.into_iter().next().unwrap(),
        other => panic!("not one change: {other:?}"),
    }
}

fn addresses(entry: &Entry) -> Vec<String> {
    entry
        .endpoints
        .values()
        .flatten()
        .map(|endpoint| format!("{}:{}", endpoint.address, endpoint.port))
        .collect()
}

#[test]
fn the_first_update_is_everything_and_comes_when_both_kinds_are_known() {
    let mut index = Index::new();
    assert!(index.reset_services(&[web("10.96.0.7")]));
    assert_eq!(index.take_update(), None);
    assert!(index.reset_slices(&[slice("web-1", "web", &["10.0.0.2", "10.0.0.1"])]));
    let Some(Update::Reset(entries)) = index.take_update() else { panic!("a reset") };
    assert_eq!(entries.len(), 1);
    assert_eq!(addresses(&entries[0]), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(index.take_update(), None);
    assert_eq!(index.get(&ServiceName::new("default", "web")), Some(&entries[0]));
}

#[test]
fn nothing_changed_is_no_update() {
    let mut index = started();
    assert!(index.apply_service(&web("10.96.0.7")));
    assert!(!index.apply_service(&web("10.96.0.7")));
    assert!(index.apply_slice(&slice("web-1", "web", &["10.0.0.1"])));
    assert!(!index.apply_slice(&slice("web-1", "web", &["10.0.0.1"])));
    change(&mut index);
    assert!(!index.reset_services(&[web("10.96.0.7")]));
    assert!(!index.reset_slices(&[slice("web-1", "web", &["10.0.0.1"])]));
    assert_eq!(index.take_update(), None);
    // There and back again before anybody looked.
    assert!(index.delete_slice("default", "web-1"));
    assert!(index.apply_slice(&slice("web-1", "web", &["10.0.0.1"])));
    assert_eq!(index.take_update(), None);
    assert!(!index.delete_service("default", "none"));
    assert!(!index.delete_slice("default", "none"));
}

#[test]
fn slices_wait_for_their_service_and_outlive_it() {
    let mut index = started();
    index.apply_slice(&slice("web-1", "web", &["10.0.0.1"]));
    assert_eq!(index.take_update(), None);
    index.apply_service(&web("10.96.0.7"));
    assert_eq!(addresses(&change(&mut index).1.unwrap()), ["10.0.0.1:8080"]);
    index.delete_service("default", "web");
    assert_eq!(change(&mut index), (ServiceName::new("default", "web"), None));
    index.apply_service(&web("10.96.0.8"));
    assert_eq!(addresses(&change(&mut index).1.unwrap()), ["10.0.0.1:8080"]);
}

#[test]
fn a_relist_deletes_what_is_gone() {
    let mut index = started();
    index.apply_service(&web("10.96.0.7"));
    index.apply_slice(&slice("web-1", "web", &["10.0.0.1"]));
    index.apply_slice(&slice("web-2", "web", &["10.0.0.2"]));
    index.take_update();
    assert!(index.reset_slices(&[slice("web-2", "web", &["10.0.0.2"])]));
    assert_eq!(addresses(&change(&mut index).1.unwrap()), ["10.0.0.2:8080"]);
    assert!(index.reset_services([]));
    assert_eq!(change(&mut index).1, None);
}

#[test]
fn a_slice_that_changes_its_owner_touches_both() {
    let mut index = started();
    index.apply_service(&web("10.96.0.7"));
    index.apply_service(&service("api", json!({"clusterIP": "10.96.0.8", "ports": [{"port": 80}]})));
    index.apply_slice(&slice("s", "web", &["10.0.0.1"]));
    index.take_update();
    index.apply_slice(&slice("s", "api", &["10.0.0.1"]));
    let Some(Update::Changed(changed)) = index.take_update() else { panic!("a change") };
    let counts: Vec<usize> = changed.values().map(|entry| addresses(entry.as_ref().unwrap()).len()).collect();
    assert_eq!(counts, [1, 0]);
}

#[test]
fn an_endpoint_in_two_slices_counts_once_in_its_better_state() {
    let mut index = started();
    index.apply_service(&web("10.96.0.7"));
    let mut old = slice("a", "web", &["10.0.0.1"]);
    let conditions = json!({"ready": false, "serving": true, "terminating": true});
    old.endpoints.as_mut().unwrap()[0].conditions = from_value(conditions).unwrap();
    index.apply_slice(&old);
    index.apply_slice(&slice("b", "web", &["10.0.0.1"]));
    let entry = change(&mut index).1.unwrap();
    assert_eq!(addresses(&entry), ["10.0.0.1:8080"]);
    assert!(entry.endpoints.values().flatten().all(|endpoint| endpoint.ready && !endpoint.terminating));
}

#[test]
fn an_object_that_cannot_be_used_counts_as_absent_and_the_rest_goes_on() {
    let mut index = started();
    index.apply_service(&web("10.96.0.7"));
    index.apply_slice(&slice("web-1", "web", &["10.0.0.1"]));
    index.take_update();
    for spec in [
        json!({"clusterIP": "10.96.0.7", "ports": [{"port": 0}]}),
        json!({"clusterIP": "10.96.0.7", "ports": [{"port": 70000}]}),
        json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80, "protocol": "DCCP"}]}),
        json!({"type": "Strange"}),
        json!({"type": "ExternalName"}),
        json!({"clusterIP": "10.96.0.7", "externalTrafficPolicy": "Here"}),
        json!({"clusterIP": "10.96.0.7", "loadBalancerSourceRanges": ["10.0.0.0/33"]}),
        json!({"clusterIP": "10.96.0.7", "sessionAffinity": "Cookie"}),
    ] {
        assert!(index.apply_service(&service("web", spec.clone())), "{spec}");
        assert_eq!(change(&mut index).1, None, "{spec}");
        assert!(index.apply_service(&web("10.96.0.7")));
        assert!(change(&mut index).1.is_some());
    }
    assert!(!index.apply_service(&from_value(json!({"metadata": {}})).unwrap()));
    assert!(!index.apply_slice(&from_value(json!({"metadata": {}, "addressType": "IPv4"})).unwrap()));
    let mut bad = slice("web-1", "web", &["10.0.0.1"]);
    bad.address_type = "IPX".into();
    assert!(index.apply_slice(&bad));
    assert!(addresses(&change(&mut index).1.unwrap()).is_empty());
    // One bad address among good ones: leading zeros, the other family.
    index.apply_slice(&slice("web-1", "web", &["10.0.0.01", "fd00::1", "10.0.0.3"]));
    assert_eq!(addresses(&change(&mut index).1.unwrap()), ["10.0.0.3:8080"]);
}

#[test]
fn every_field_that_forwarding_needs_is_read() {
    let mut index = started();
    let object: Service = from_value(json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053, "targetPort": "dns"}],
            "externalIPs": ["192.0.2.1", "192.0.2.01"], "loadBalancerSourceRanges": [" 10.1.2.3/8 "],
            "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
            "healthCheckNodePort": 30999, "publishNotReadyAddresses": true,
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "198.51.100.1"}, {"ip": "198.51.100.2", "ipMode": "Proxy"},
            {"ip": "198.51.100.3", "ipMode": "VIP"}, {"hostname": "lb.example.com"},
        ]}},
    }))
    .unwrap();
    index.apply_service(&object);
    let service = &change(&mut index).1.unwrap().service;
    let texts =
        |list: &[std::net::IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(service.kind, ServiceKind::LoadBalancer);
    assert_eq!(texts(&service.cluster_ips), "10.96.0.7 fd00::7");
    assert_eq!(texts(&service.external_ips), "192.0.2.1");
    assert_eq!(texts(&service.load_balancer_ips), "198.51.100.1 198.51.100.3");
    assert_eq!(service.source_ranges, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!((service.ports[0].protocol, service.ports[0].node_port), (Protocol::Udp, Some(30053)));
    assert_eq!(service.affinity.map(|timeout| timeout.as_secs()), Some(10_800));
    assert_eq!(service.health_check_node_port, Some(30999));
    assert!(service.publish_not_ready);
    index.apply_service(&headless());
    let service = &change(&mut index).1.unwrap().service;
    assert_eq!((&service.kind, service.cluster_ips.len()), (&ServiceKind::Headless, 0));
}

fn headless() -> Service {
    service("web", json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}))
}

#[test]
fn slices_without_ports_are_kept_apart() {
    let mut index = started();
    index.apply_service(&headless());
    let mut bare = slice("web-1", "web", &["10.0.0.1"]);
    bare.ports = None;
    index.apply_slice(&bare);
    let entry = change(&mut index).1.unwrap();
    assert!(entry.endpoints.is_empty());
    assert_eq!(entry.portless.len(), 1);
}

#[derive(Clone, Debug)]
enum Event {
    Service(u8, Option<u8>),
    Slice(u8, Option<(u8, Vec<u8>)>),
    Services(Vec<(u8, u8)>),
    Look,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4u8, prop::option::of(0..3u8)).prop_map(|(name, ip)| Event::Service(name, ip)),
        (0..6u8, prop::option::of((0..4u8, prop::collection::vec(0..4u8, 0..4))))
            .prop_map(|(name, slice)| Event::Slice(name, slice)),
        prop::collection::btree_map(0..4u8, 0..3u8, 0..4)
            .prop_map(|all| Event::Services(all.into_iter().collect())),
        Just(Event::Look),
    ]
}

fn numbered(name: u8, ip: u8) -> Service {
    // The last one is an object that cannot be used.
    let ip = if ip == 2 { json!({"type": "Strange"}) } else { json!({"clusterIP": format!("10.96.0.{ip}")}) };
    service(&format!("s{name}"), ip)
}

proptest! {
    /// However the objects came, a reader that follows the updates ends with what an index fed only the final
    /// objects says.
    #[test]
    fn following_equals_relisting(events in prop::collection::vec(event(), 0..60)) {
        let mut index = started();
        let (mut services, mut slices) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
        let mut followed = std::collections::BTreeMap::new();
        for event in events.into_iter().chain([Event::Look]) {
            match event {
                Event::Service(name, Some(ip)) => {
                    index.apply_service(services.entry(name).insert_entry(numbered(name, ip)).get());
                }
                Event::Service(name, None) => {
                    services.remove(&name);
                    index.delete_service("default", &format!("s{name}"));
                }
                Event::Slice(name, Some((owner, hosts))) => {
                    let hosts: Vec<String> = hosts.iter().map(|host| format!("10.0.0.{host}")).collect();
                    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
                    let object = slice(&format!("e{name}"), &format!("s{owner}"), &hosts);
                    index.apply_slice(slices.entry(name).insert_entry(object).get());
                }
                Event::Slice(name, None) => {
                    slices.remove(&name);
                    index.delete_slice("default", &format!("e{name}"));
                }
                Event::Services(all) => {
                    services = all.into_iter().map(|(name, ip)| (name, numbered(name, ip))).collect();
                    index.reset_services(services.values());
                }
                Event::Look => {
                    let Some(update) = index.take_update() else { continue };
                    let Update::Changed(changed) = update else { panic!("a second reset") };
                    for (name, entry) in changed {
                        match entry {
                            Some(entry) => followed.insert(name, entry),
                            None => followed.remove(&name),
                        };
                    }
                }
            }
        }
        let mut fresh = Index::new();
        fresh.reset_slices(slices.values());
        fresh.reset_services(services.values());
        let Some(Update::Reset(all)) = fresh.take_update() else { panic!("a reset") };
        prop_assert_eq!(followed.into_values().collect::<Vec<_>>(), all);
    }
}
