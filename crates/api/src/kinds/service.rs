//! Services: a stable address and name for a set of pods.
//!
//! `default` fills in what does not depend on the stored object, `update` what does (an update may leave out what was
//! allocated, and a change of type drops what the new type has no use for), `families` what depends on the cluster,
//! `validate` holds the rules, `claims` asks for addresses and node ports.

mod claims;
mod default;
mod families;
mod table;
mod update;
mod validate;
mod warnings;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde_json::Value;

use crate::behavior::{Behavior, Change, Claims, Settle, Update, Warnings};
use crate::field::FieldError;
use crate::kind::{Column, KindInfo, Subresource};
use crate::names::NameRule;

pub(crate) struct Services;

impl Behavior for Services {
    type Object = Service;

    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Subresource::Status],
        create_on_update: true,
        unconditional_update: true,
    };
    const NAMES: NameRule = NameRule::Label;
    const INITIAL_STATUS: Option<&'static str> = Some(r#"{"loadBalancer":{}}"#);
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = table::COLUMNS;
    const SELECTABLE: &'static [&'static str] = &["spec.clusterIP", "spec.type"];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[("spec.ports", &["port", "protocol"]), ("status.conditions", &["type"])];

    const WARNINGS: Option<Warnings<Service>> = Some(|service, _| warnings::of(service));

    const DEFAULT: Option<Change<Service>> = Some(default::apply);

    const PREPARE_CREATE: Option<Change<Service>> =
        Some(|service| update::settle_new(service.spec.get_or_insert_default()));

    const PREPARE_UPDATE: Option<Update<Service>> = Some(|new, old| {
        let empty = ServiceSpec::default();
        update::settle(new.spec.get_or_insert_default(), old.spec.as_ref().unwrap_or(&empty));
        update::settle_status(new);
    });

    const SETTLE: Option<Settle<Service>> = Some(|new, old, cluster| {
        let old = old.and_then(|old| old.spec.as_ref());
        families::settle(new.spec.get_or_insert_default(), old, cluster)
    });

    const CLAIMS: Option<Claims<Service>> = Some(Claims {
        of: |service| service.spec.as_ref().map(claims::of).unwrap_or_default(),
        grant: |service, grants| {
            if let Some(spec) = &mut service.spec {
                claims::grant(spec, grants);
            }
        },
    });

    fn validate(service: &Service, errors: &mut Vec<FieldError>) {
        let empty = ServiceSpec::default();
        validate::spec(service.spec.as_ref().unwrap_or(&empty), errors);
    }

    fn validate_update(new: &Service, old: &Service, errors: &mut Vec<FieldError>) {
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            validate::change(new, old, errors);
        }
    }

    fn validate_status(new: &Service, _old: &Service, errors: &mut Vec<FieldError>) {
        validate::status(new, errors);
    }

    fn selectable(service: &Service) -> Vec<String> {
        let spec = service.spec.as_ref();
        vec![
            spec.and_then(|s| s.cluster_ip.clone()).unwrap_or_default(),
            spec.and_then(|s| s.type_.clone()).unwrap_or_default(),
        ]
    }

    fn cells(service: &Service, now: Timestamp) -> Vec<Value> {
        table::cells(service, now)
    }
}

/// Questions about a spec that several of the files ask.
trait SpecExt {
    /// The type, ClusterIP when absent.
    fn kind(&self) -> &str;
    /// Has, or could have, a cluster IP (or `None`).
    fn needs_cluster_ip(&self) -> bool;
    /// Has the cluster IP `None`.
    fn is_headless(&self) -> bool;
    /// Node ports are given to it.
    fn needs_node_ports(&self) -> bool;
    /// May hold node ports, given or asked for.
    fn may_have_node_ports(&self) -> bool;
    /// Can be reached from outside the cluster.
    fn is_external(&self) -> bool;
    /// Has a port for the health checks of load balancers.
    fn needs_health_check_port(&self) -> bool;
}

impl SpecExt for ServiceSpec {
    fn kind(&self) -> &str {
        self.type_.as_deref().unwrap_or("ClusterIP")
    }

    fn needs_cluster_ip(&self) -> bool {
        matches!(self.kind(), "ClusterIP" | "NodePort" | "LoadBalancer")
    }

    fn is_headless(&self) -> bool {
        let first = self.cluster_ips.as_ref().and_then(|ips| ips.first());
        first.or(self.cluster_ip.as_ref()).is_some_and(|ip| ip == "None")
    }

    fn needs_node_ports(&self) -> bool {
        match self.kind() {
            "NodePort" => true,
            "LoadBalancer" => self.allocate_load_balancer_node_ports != Some(false),
            _ => false,
        }
    }

    fn may_have_node_ports(&self) -> bool {
        matches!(self.kind(), "NodePort" | "LoadBalancer")
    }

    fn is_external(&self) -> bool {
        self.may_have_node_ports()
            || (self.kind() == "ClusterIP" && self.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()))
    }

    fn needs_health_check_port(&self) -> bool {
        self.kind() == "LoadBalancer" && self.external_traffic_policy.as_deref() == Some("Local")
    }
}
