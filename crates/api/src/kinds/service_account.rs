//! ServiceAccounts: names that pods run under.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;

use crate::behavior::Behavior;
use crate::kind::{Column, KindInfo, Subresource};
use crate::table;

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
    const COLUMNS: &'static [Column] = &[table::NAME, table::AGE];
    const MERGE_KEYS: &'static [(&'static str, &'static [&'static str])] = &[("secrets", &["name"])];

    fn cells(account: &ServiceAccount, now: Timestamp) -> Vec<Value> {
        vec![table::name(&account.metadata), table::age(&account.metadata, now)]
    }
}
