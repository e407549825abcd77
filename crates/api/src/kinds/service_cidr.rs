//! ServiceCIDRs: ranges that Services' addresses are taken from. The cluster is set up with one; more of them make room
//! while it runs. One that is on its way out, or that its controller calls not ready, gives no more addresses.

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::{Value, json};

use crate::addresses::{AddressRanges, Family};
use crate::behavior::Behavior;
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo, Subresource};
use crate::{rules, table};

pub(crate) struct ServiceCidrs;

impl Behavior for ServiceCidrs {
    type Object = ServiceCIDR;

    const INFO: &'static KindInfo = &KindInfo {
        group: "networking.k8s.io",
        version: "v1",
        kind: "ServiceCIDR",
        plural: "servicecidrs",
        singular: "servicecidr",
        short_names: &[],
        categories: &[],
        namespaced: false,
        subresources: &[Subresource::Status],
        create_on_update: false,
        unconditional_update: true,
    };
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text(
            "CIDRs",
            "CIDRs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from which to assign service cluster IPs. Max of two CIDRs is allowed, one of each IP family. This field is immutable.",
        ),
        table::AGE,
    ];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.conditions", &["type"])];
    const ADDRESS_RANGES: Option<&'static dyn AddressRanges> = Some(&Self);

    fn validate(range: &ServiceCIDR, errors: &mut Vec<FieldError>) {
        validate_cidrs(cidrs(range), errors);
    }

    /// Nothing changes but that a range of one family may get one of the other beside it.
    fn validate_update(new: &ServiceCIDR, old: &ServiceCIDR, errors: &mut Vec<FieldError>) {
        let (old, new) = (cidrs(old), cidrs(new));
        let path = Path::new("spec");
        let path = path.child("cidrs");
        if old.len() == new.len() || (old.len(), new.len()) == (1, 2) {
            for (index, (_, new)) in old.iter().zip(new).enumerate().filter(|(_, (old, new))| old != new) {
                errors.push(FieldError::invalid(path.index(index), new, rules::IMMUTABLE));
            }
        } else if !new.is_empty() {
            errors.push(FieldError::invalid(path, new, rules::IMMUTABLE));
        }
    }

    fn cells(range: &ServiceCIDR, now: Timestamp) -> Vec<Value> {
        let cidrs = table::or_none(cidrs(range).join(","));
        vec![table::name(&range.metadata), json!(cidrs), table::age(&range.metadata, now)]
    }
}

fn cidrs(range: &ServiceCIDR) -> &[String] {
    range.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default()
}

fn validate_cidrs(cidrs: &[String], errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let path = path.child("cidrs");
    match cidrs.len() {
        0 => errors.push(FieldError::required(path, "at least one CIDR required")),
        1 | 2 => {
            let ranges: Vec<Option<IpNet>> = cidrs
                .iter()
                .enumerate()
                .map(|(i, cidr)| rules::range(&path.index(i), cidr, errors))
                .collect();
            if let [Some(first), Some(second)] = ranges[..]
                && Family::of(first.addr()) == Family::of(second.addr())
            {
                let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                errors.push(FieldError::invalid(path, cidrs, detail));
            }
        }
        _ => errors.push(FieldError::invalid(path, cidrs, "may only hold up to 2 values")),
    }
}

impl AddressRanges for ServiceCidrs {
    fn usual_name(&self) -> &'static str {
        "kubernetes"
    }

    fn usual(&self, ranges: &[IpNet]) -> Value {
        let cidrs: Vec<String> = ranges.iter().map(|range| range.trunc().to_string()).collect();
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": Self::INFO.kind,
            "metadata": { "name": self.usual_name() }, "spec": { "cidrs": cidrs },
        })
    }

    fn open(&self, object: &Value) -> Vec<IpNet> {
        let deleted = object["metadata"].get("deletionTimestamp").is_some_and(|time| !time.is_null());
        let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        // No condition is as good as a true one: its controller may not run.
        let unready = conditions.any(|c| c["type"] == "Ready" && c["status"] != "True");
        if deleted || unready {
            return Vec::new();
        }
        let cidrs = object["spec"]["cidrs"].as_array().into_iter().flatten();
        cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect()
    }
}
