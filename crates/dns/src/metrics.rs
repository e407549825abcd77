//! What is counted, under CoreDNS's names and labels, so that dashboards for CoreDNS show this server.
//!
//! The labels are fixed words: nothing that a client sends becomes one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::wire::message::Kind;
use crate::zone::rtype;

/// The `server` label: CoreDNS has one for each server block.
const SERVER: &str = "dns://:53";

/// Whose name was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The cluster's.
    Cluster,
    /// Somebody else's.
    Outside,
}

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// Over TCP rather than UDP.
    pub(crate) tcp: bool,
    /// From an IPv6 address.
    pub(crate) v6: bool,
}

/// One answered question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) side: Side,
    pub(crate) rtype: u16,
    pub(crate) rcode: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    server: &'static str,
    zone: Arc<str>,
    view: &'static str,
    proto: &'static str,
    family: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResponseLabels {
    server: &'static str,
    zone: Arc<str>,
    view: &'static str,
    rcode: &'static str,
    plugin: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ZoneLabels {
    server: &'static str,
    zone: Arc<str>,
    view: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CacheLabels {
    server: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServerLabels {
    server: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpstreamLabels {
    to: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpstreamRcodeLabels {
    to: String,
    rcode: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// All of this crate's metrics; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// The cluster's zone, and the root for all others.
    zones: [Arc<str>; 2],
    requests: Family<RequestLabels, Counter>,
    responses: Family<ResponseLabels, Counter>,
    duration: Durations<ZoneLabels>,
    cache_hits: Family<CacheLabels, Counter>,
    cache_misses: Family<ServerLabels, Counter>,
    cache_entries: Family<ServerLabels, Gauge>,
    forward_requests: Family<UpstreamLabels, Counter>,
    forward_responses: Family<UpstreamRcodeLabels, Counter>,
    forward_duration: Durations<UpstreamLabels>,
    forward_refused: Counter,
}

impl Metrics {
    /// Registers everything; `zone` is the cluster's.
    pub(crate) fn new(zone: &str, registry: &mut Registry) -> Self {
        let this = Self::unregistered(zone);
        let dns = registry.sub_registry_with_prefix("coredns_dns");
        dns.register("requests", "DNS requests", this.requests.clone());
        dns.register("responses", "DNS responses", this.responses.clone());
        dns.register(
            "request_duration_seconds",
            "Time from a request to its response",
            this.duration.clone(),
        );
        let cache = registry.sub_registry_with_prefix("coredns_cache");
        cache.register("hits", "Outside names answered from the cache", this.cache_hits.clone());
        cache.register("misses", "Outside names not in the cache", this.cache_misses.clone());
        cache.register("entries", "Answers in the cache", this.cache_entries.clone());
        let forward = registry.sub_registry_with_prefix("coredns_forward");
        forward.register("requests", "Questions sent to an upstream", this.forward_requests.clone());
        forward.register("responses", "Replies of an upstream", this.forward_responses.clone());
        forward.register("request_duration_seconds", "Time an upstream took", this.forward_duration.clone());
        let refused = "Questions refused because too many were under way";
        forward.register("max_concurrent_rejects", refused, this.forward_refused.clone());
        this
    }

    fn unregistered(zone: &str) -> Self {
        Self {
            zones: [zone.into(), ".".into()],
            requests: Family::default(),
            responses: Family::default(),
            duration: Family::new_with_constructor(fast_buckets),
            cache_hits: Family::default(),
            cache_misses: Family::default(),
            cache_entries: Family::default(),
            forward_requests: Family::default(),
            forward_responses: Family::default(),
            forward_duration: Family::new_with_constructor(slow_buckets),
            forward_refused: Counter::default(),
        }
    }

    /// Counts one answered question.
    pub(crate) fn served(&self, way: Way, served: Served, took: Duration) {
        let (zone, plugin) = match served.side {
            Side::Cluster => (&self.zones[0], "kubernetes"),
            Side::Outside => (&self.zones[1], "forward"),
        };
        let (server, view, zone) = (SERVER, "", || Arc::clone(zone));
        let proto = if way.tcp { "tcp" } else { "udp" };
        let family = if way.v6 { "2" } else { "1" };
        let request =
            RequestLabels { server, zone: zone(), view, proto, family, r#type: type_name(served.rtype) };
        self.requests.get_or_create(&request).inc();
        let response = ResponseLabels { server, zone: zone(), view, rcode: rcode_name(served.rcode), plugin };
        self.responses.get_or_create(&response).inc();
        self.duration.get_or_create(&ZoneLabels { server, zone: zone(), view }).observe(took.as_secs_f64());
    }

    pub(crate) fn cache_hit(&self, kind: Kind) {
        let r#type = if kind == Kind::Success { "success" } else { "denial" };
        self.cache_hits.get_or_create(&CacheLabels { server: SERVER, r#type }).inc();
    }

    pub(crate) fn cache_miss(&self) {
        self.cache_misses.get_or_create(&ServerLabels { server: SERVER }).inc();
    }

    pub(crate) fn cache_entries(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.cache_entries.get_or_create(&ServerLabels { server: SERVER }).set(count);
    }

    pub(crate) fn forward_refused(&self) {
        self.forward_refused.inc();
    }

    /// Counts one question to an upstream; `rcode` is none when no reply came.
    pub(crate) fn forwarded(&self, to: SocketAddr, rcode: Option<u16>, took: Duration) {
        let to = to.to_string();
        self.forward_requests.get_or_create(&UpstreamLabels { to: to.clone() }).inc();
        let Some(rcode) = rcode.map(rcode_name) else { return };
        self.forward_responses.get_or_create(&UpstreamRcodeLabels { to: to.clone(), rcode }).inc();
        self.forward_duration.get_or_create(&UpstreamLabels { to }).observe(took.as_secs_f64());
    }
}

/// 8 us to 0.13 s: what is answered here.
fn fast_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.000_008, 4.0, 8).chain([2.0, 5.0]))
}

/// CoreDNS's buckets: a quarter of a millisecond to 16 s.
fn slow_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

fn type_name(rtype: u16) -> &'static str {
    match rtype {
        rtype::A => "A",
        rtype::AAAA => "AAAA",
        rtype::CNAME => "CNAME",
        rtype::HTTPS => "HTTPS",
        rtype::MX => "MX",
        rtype::NS => "NS",
        rtype::PTR => "PTR",
        rtype::SOA => "SOA",
        rtype::SRV => "SRV",
        rtype::TXT => "TXT",
        rtype::ANY => "ANY",
        _ => "other",
    }
}

fn rcode_name(rcode: u16) -> &'static str {
    match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        16 => "BADVERS",
        _ => "other",
    }
}
