//! The server and its one pipeline: route, authenticate, authorize, admit, act, answer. Every request ends in one place,
//! which gives it its headers, its metrics and its log line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use http::header::{CACHE_CONTROL, WARNING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use svcd_api::kind::Subresource;
use svcd_pki::Ca;
use svcd_store::Store;
use tokio_util::sync::CancellationToken;

use crate::authn::Peer;
use crate::authz::{Asked, Authorizer, Objects};
use crate::call::Call;
use crate::config::Config;
use crate::discovery::Discovery;
use crate::errors::Failure;
use crate::limits::{Class, InFlight, Permit};
use crate::metrics::{Metrics, Subject};
use crate::openapi::OpenApi;
use crate::query::Query;
use crate::represent::{json_response, value_response};
use crate::resources::Resources;
use crate::route::{self, Route, Target, Verb};
use crate::tokens::Tokens;
use crate::user::User;
use crate::watch::Frames;
use crate::{authz, body, negotiate, version};

/// Requests that take longer than this are logged as slow.
const SLOW: Duration = Duration::from_secs(1);
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// An API server over a store.
pub struct ApiServer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ca: Arc<Ca>,
    pub(crate) config: Config,
    pub(crate) resources: Resources,
    pub(crate) frames: Frames,
    pub(crate) metrics: Metrics,
    pub(crate) authorizer: Authorizer,
    pub(crate) tokens: Tokens,
    in_flight: InFlight,
    discovery: Discovery,
    openapi: OpenApi,
    draining: AtomicBool,
}

impl ApiServer {
    /// A server of all registered kinds.
    pub fn new(store: Arc<dyn Store>, ca: Arc<Ca>, config: Config) -> Arc<Self> {
        let resources = Resources::new(svcd_api::registry().all());
        Arc::new(Self {
            discovery: Discovery::new(&resources),
            openapi: OpenApi::default(),
            in_flight: InFlight::new(&config.limits),
            frames: Frames::new(),
            metrics: Metrics::new(),
            authorizer: Authorizer::new(),
            tokens: Tokens::default(),
            draining: AtomicBool::new(false),
            resources,
            store,
            ca,
            config,
        })
    }

    /// The server as a service of this process: no socket, no TLS, always this user.
    pub fn in_process(self: &Arc<Self>, user: User) -> Router {
        self.router(Peer { user: Some(user), in_process: true, closing: CancellationToken::new() })
    }

    /// As [`ApiServer::in_process`], for somebody of whom nothing is known: requests may still carry a token.
    pub fn in_process_anonymous(self: &Arc<Self>) -> Router {
        self.router(Peer { user: None, in_process: true, closing: CancellationToken::new() })
    }

    pub(crate) fn router(self: &Arc<Self>, peer: Peer) -> Router {
        Router::new().fallback(handle).layer(Extension(peer)).with_state(Arc::clone(self))
    }

    /// From now on the server says that it is not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    async fn dispatch(self: &Arc<Self>, parts: &Parts, body: Body, peer: &Peer, seen: &mut Seen) -> Answer {
        let query = Query::parse(parts.uri.query());
        let user = self.authenticate(peer, &parts.headers).await;
        let path = parts.uri.path();
        match route::parse(path, &self.resources) {
            // Open to everyone: they say nothing about the cluster.
            Route::Version => only_get(parts).map(|()| value_response(StatusCode::OK, &version::info())),
            Route::Health { endpoint, check } => {
                only_get(parts)?;
                self.health(endpoint, check.as_deref(), &query).await
            }
            Route::Object(target) => {
                let user = user?;
                self.object(parts, body, peer, (user, target), query, seen).await
            }
            route => {
                let verb = parts.method.as_str().to_ascii_lowercase();
                let user = self.acting(user?, &parts.headers, &Asked::Path { verb: &verb, path }).await?;
                seen.user.clone_from(&user.name);
                self.other(parts, body, &user, route).await
            }
        }
    }

    /// Everything that is not an object.
    async fn other(&self, parts: &Parts, body: Body, user: &User, route: Route) -> Answer {
        let headers = &parts.headers;
        let path = parts.uri.path();
        if matches!(route, Route::Join) {
            if parts.method != Method::POST {
                return Err(Failure::method_not_allowed());
            }
            authz::authorize_join(user, path)?;
            let _permit = self.admit(Class::Mutating, false)?;
            return self.join(headers, &self.read_body(parts, body).await?).await;
        }
        let verb = parts.method.as_str().to_ascii_lowercase();
        self.authorize_path(user, &verb, path).await?;
        if matches!(route, Route::Unknown) {
            return Err(Failure::no_such_path());
        }
        only_get(parts)?;
        match route {
            Route::Index => Ok(value_response(StatusCode::OK, &self.index())),
            Route::Metrics => {
                let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Ok(json_response(StatusCode::OK, content_type, self.metrics.text()))
            }
            Route::CoreVersions => self.discovery.core_versions(headers),
            Route::Groups => self.discovery.groups(headers),
            Route::Group(group) => self.discovery.group(&group, headers),
            Route::GroupVersion { group, version } => self.discovery.version(&group, &version, headers),
            Route::OpenApiIndex => Ok(self.openapi.index(&self.resources, headers)),
            Route::OpenApi(root) => OpenApi::version(&self.resources, &root, headers),
            Route::OpenApiV2 => Ok(OpenApi::v2(&self.resources, headers)),
            Route::Cluster => Ok(self.cluster()),
            Route::OpenIdConfiguration => Ok(self.openid_configuration()),
            Route::KeySet => self.key_set().await,
            _ => Err(Failure::no_such_path()),
        }
    }

    /// The paths that exist, for people who look at `/`.
    fn index(&self) -> serde_json::Value {
        let mut paths: Vec<String> =
            ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz"]
                .into_iter()
                .chain(["/svcd.io/v1/cluster", "/svcd.io/v1/join", "/version"])
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

    async fn object(
        self: &Arc<Self>,
        parts: &Parts,
        body: Body,
        peer: &Peer,
        (user, target): (User, Target),
        query: Query,
        seen: &mut Seen,
    ) -> Answer {
        let verb = Verb::of(&parts.method, &target, &query).ok_or_else(Failure::method_not_allowed)?;
        let asked = Asked::Objects(Objects::of(verb.name(), &target));
        let user = self.acting(user, &parts.headers, &asked).await?;
        seen.user.clone_from(&user.name);
        seen.subject = Subject::object(verb, &target);
        let guard = self.authorize(&user, verb, &target).await?;
        let form = negotiate::form(&parts.headers)?;
        let class = match verb {
            Verb::Watch => Class::Watch,
            verb if verb.mutates() => Class::Mutating,
            _ => Class::ReadOnly,
        };
        let permit = self.admit(class, peer.in_process)?;
        let call = Call::new(user, (verb, target), query, parts.headers.clone(), (form, guard));
        if let Some(text) = call.resource().kind.deprecation() {
            call.warn(text);
        }
        let answer = match verb {
            Verb::Watch => self.watch(&call, permit, peer.closing.clone()).await,
            _ => self.act(&call, parts, body).await,
        };
        let mut response = answer.unwrap_or_else(Failure::into_response);
        for text in call.take_warnings() {
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
                response.headers_mut().append(WARNING, value);
            }
        }
        Ok(response)
    }

    async fn act(&self, call: &Call, parts: &Parts, body: Body) -> Answer {
        let bytes =
            if call.verb.mutates() { self.read_body(parts, body).await? } else { bytes::Bytes::new() };
        match (call.verb, call.target.subresource) {
            (Verb::Get, Some(Subresource::Scale)) => self.get_scale(call).await,
            (Verb::Update, Some(Subresource::Scale)) => self.put_scale(call, &bytes).await,
            (Verb::Create, Some(Subresource::Binding)) => self.bind(call, &bytes).await,
            (Verb::Create, Some(Subresource::Token)) => self.request_token(call, &bytes).await,
            (Verb::Create, Some(Subresource::Eviction)) => self.evict(call, &bytes).await,
            (Verb::Get, _) => self.get(call).await,
            (Verb::List, _) => self.list(call).await,
            (Verb::Create, _) if call.resource().kind.is_virtual() => self.review(call, &bytes).await,
            (Verb::Create, _) => self.create(call, &bytes).await,
            (Verb::Update, _) => self.update(call, &bytes).await,
            (Verb::Patch, _) => self.patch(call, &bytes).await,
            (Verb::Delete, _) => self.delete(call, &bytes).await,
            (Verb::DeleteCollection, _) => self.delete_collection(call, &bytes).await,
            (Verb::Watch, _) => Err(Failure::method_not_allowed()),
        }
    }

    fn admit(&self, class: Class, exempt: bool) -> Result<Permit, Failure> {
        self.in_flight.enter(class, exempt, self.metrics.gauge(class))
    }

    async fn read_body(&self, parts: &Parts, body: Body) -> Result<bytes::Bytes, Failure> {
        let limits = &self.config.limits;
        body::read(body, &parts.headers, limits.body_bytes, limits.body_timeout).await
    }
}

type Answer = Result<Response<Body>, Failure>;

/// What the log and the metrics want to know of a request.
struct Seen {
    user: String,
    subject: Subject,
}

fn only_get(parts: &Parts) -> Result<(), Failure> {
    match parts.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Failure::method_not_allowed()),
    }
}

async fn handle(
    State(server): State<Arc<ApiServer>>,
    Extension(peer): Extension<Peer>,
    request: Request<Body>,
) -> Response<Body> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let mut seen = Seen { user: String::new(), subject: Subject::path(&parts.method) };
    let answer = server.dispatch(&parts, body, &peer, &mut seen).await;
    let failed = answer.as_ref().err().map(|failure| failure.message().to_owned());
    let mut response = answer.unwrap_or_else(Failure::into_response);
    let headers = response.headers_mut();
    let audit_id = uuid::Uuid::new_v4().to_string();
    headers.insert(AUDIT_ID, HeaderValue::from_str(&audit_id).expect("a UUID is a header value"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    let (took, code) = (started.elapsed(), response.status());
    server.metrics.answered(&seen.subject, code.as_u16(), took);
    log(&parts, &seen, (code, took), &audit_id, failed.as_deref());
    response
}

fn log(parts: &Parts, seen: &Seen, (code, took): (StatusCode, Duration), audit_id: &str, why: Option<&str>) {
    let (method, path, user) = (&parts.method, parts.uri.path(), seen.user.as_str());
    let (code, millis) = (code.as_u16(), took.as_millis());
    if code >= 500 || took > SLOW {
        tracing::info!(%method, path, user, code, millis, audit_id, why, "request");
    } else {
        tracing::debug!(%method, path, user, code, millis, audit_id, why, "request");
    }
}
