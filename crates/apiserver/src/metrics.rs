//! What `/metrics` shows, under kube-apiserver's names. Labels come from the routes, never from what a client sent.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::limits::Class;
use crate::route::{Target, Verb, subresource_name};

/// What a request was about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Subject {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
}

impl Subject {
    pub(crate) fn object(verb: Verb, target: &Target) -> Self {
        let info = target.resource.info;
        let verb = match verb {
            Verb::Get => "GET",
            Verb::List => "LIST",
            Verb::Watch => "WATCH",
            Verb::Create => "POST",
            Verb::Update => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
            Verb::DeleteCollection => "DELETECOLLECTION",
        };
        let scope = match (&target.name, &target.namespace) {
            (Some(_), _) => "resource",
            (None, Some(_)) => "namespace",
            (None, None) => "cluster",
        };
        let subresource = target.subresource.map_or("", subresource_name);
        Self { verb, group: info.group, version: info.version, resource: info.plural, subresource, scope }
    }

    /// A request for something that is not an object.
    pub(crate) fn path(method: &http::Method) -> Self {
        let verb = match *method {
            http::Method::GET | http::Method::HEAD => "GET",
            http::Method::POST => "POST",
            _ => "other",
        };
        Self { verb, ..Self::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestKind {
    request_kind: &'static str,
}

/// The metrics of a server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Subject, Histogram, fn() -> Histogram>,
    in_flight: Family<RequestKind, Gauge>,
    watchers: Gauge,
    connections: Gauge,
}

/// kube-apiserver's buckets.
const BUCKETS: [f64; 21] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0,
];

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<Request, Counter>::default();
        let durations: Family<Subject, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let in_flight = Family::<RequestKind, Gauge>::default();
        let (watchers, connections) = (Gauge::default(), Gauge::default());
        registry.register("apiserver_request", "Requests answered", requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "Time until a request was answered; watches until they had begun",
            durations.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests being worked on",
            in_flight.clone(),
        );
        registry.register("apiserver_longrunning_requests", "Watches running", watchers.clone());
        registry.register("apiserver_open_connections", "Connections open", connections.clone());
        Self { registry, requests, durations, in_flight, watchers, connections }
    }

    /// For what is counted elsewhere and shown here.
    pub(crate) fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The gauge that counts a class of requests.
    pub(crate) fn gauge(&self, class: Class) -> Gauge {
        let request_kind = match class {
            Class::Mutating => "mutating",
            Class::ReadOnly => "readOnly",
            Class::Watch => return self.watchers.clone(),
        };
        self.in_flight.get_or_create_owned(&RequestKind { request_kind })
    }

    pub(crate) fn connections(&self) -> &Gauge {
        &self.connections
    }

    pub(crate) fn answered(&self, subject: &Subject, code: u16, took: Duration) {
        let Subject { verb, group, version, resource, subresource, scope } = *subject;
        let request = Request { verb, group, version, resource, subresource, scope, code };
        self.requests.get_or_create(&request).inc();
        self.durations.get_or_create(subject).observe(took.as_secs_f64());
    }

    /// Everything, as OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("metrics can be written to memory");
        text
    }
}
