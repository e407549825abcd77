//! Leases: heartbeats and leadership.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use crate::behavior::Behavior;
use crate::field::{FieldError, Path};
use crate::kind::{Column, KindInfo};
use crate::{rules, table};

pub(crate) struct Leases;

impl Behavior for Leases {
    type Object = Lease;

    const INFO: &'static KindInfo = &KindInfo {
        group: "coordination.k8s.io",
        version: "v1",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        create_on_update: true,
        unconditional_update: false,
    };
    const COLUMNS: &'static [Column] = &[
        table::NAME,
        table::text("Holder", "holderIdentity contains the identity of the holder of a current lease."),
        table::AGE,
    ];

    fn validate(lease: &Lease, errors: &mut Vec<FieldError>) {
        let Some(lease) = &lease.spec else { return };
        let spec = Path::new("spec");
        let duration = lease.lease_duration_seconds.map(i64::from);
        rules::positive(&spec.child("leaseDurationSeconds"), duration, errors);
        let transitions = lease.lease_transitions.map(i64::from);
        rules::not_negative(&spec.child("leaseTransitions"), transitions, errors);
    }

    fn cells(lease: &Lease, now: Timestamp) -> Vec<Value> {
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref()).unwrap_or_default();
        vec![table::name(&lease.metadata), json!(holder), table::age(&lease.metadata, now)]
    }
}
