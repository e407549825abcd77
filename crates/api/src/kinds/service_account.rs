//! ServiceAccounts: names that pods run under.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;

use crate::behavior::{Behavior, Warnings};
use crate::kind::{Column, KindInfo, Subresource};
use crate::table;

const MOUNTABLE_ONLY: &str = "kubernetes.io/enforce-mountable-secrets";

pub(crate) struct ServiceAccounts;

impl Behavior for ServiceAccounts {
    type Object = ServiceAccount;

    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        categories: &[],
        namespaced: true,
        subresources: &[Subresource::Token],
        create_on_update: false,
        unconditional_update: true,
    };
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[table::NAME, table::AGE];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] = &[("secrets", &["name"])];

    const WARNINGS: Option<Warnings<ServiceAccount>> = Some(|new, old| {
        let has = |account: &ServiceAccount| {
            account.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MOUNTABLE_ONLY))
        };
        let why = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
        let is_new = has(new) && !old.is_some_and(has);
        is_new.then(|| format!("metadata.annotations[{MOUNTABLE_ONLY}]: {why}")).into_iter().collect()
    });

    fn cells(account: &ServiceAccount, now: Timestamp) -> Vec<Value> {
        vec![table::name(&account.metadata), table::age(&account.metadata, now)]
    }
}
