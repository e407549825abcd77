//! The API server: HTTP in front of the store. One pipeline for every kind (route, authenticate, authorize, limit, act,
//! answer); everything that is different for one kind stands behind `svcd_api::kind::Kind`.
//!
//! Promises: an answered write is durable; a list is one revision; a watch has neither gaps nor repeats; no lock is held
//! while a client is waited for.
//! Refuses: to know a kind by name (the few exceptions are rules of the cluster: join tokens, leases, what an agent may
//! do), and to keep state of its own that the store does not have.

mod admission;
mod allocate;
mod apply;
mod audit;
mod authn;
mod authz;
mod body;
mod call;
mod compress;
mod config;
mod create;
mod deadlines;
mod delete;
mod discovery;
mod document;
mod errors;
mod eviction;
mod fairness;
mod filter;
mod health;
mod impersonate;
mod join;
mod json;
mod limits;
mod managed;
mod metadata;
mod metrics;
mod namespaces;
mod negotiate;
mod openapi;
mod openapi_v2;
mod patch;
mod pipeline;
mod query;
mod quota;
mod read;
mod record;
mod represent;
mod request_timeout;
mod resources;
mod reviews;
mod route;
mod seen;
mod sending;
mod serve;
mod server;
mod snapshot;
mod subresource;
mod tokens;
mod update;
mod user;
mod version;
mod watch;
mod write;

pub use audit::{AuditLevel, AuditLog, AuditTarget};
pub use config::Config;
pub use limits::Limits;
pub use serve::ServeError;
pub use server::ApiServer;
pub use snapshot::is_object;
pub use user::{
    ANONYMOUS, AUTHENTICATED, BOOTSTRAPPERS, MASTERS, NODES, SERVICE_ACCOUNTS, UNAUTHENTICATED, User,
};
pub use version::GIT_VERSION;
