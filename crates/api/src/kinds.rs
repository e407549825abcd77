//! One file a kind, and one for all kinds that are only questions.

pub(crate) mod cluster_role;
pub(crate) mod cluster_role_binding;
pub(crate) mod config_map;
pub(crate) mod controller_revision;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
pub(crate) mod endpoint_slice;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod lease;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod pod_disruption_budget;
pub(crate) mod rbac;
pub(crate) mod replica_set;
pub(crate) mod replication_controller;
pub(crate) mod review;
pub(crate) mod role;
pub(crate) mod role_binding;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_account;
pub(crate) mod stateful_set;
