//! What a lookup costs, and what a change costs, as the number of Services grows: both must stay flat.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use divan::{Bencher, black_box};
use svcd_dns::name::Name;
use svcd_dns::zone::{Question, Settings, Zone, rtype};
use svcd_svcmap::{Endpoint, Entry, Protocol, Service, ServiceKind, ServiceName, ServicePort, Update};

const SIZES: [u32; 3] = [10, 1_000, 10_000];

fn main() {
    divan::main();
}

fn entry(number: u32, kind: ServiceKind) -> Arc<Entry> {
    let address = |base: [u8; 4], add| IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::from(base).to_bits() + add));
    let cluster_ips =
        if kind == ServiceKind::Headless { Vec::new() } else { vec![address([10, 96, 0, 0], number + 1)] };
    let service = Service {
        cluster_ips,
        ports: vec![ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None }],
        ..Service::new(
            ServiceName { namespace: "default".into(), name: format!("svc-{number}").into() },
            kind,
        )
    };
    let endpoint = |add| Endpoint::new(address([10, 244, 0, 0], number * 10 + add), 8080);
    let endpoints = BTreeMap::from([(("http".into(), Protocol::Tcp), (0..10).map(endpoint).collect())]);
    Arc::new(Entry { service, endpoints, portless: Vec::new() })
}

fn zone(services: u32) -> Zone {
    let kind = |number: u32| if number % 10 == 5 { ServiceKind::Headless } else { ServiceKind::ClusterIp };
    let settings = Settings {
        domain: "cluster.local".to_owned(),
        ttl: 5,
        name_servers: Vec::new(),
        networks: vec!["10.96.0.0/12".parse().expect("a network")],
        serial: 1,
    };
    let mut zone = Zone::new(settings).expect("a zone");
    zone.apply(&Update::Reset((0..services).map(|number| entry(number, kind(number))).collect()));
    zone.reset_namespaces(["default"]);
    zone
}

fn ask(bencher: Bencher<'_, '_>, services: u32, name: &str, rtype: u16) {
    let (zone, question) = (zone(services), Question { name: Name::parse(name).expect("a name"), rtype });
    bencher.bench_local(|| black_box(zone.lookup(black_box(&question), 1)).is_some());
}

#[divan::bench(args = SIZES)]
fn service(bencher: Bencher<'_, '_>, services: u32) {
    ask(bencher, services, "svc-7.default.svc.cluster.local", rtype::A);
}

#[divan::bench(args = SIZES)]
fn headless(bencher: Bencher<'_, '_>, services: u32) {
    ask(bencher, services, "svc-5.default.svc.cluster.local", rtype::A);
}

#[divan::bench(args = SIZES)]
fn no_such_name(bencher: Bencher<'_, '_>, services: u32) {
    ask(bencher, services, "www.example.org.default.svc.cluster.local", rtype::A);
}

#[divan::bench(args = SIZES)]
fn port(bencher: Bencher<'_, '_>, services: u32) {
    ask(bencher, services, "_http._tcp.svc-5.default.svc.cluster.local", rtype::SRV);
}

#[divan::bench(args = SIZES)]
fn reverse(bencher: Bencher<'_, '_>, services: u32) {
    ask(bencher, services, "8.0.96.10.in-addr.arpa", rtype::PTR);
}

#[divan::bench(args = SIZES)]
fn change_of_one(bencher: Bencher<'_, '_>, services: u32) {
    let (mut zone, changed) = (zone(services), entry(5, ServiceKind::Headless));
    let update = Update::Changed([(changed.service.name.clone(), Some(changed))].into());
    bencher.bench_local(|| zone.apply(black_box(&update)));
}
