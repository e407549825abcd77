//! A small cluster with one Service of every sort, for tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use svcd_svcmap::{Endpoint, Entry, Protocol, Service, ServiceKind, ServiceName, ServicePort, Update};

use crate::name::Name;
use crate::zone::{Question, Settings, Zone, rtype};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn service_name(text: &str) -> ServiceName {
    let (name, namespace) = text.split_once('.').unwrap();
    ServiceName { namespace: namespace.into(), name: name.into() }
}

/// An entry from `name.namespace`, its kind, addresses and ports as `name/protocol/number`.
pub(crate) fn entry(name: &str, kind: ServiceKind, ips: &[&str], ports: &[&str]) -> Entry {
    let port = |text: &&str| {
        let (name, protocol, port) = port(text);
        ServicePort { name, protocol, port, node_port: None }
    };
    let service = Service {
        cluster_ips: ips.iter().map(|text| ip(text)).collect(),
        ports: ports.iter().map(port).collect(),
        ..Service::new(service_name(name), kind)
    };
    Entry { service, endpoints: BTreeMap::new(), portless: Vec::new() }
}

fn port(text: &str) -> (Arc<str>, Protocol, u16) {
    let parts: Vec<_> = text.split('/').collect();
    let protocol = if parts[1] == "udp" { Protocol::Udp } else { Protocol::Tcp };
    (parts[0].into(), protocol, parts[2].parse().unwrap())
}

/// An endpoint from `address`, `address=hostname`, with `!` in front when it is not ready and `@zone` behind.
pub(crate) fn endpoint(text: &str, port: u16) -> Endpoint {
    let (text, zone) = text.split_once('@').map_or((text, None), |(text, zone)| (text, Some(zone.into())));
    let ready = !text.starts_with('!');
    let (address, hostname) = text.split_once('=').map_or((text, None), |(ip, host)| (ip, Some(host.into())));
    Endpoint {
        ready,
        serving: ready,
        hostname,
        zone,
        ..Endpoint::new(ip(address.trim_start_matches('!')), port)
    }
}

/// Adds endpoints for a port.
pub(crate) fn with(mut entry: Entry, at: &str, endpoints: &[&str]) -> Entry {
    let (name, protocol, number) = port(at);
    let list = endpoints.iter().map(|text| endpoint(text, number)).collect();
    entry.endpoints.insert((name, protocol), list);
    entry
}

fn portless(mut entry: Entry, endpoints: &[&str]) -> Entry {
    entry.portless = endpoints.iter().map(|text| endpoint(text, 0)).collect();
    entry
}

/// One Service of every sort.
pub(crate) fn entries() -> Vec<Arc<Entry>> {
    use ServiceKind::{ClusterIp, Headless, LoadBalancer, NodePort};
    let external = |name: &str, target: &str| entry(name, ServiceKind::ExternalName(target.into()), &[], &[]);
    let many: Vec<_> = (0..120).map(|n| format!("10.244.9.{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let list = vec![
        entry("kube-dns.kube-system", ClusterIp, &["10.96.0.10"], &["dns/udp/53", "dns-tcp/tcp/53"]),
        with(
            entry("web.default", NodePort, &["10.96.0.20"], &["http/tcp/80", "metrics/udp/9000"]),
            "http/tcp/8080",
            &["10.244.1.5", "10.244.1.6=named", "!10.244.1.7=notready"],
        ),
        entry("empty.default", LoadBalancer, &["10.96.0.21"], &["/tcp/80"]),
        entry("dual.default", ClusterIp, &["10.96.0.22", "fd00:96::22"], &["http/tcp/80"]),
        entry("six.default", ClusterIp, &["fd00:96::23"], &["http/tcp/80"]),
        with(
            entry("hdls.default", Headless, &[], &["http/tcp/80"]),
            "http/tcp/8080",
            &[
                "172.0.0.2@a",
                "172.0.0.3=web-0@b",
                "172.0.0.4=dup",
                "172.0.0.5=dup",
                "!172.0.0.9",
                "5678:abcd::1",
            ],
        ),
        with(entry("hdls2.default", Headless, &[], &["x/tcp/1"]), "x/tcp/1", &["172.0.0.3"]),
        with(entry("unready.default", Headless, &[], &["http/tcp/80"]), "http/tcp/8080", &["!172.0.0.8"]),
        with(entry("unnamed.default", Headless, &[], &["/tcp/80"]), "/tcp/80", &["172.0.0.12"]),
        portless(entry("portless.default", Headless, &[], &[]), &["172.0.0.13", "172.0.0.14=host"]),
        with(entry("many.default", Headless, &[], &["http/tcp/80"]), "http/tcp/80", &many),
        external("ext.default", "www.Example.org."),
        external("inside.default", "web.default.svc.cluster.local"),
        external("twice.default", "inside.default.svc.cluster.local"),
        external("dangling.default", "nothing.default.svc.cluster.local"),
        external("circle.default", "circle.default.svc.cluster.local"),
        external("address.default", "192.0.2.1"),
    ];
    list.into_iter().map(Arc::new).collect()
}

pub(crate) fn empty_zone() -> Zone {
    let settings = Settings {
        domain: "cluster.local".to_owned(),
        ttl: 5,
        name_servers: vec![ip("10.96.0.10")],
        networks: ["10.96.0.0/12", "10.244.0.0/16", "fd00:96::/112"].map(|net| net.parse().unwrap()).to_vec(),
        serial: 100,
    };
    Zone::new(settings).unwrap()
}

/// The zone of that cluster.
pub(crate) fn zone() -> Zone {
    let mut zone = empty_zone();
    zone.apply(&Update::Reset(entries()));
    zone.reset_namespaces(["default", "kube-system", "void"]);
    zone
}

/// A record type by name.
pub(crate) fn type_number(name: &str) -> u16 {
    match name {
        "A" => rtype::A,
        "AAAA" => rtype::AAAA,
        "SRV" => rtype::SRV,
        "PTR" => rtype::PTR,
        "TXT" => rtype::TXT,
        "CNAME" => rtype::CNAME,
        "SOA" => rtype::SOA,
        "NS" => rtype::NS,
        "MX" => rtype::MX,
        "ANY" => rtype::ANY,
        "HTTPS" => rtype::HTTPS,
        other => panic!("{other}"),
    }
}

/// A question from `TYPE name`; a name ending in `.` is whole, others are in the zone.
pub(crate) fn question(text: &str) -> Question {
    let (kind, name) = text.split_once(' ').unwrap();
    Question { name: Name::parse(&full_name(name)).unwrap(), rtype: type_number(kind) }
}

pub(crate) fn full_name(name: &str) -> String {
    match name {
        "@" => "cluster.local.".to_owned(),
        name if name.ends_with('.') => name.to_owned(),
        name => format!("{name}.cluster.local."),
    }
}

/// The packet of a plain question, the name's case kept; `payload` asks for EDNS.
pub(crate) fn packet(text: &str, id: u16, payload: Option<u16>) -> Vec<u8> {
    let (kind, name) = text.split_once(' ').unwrap();
    let mut packet = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in full_name(name).trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&type_number(kind).to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    if let Some(payload) = payload {
        packet[11] = 1;
        let [high, low] = payload.to_be_bytes();
        packet.extend_from_slice(&[0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]);
    }
    packet
}
