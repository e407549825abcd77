//! What is counted of seats and queues, under kube-apiserver's names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::levels::Schema;

/// What a request is counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    priority_level: &'static str,
    flow_schema: &'static str,
}

impl Labels {
    pub(super) fn of(schema: &Schema) -> Self {
        Self { priority_level: schema.level_name(), flow_schema: schema.name }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    priority_level: &'static str,
    flow_schema: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waited {
    priority_level: &'static str,
    flow_schema: &'static str,
    execute: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    priority_level: &'static str,
}

/// kube-apiserver's buckets for waiting.
const WAITS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

/// See the module.
pub(crate) struct FlowMetrics {
    dispatched: Family<Labels, Counter>,
    rejected: Family<Rejected, Counter>,
    queued: Family<Labels, Gauge>,
    executing: Family<Labels, Gauge>,
    waits: Family<Waited, Histogram, fn() -> Histogram>,
    nominal: Family<OfLevel, Gauge>,
}

impl Default for FlowMetrics {
    fn default() -> Self {
        Self {
            dispatched: Family::default(),
            rejected: Family::default(),
            queued: Family::default(),
            executing: Family::default(),
            waits: Family::new_with_constructor(|| Histogram::new(WAITS)),
            nominal: Family::default(),
        }
    }
}

impl FlowMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let named = |name: &str| format!("apiserver_flowcontrol_{name}");
        registry.register(
            named("dispatched_requests"),
            "Requests that were given a seat",
            self.dispatched.clone(),
        );
        registry.register(named("rejected_requests"), "Requests that were told 429", self.rejected.clone());
        registry.register(
            named("current_inqueue_requests"),
            "Requests that wait for a seat",
            self.queued.clone(),
        );
        registry.register(
            named("current_executing_requests"),
            "Requests that hold a seat",
            self.executing.clone(),
        );
        registry.register(
            named("request_wait_duration_seconds"),
            "How long requests waited for a seat",
            self.waits.clone(),
        );
        registry.register(
            named("nominal_limit_seats"),
            "Seats that are a level's share",
            self.nominal.clone(),
        );
    }

    pub(super) fn nominal(&self, priority_level: &'static str, seats: usize) {
        let seats = i64::try_from(seats).unwrap_or(i64::MAX);
        self.nominal.get_or_create(&OfLevel { priority_level }).set(seats);
    }

    pub(super) fn dispatched(&self, labels: &Labels, waited: Duration) {
        self.dispatched.get_or_create(labels).inc();
        self.waited(labels, "true", waited);
    }

    pub(super) fn rejected(&self, labels: &Labels, reason: &'static str, waited: Duration) {
        let Labels { priority_level, flow_schema } = *labels;
        self.rejected.get_or_create(&Rejected { priority_level, flow_schema, reason }).inc();
        self.waited(labels, "false", waited);
    }

    fn waited(&self, labels: &Labels, execute: &'static str, waited: Duration) {
        let Labels { priority_level, flow_schema } = *labels;
        let waits = self.waits.get_or_create(&Waited { priority_level, flow_schema, execute });
        waits.observe(waited.as_secs_f64());
    }

    pub(super) fn queued(&self, labels: &Labels, change: i64) {
        self.queued.get_or_create(labels).inc_by(change);
    }

    pub(super) fn executing(&self, labels: &Labels, change: i64) {
        self.executing.get_or_create(labels).inc_by(change);
    }

    /// How many wait and how many are worked on.
    #[cfg(test)]
    pub(super) fn describe(&self, schema: &Schema) -> (i64, i64) {
        let labels = Labels::of(schema);
        (self.queued.get_or_create(&labels).get(), self.executing.get_or_create(&labels).get())
    }
}
