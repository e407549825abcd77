//! The one way of every request: route, authenticate, authorize, receive, admit, act, answer. Every request ends in one
//! place, which gives it its headers, its metrics, its log line and its line in the audit log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, WARNING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use svcd_api::kind::Subresource;

use crate::admission::AnswerPermit;
use crate::authn::Peer;
use crate::authz::{Asked, Objects};
use crate::call::Call;
use crate::errors::{Failure, Refusal};
use crate::filter::selected_name;
use crate::limits::Class;
use crate::openapi::OpenApi;
use crate::query::Query;
use crate::represent::{json_response, value_response};
use crate::resources::Resources;
use crate::route::{self, Route, Target, Verb};
use crate::seen::Seen;
use crate::server::ApiServer;
use crate::user::User;
use crate::{audit, authz, compress, negotiate, request_timeout, sending, version};

/// Requests that take longer than this are logged as slow.
const SLOW: Duration = Duration::from_secs(1);
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const LONGEST_AUDIT_ID: usize = 256;

type Answer = Result<Response<Body>, Failure>;

/// What a request came with.
struct Asking<'a> {
    parts: &'a Parts,
    peer: &'a Peer,
    query: Query,
}

impl ApiServer {
    /// Answers a request of a peer.
    pub(crate) async fn respond(self: &Arc<Self>, peer: &Peer, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let end = End { started: Instant::now(), audit_id: audit_id(&parts.headers) };
        let id = end.audit_id.to_str().expect("checked when it was taken");
        let audit = self.config.audit.as_ref().map(|log| log.begin(&parts, peer, id));
        let mut seen = Seen::new(&parts, audit);
        let answer = self.dispatch(&parts, body, peer, &mut seen).await;
        self.finish(&parts, answer, seen, end).await
    }

    async fn dispatch(self: &Arc<Self>, parts: &Parts, body: Body, peer: &Peer, seen: &mut Seen) -> Answer {
        let query = Query::parse(parts.uri.query());
        let user = self.authenticate(peer, &parts.headers).await;
        if let Ok(user) = &user {
            seen.sender(user);
        }
        let asking = Asking { parts, peer, query };
        match route::parse(parts.uri.path(), &self.resources) {
            // Open to everyone: they say nothing about the cluster.
            Route::Version => only_get(parts).map(|()| value_response(StatusCode::OK, &version::info())),
            Route::Health { endpoint, check } => {
                only_get(parts)?;
                self.health(endpoint, check.as_deref(), &asking.query).await
            }
            Route::Object(target) => self.object(asking, body, (user?, target), seen).await,
            route => {
                let limit = request_timeout::of(&asking.query)?;
                request_timeout::within(limit, self.other(asking, body, user?, route, seen)).await
            }
        }
    }

    /// Everything that is not an object.
    async fn other(
        &self,
        asking: Asking<'_>,
        body: Body,
        user: User,
        route: Route,
        seen: &mut Seen,
    ) -> Answer {
        let Asking { parts, peer, .. } = asking;
        let (headers, path) = (&parts.headers, parts.uri.path());
        let verb = parts.method.as_str().to_ascii_lowercase();
        let user = self.acting(user, headers, &Asked::Path { verb: &verb, path }).await?;
        seen.acting(&user);
        if matches!(route, Route::Join) {
            if parts.method != Method::POST {
                return Err(Failure::method_not_allowed());
            }
            authz::authorize_join(&user, path).inspect_err(|_| seen.refused())?;
            seen.allowed(None);
            let (bytes, _upload) = self.receive(parts, body, peer, &user).await?;
            let _admitted = self.admit(peer, &user, None, Class::Mutating).await?;
            return self.join(&user, headers, &bytes).await;
        }
        let grounds = self.authorize_path(&user, &verb, path).await.inspect_err(|_| seen.refused())?;
        seen.allowed(grounds.as_ref());
        if matches!(route, Route::Snapshot) {
            authz::authorize_snapshot(&user, path).inspect_err(|_| seen.refused())?;
        }
        if matches!(route, Route::Unknown) {
            return Err(self.unknown(path));
        }
        only_get(parts)?;
        let _admitted = self.admit(peer, &user, None, Class::ReadOnly).await?;
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
            Route::Snapshot => self.snapshot().await,
            Route::OpenIdConfiguration => Ok(self.openid_configuration()),
            Route::KeySet => self.key_set().await,
            _ => Err(Failure::no_such_path()),
        }
    }

    /// Why there is nothing at a path.
    fn unknown(&self, path: &str) -> Failure {
        if let Some(what) = Resources::asked_of_a_node(path) {
            return Failure::pods_cannot(what);
        }
        // Of what is below a served version upstream answers another 404 than of the rest.
        if self.resources.is_below_a_version(path) {
            Failure::no_such_resource()
        } else {
            Failure::no_such_path()
        }
    }

    async fn object(
        self: &Arc<Self>,
        asking: Asking<'_>,
        body: Body,
        (user, mut target): (User, Target),
        seen: &mut Seen,
    ) -> Answer {
        let Asking { parts, peer, query } = asking;
        let verb = Verb::of(&parts.method, &target, &query).ok_or_else(Failure::method_not_allowed)?;
        if target.name.is_none() && matches!(verb, Verb::List | Verb::Watch) {
            target.selected = query.get("fieldSelector").and_then(selected_name);
        }
        seen.object(verb, &target);
        let asked = Asked::Objects(Objects::of(verb.name(), &target));
        let user = self.acting(user, &parts.headers, &asked).await?;
        seen.acting(&user);
        let (guard, grounds) = self.authorize(&user, verb, &target).await.inspect_err(|_| seen.refused())?;
        seen.allowed(grounds.as_ref());
        let form = negotiate::form(&parts.headers)?;
        let limit = if verb == Verb::Watch { request_timeout::LONGEST } else { request_timeout::of(&query)? };
        let call = Call::new(user, (verb, target), query, parts.headers.clone(), (form, guard));
        if let Some(text) = call.resource().kind.deprecation() {
            call.warn(text);
        }
        let work = async {
            match verb {
                Verb::Watch => self.begin_watch(&call, peer).await,
                _ => self.work(&call, parts, body, peer, seen).await,
            }
        };
        let mut response = request_timeout::within(limit, work).await.unwrap_or_else(Failure::into_response);
        add_warnings(&call, response.headers_mut());
        Ok(response)
    }

    async fn begin_watch(self: &Arc<Self>, call: &Call, peer: &Peer) -> Answer {
        let permit = self.admit_watch(peer, &call.user)?;
        let objects = Objects::of(call.verb.name(), &call.target);
        let _admitted = self.admit(peer, &call.user, Some(&objects), Class::ReadOnly).await?;
        self.watch(call, permit, peer.closing.clone()).await
    }

    /// Receives, waits for a seat, acts.
    async fn work(&self, call: &Call, parts: &Parts, body: Body, peer: &Peer, seen: &mut Seen) -> Answer {
        let mutates = call.verb.mutates();
        let (bytes, _upload) = if mutates {
            let (bytes, upload) = self.receive(parts, body, peer, &call.user).await?;
            seen.body(parts, &bytes);
            (bytes, upload)
        } else {
            (Bytes::new(), None)
        };
        let class = if mutates { Class::Mutating } else { Class::ReadOnly };
        let objects = Objects::of(call.verb.name(), &call.target);
        let _admitted = self.admit(peer, &call.user, Some(&objects), class).await?;
        let mut response = self.act(call, &bytes).await?;
        if sending::is_long(response.body())
            && let Some(permit) = self.admit_answer(peer, &call.user)?
        {
            response.extensions_mut().insert(LongAnswer(Arc::new(permit)));
        }
        Ok(response)
    }

    async fn act(&self, call: &Call, bytes: &Bytes) -> Answer {
        match (call.verb, call.target.subresource) {
            (Verb::Get, Some(Subresource::Scale)) => self.get_scale(call).await,
            (Verb::Update, Some(Subresource::Scale)) => self.put_scale(call, bytes).await,
            (Verb::Create, Some(Subresource::Binding)) => self.bind(call, bytes).await,
            (Verb::Create, Some(Subresource::Token)) => self.request_token(call, bytes).await,
            (Verb::Create, Some(Subresource::Eviction)) => self.evict(call, bytes).await,
            (Verb::Get, _) => self.get(call).await,
            (Verb::List, _) => self.list(call).await,
            (Verb::Create, _) if call.resource().kind.is_virtual() => self.review(call, bytes).await,
            (Verb::Create, _) => self.create(call, bytes).await,
            (Verb::Update, _) => self.update(call, bytes).await,
            (Verb::Patch, _) => self.patch(call, bytes).await,
            (Verb::Delete, _) => self.delete(call, bytes).await,
            (Verb::DeleteCollection, _) => self.delete_collection(call, bytes).await,
            (Verb::Watch, _) => Err(Failure::method_not_allowed()),
        }
    }

    /// Ends a request: the same for all, whatever it was and whatever came of it.
    async fn finish(&self, parts: &Parts, answer: Answer, mut seen: Seen, end: End) -> Response<Body> {
        let mut response = answer.unwrap_or_else(Failure::into_response);
        let refusal = response.extensions_mut().remove::<Refusal>();
        let headers = response.headers_mut();
        headers.insert(AUDIT_ID, end.audit_id.clone());
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        let (took, code) = (end.started.elapsed(), response.status());
        self.metrics.answered(&seen.subject, code.as_u16(), took);
        log(parts, &seen, (code, took), &end.audit_id, refusal.as_ref().and_then(Refusal::message));
        seen.answered(code.as_u16(), refusal.map(|refusal| refusal.0));
        let begins_watch = seen.is_watch && code == StatusCode::OK;
        if let Some(record) = seen.audit.take() {
            if begins_watch {
                record.started();
            }
            response = audit::tap(response, record);
        }
        if parts.method == Method::HEAD {
            return without_body(response);
        }
        if !begins_watch && compress::is_accepted(&parts.headers) {
            response = compress::gzip(response).await;
        }
        match response.extensions_mut().remove::<LongAnswer>() {
            Some(permit) => {
                let deadline = tokio::time::Instant::from_std(end.started + request_timeout::LONGEST);
                response.map(|body| sending::until(body, deadline, permit))
            }
            None => response,
        }
    }
}

/// Held until a long answer has been sent.
#[derive(Clone)]
struct LongAnswer(#[expect(dead_code, reason = "held, not read")] Arc<AnswerPermit>);

/// What the end of a request needs to know of its beginning.
struct End {
    started: Instant,
    audit_id: HeaderValue,
}

fn only_get(parts: &Parts) -> Result<(), Failure> {
    match parts.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Failure::method_not_allowed()),
    }
}

/// The answer to a HEAD: it says how long the body would be.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response.map(|_| Body::empty())
}

fn add_warnings(call: &Call, headers: &mut HeaderMap) {
    for text in call.take_warnings() {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            headers.append(WARNING, value);
        }
    }
}

/// The client's own, if it has one: so that a request can be followed through all that it passes.
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(AUDIT_ID).filter(|id| (1..=LONGEST_AUDIT_ID).contains(&id.len()));
    given.filter(|id| id.to_str().is_ok()).cloned().unwrap_or_else(|| {
        let id = uuid::Uuid::new_v4().to_string();
        HeaderValue::from_str(&id).expect("a UUID is a header value")
    })
}

fn log(
    parts: &Parts,
    seen: &Seen,
    (code, took): (StatusCode, Duration),
    audit_id: &HeaderValue,
    why: Option<&str>,
) {
    let (method, path, user) = (&parts.method, parts.uri.path(), seen.user.as_str());
    let (code, millis) = (code.as_u16(), took.as_millis());
    if code >= 500 || took > SLOW {
        tracing::info!(%method, path, user, code, millis, ?audit_id, why, "request");
    } else {
        tracing::debug!(%method, path, user, code, millis, ?audit_id, why, "request");
    }
}
