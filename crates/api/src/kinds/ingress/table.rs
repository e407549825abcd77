//! Ingresses as `kubectl get` shows them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{Ingress, IngressRule};
use serde_json::{Value, json};

use super::class;
use crate::kind::Column;
use crate::table;

/// Hosts shown before "more".
const SHOWN: usize = 3;

pub(super) const COLUMNS: &[Column] = &[
    table::NAME,
    table::text(
        "Class",
        "The name of the IngressClass resource that should be used for additional configuration",
    ),
    table::text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
    table::text("Address", "Address is a list containing ingress points for the load-balancer"),
    table::text("Ports", "Ports of TLS configurations that open"),
    table::AGE,
];

pub(super) fn cells(ingress: &Ingress, now: Timestamp) -> Vec<Value> {
    let spec = ingress.spec.as_ref();
    let rules = spec.and_then(|s| s.rules.as_deref()).unwrap_or_default();
    let tls = spec.and_then(|s| s.tls.as_deref()).unwrap_or_default();
    vec![
        table::name(&ingress.metadata),
        json!(class(ingress).unwrap_or(table::NONE)),
        json!(hosts(rules)),
        json!(addresses(ingress)),
        json!(if tls.is_empty() { "80" } else { "80, 443" }),
        table::age(&ingress.metadata, now),
    ]
}

/// `a,b,c + 2 more...`; what is counted are the rules, with a host or without.
fn hosts(rules: &[IngressRule]) -> String {
    let named = rules.iter().enumerate().filter_map(|(at, rule)| Some((at, rule.host.as_deref()?)));
    let shown: Vec<(usize, &str)> = named.take(SHOWN).collect();
    let hosts = shown.iter().map(|(_, host)| *host).collect::<Vec<_>>().join(",");
    match shown.get(SHOWN - 1) {
        Some((last, _)) if last + 1 < rules.len() => format!("{hosts} + {} more...", rules.len() - SHOWN),
        _ if hosts.is_empty() => "*".to_owned(),
        _ => hosts,
    }
}

fn addresses(ingress: &Ingress) -> String {
    let balancer = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let list = balancer.and_then(|b| b.ingress.as_deref()).unwrap_or_default();
    let all: BTreeSet<&str> = list.iter().filter_map(|i| i.ip.as_deref().or(i.hostname.as_deref())).collect();
    Vec::from_iter(all).join(",")
}
