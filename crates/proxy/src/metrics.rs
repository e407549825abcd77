//! Metrics under kube-proxy's names, so that existing dashboards work.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::backend::Report;
use crate::{Backend, ServicePlan, Target};

/// The proxy's metrics; clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    duration: Histogram,
    full: Histogram,
    partial: Histogram,
    last_queued: Gauge<f64, AtomicU64>,
    last_synced: Gauge<f64, AtomicU64>,
    rules: Family<RulesLabels, Gauge>,
    written: Gauge,
    failures: Counter,
    no_local_endpoints: Family<PolicyLabels, Gauge>,
    services: Gauge<i64, AtomicI64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RulesLabels {
    table: &'static str,
    ip_family: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    traffic_policy: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        // From 1 ms, doubled: 16 s is the last.
        let histogram = || Histogram::new((0..15).map(|step| 0.001 * f64::from(1 << step)));
        Self {
            duration: histogram(),
            full: histogram(),
            partial: histogram(),
            last_queued: Gauge::default(),
            last_synced: Gauge::default(),
            rules: Family::default(),
            written: Gauge::default(),
            failures: Counter::default(),
            no_local_endpoints: Family::default(),
            services: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Makes them visible in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("kubeproxy");
        let mut timed = |name: &str, help: &str, histogram: &Histogram| {
            registry.register(format!("{name}_duration_seconds"), help, histogram.clone());
        };
        timed("sync_proxy_rules", "Time of a sync", &self.duration);
        timed("sync_full_proxy_rules", "Time of a sync that compares everything", &self.full);
        timed("sync_partial_proxy_rules", "Time of a sync of what changed", &self.partial);
        let queued = "When a change was last handed over";
        registry.register("sync_proxy_rules_last_queued_timestamp_seconds", queued, self.last_queued.clone());
        let synced = "When the kernel last held everything";
        registry.register("sync_proxy_rules_last_timestamp_seconds", synced, self.last_synced.clone());
        registry.register("sync_proxy_rules_iptables_total", "Rules in the kernel", self.rules.clone());
        registry.register(
            "sync_proxy_rules_iptables_last",
            "Lines written by the last sync",
            self.written.clone(),
        );
        let failures = "Syncs that the kernel did not take, wholly or in part";
        registry.register("sync_proxy_rules_iptables_restore_failures", failures, self.failures.clone());
        let none = "Ports with policy Local and endpoints, but none on this node";
        registry.register("sync_proxy_rules_no_local_endpoints_total", none, self.no_local_endpoints.clone());
        registry.register("services", "Services that are forwarded", self.services.clone());
    }

    pub(crate) fn queued(&self) {
        self.last_queued.set(now());
    }

    pub(crate) fn synced(&self, full: bool, took: Duration, report: &Report) {
        let seconds = took.as_secs_f64();
        self.duration.observe(seconds);
        if full { &self.full } else { &self.partial }.observe(seconds);
        self.written.set(gauge(report.written));
        if report.complete() {
            self.last_synced.set(now());
        } else {
            self.failures.inc();
        }
    }

    /// What holds now.
    pub(crate) fn holds(&self, backend: &dyn Backend, services: usize, dropping: Dropping) {
        for (ip_family, table, count) in backend.totals() {
            self.rules.get_or_create(&RulesLabels { table, ip_family }).set(gauge(count));
        }
        self.services.set(gauge(services));
        for (traffic_policy, count) in [("internal", dropping.internal), ("external", dropping.external)] {
            self.no_local_endpoints.get_or_create(&PolicyLabels { traffic_policy }).set(gauge(count));
        }
    }
}

/// How many ports drop what comes, since none of their endpoints is here. Kept up with every plan, so that nobody has
/// to walk over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropping {
    internal: usize,
    external: usize,
}

impl Dropping {
    pub(crate) fn replace(&mut self, old: Option<&ServicePlan>, new: Option<&ServicePlan>) {
        let (old, new) = (Self::of(old), Self::of(new));
        self.internal = (self.internal + new.internal).saturating_sub(old.internal);
        self.external = (self.external + new.external).saturating_sub(old.external);
    }

    fn of(plan: Option<&ServicePlan>) -> Self {
        let ports = || plan.into_iter().flat_map(|plan| &plan.ports);
        Self {
            internal: ports().filter(|port| port.internal == Target::Drop).count(),
            external: ports()
                .filter(|port| port.reachable_from_outside() && port.external == Target::Drop)
                .count(),
        }
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
