//! The server: what it holds, how it is reached from within this process, and what it says of itself. What happens to a
//! request is in `pipeline`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use svcd_api::addresses::Cluster;
use svcd_pki::Ca;
use svcd_store::Store;

use crate::admission::Admission;
use crate::authn::Peer;
use crate::authz::Authorizer;
use crate::config::Config;
use crate::discovery::Discovery;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::resources::Resources;
use crate::tokens::Tokens;
use crate::user::User;
use crate::watch::Runs;

/// An API server over a store.
pub struct ApiServer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ca: Arc<Ca>,
    pub(crate) config: Config,
    /// What kinds must know of the configuration.
    pub(crate) cluster_facts: Cluster,
    pub(crate) resources: Resources,
    pub(crate) runs: Runs,
    pub(crate) metrics: Metrics,
    pub(crate) authorizer: Authorizer,
    pub(crate) tokens: Tokens,
    pub(crate) admission: Admission,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    draining: AtomicBool,
}

impl ApiServer {
    /// A server of all registered kinds.
    pub fn new(store: Arc<dyn Store>, ca: Arc<Ca>, config: Config) -> Arc<Self> {
        let resources = Resources::new(svcd_api::registry().all());
        let admission = Admission::new(&config.limits);
        let mut metrics = Metrics::new();
        admission.fairness.metrics().register(metrics.registry());
        if let Some(audit) = &config.audit {
            audit.register(metrics.registry());
        }
        Arc::new(Self {
            discovery: Discovery::new(&resources),
            openapi: OpenApi::default(),
            admission,
            runs: Runs::new(),
            metrics,
            authorizer: Authorizer::new(),
            tokens: Tokens::default(),
            draining: AtomicBool::new(false),
            cluster_facts: Cluster::new(&config.service_cidrs),
            resources,
            store,
            ca,
            config,
        })
    }

    /// The server as a service of this process: no socket, no TLS, always this user.
    pub fn in_process(self: &Arc<Self>, user: User) -> Router {
        self.router(Peer::in_process(Some(user)))
    }

    /// As [`ApiServer::in_process`], for somebody of whom nothing is known: requests may still carry a token.
    pub fn in_process_anonymous(self: &Arc<Self>) -> Router {
        self.router(Peer::in_process(None))
    }

    fn router(self: &Arc<Self>, peer: Peer) -> Router {
        Router::new().fallback(handle).layer(Extension(Arc::new(peer))).with_state(Arc::clone(self))
    }

    /// From now on the server says that it is not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The paths that exist, for people who look at `/`.
    pub(crate) fn index(&self) -> serde_json::Value {
        let mut paths: Vec<String> =
            ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz"]
                .into_iter()
                .chain(["/svcd.io/v1/cluster", "/svcd.io/v1/join", "/svcd.io/v1/snapshot", "/version"])
                .map(str::to_owned)
                .collect();
        for (group, versions) in self.resources.groups() {
            if group.is_empty() {
                paths.extend(versions.iter().map(|version| format!("/api/{version}")));
            } else {
                paths.push(format!("/apis/{group}"));
                paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
            }
        }
        paths.sort();
        serde_json::json!({ "paths": paths })
    }
}

/// What the router of this process calls.
async fn handle(
    State(server): State<Arc<ApiServer>>,
    Extension(peer): Extension<Arc<Peer>>,
    request: Request,
) -> Response<Body> {
    server.respond(&peer, request).await
}
