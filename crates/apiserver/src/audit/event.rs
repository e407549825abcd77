//! One line of the log, from what was noted of a request.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use svcd_api::kind::Subresource;

use super::AuditLevel;
use crate::authn::Peer;
use crate::body;
use crate::reviews::user_info;
use crate::route::{Target, subresource_name};
use crate::user::User;

const STARTED: &str = "ResponseStarted";
const COMPLETE: &str = "ResponseComplete";
/// Larger bodies are left out, as upstream's log leaves them out of events that it truncates.
pub(super) const LARGEST_BODY: usize = 100 * 1024;
const LONGEST_USER_AGENT: usize = 1024;

/// The most that is told of these objects: never what is in a Secret or a token.
pub(super) fn highest(target: &Target) -> AuditLevel {
    let info = target.resource.info;
    let secret =
        matches!((info.group, info.plural), ("", "secrets") | ("authentication.k8s.io", "tokenreviews"));
    if secret || target.subresource == Some(Subresource::Token) {
        AuditLevel::Metadata
    } else {
        AuditLevel::RequestResponse
    }
}

/// What a request was about.
#[derive(Clone)]
pub(super) struct ObjectRef {
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    namespace: String,
    name: String,
}

impl ObjectRef {
    pub(super) fn of(target: &Target) -> Self {
        let info = target.resource.info;
        Self {
            group: info.group,
            version: info.version,
            resource: info.plural,
            subresource: target.subresource.map_or("", subresource_name),
            namespace: target.namespace().to_owned(),
            name: target.concerned_name().to_owned(),
        }
    }

    /// `sent` is the object in the request, which knows its name when the path does not.
    fn to_value(&self, sent: Option<&Value>) -> Value {
        let of_sent = |field: &str| sent.and_then(|s| s["metadata"][field].as_str()).unwrap_or_default();
        let name = if self.name.is_empty() { of_sent("name") } else { &self.name };
        let parts = [
            ("resource", self.resource),
            ("namespace", &self.namespace),
            ("name", name),
            ("uid", of_sent("uid")),
            ("apiGroup", self.group),
            ("apiVersion", self.version),
            ("resourceVersion", of_sent("resourceVersion")),
            ("subresource", self.subresource),
        ];
        let told = parts.into_iter().filter(|(_, text)| !text.is_empty());
        told.map(|(key, text)| (key.to_owned(), Value::from(text))).collect::<Map<_, _>>().into()
    }
}

/// A request's body.
#[derive(Clone)]
pub(super) struct Sent {
    content_type: Option<HeaderValue>,
    body: Bytes,
}

impl Sent {
    pub(super) fn new(headers: &HeaderMap, body: &Bytes) -> Self {
        Self { content_type: headers.get(CONTENT_TYPE).cloned(), body: body.clone() }
    }

    /// The object in it, from JSON, YAML or protobuf; patches are JSON or YAML too.
    fn to_value(&self) -> Option<Value> {
        let mut headers = HeaderMap::new();
        headers.extend(self.content_type.clone().map(|value| (CONTENT_TYPE, value)));
        let parsed = match body::media_type(&headers).as_str() {
            "application/apply-patch+yaml" => body::parse_yaml(&self.body),
            media_type if media_type.ends_with("patch+json") => body::parse_json(&self.body),
            _ => body::parse_object(&headers, &self.body),
        };
        parsed.ok().map(|parsed| parsed.value)
    }
}

/// What is known of a request.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) level: AuditLevel,
    id: String,
    stage: &'static str,
    uri: String,
    pub(super) verb: Cow<'static, str>,
    pub(super) user: Option<User>,
    pub(super) impersonated: Option<User>,
    source_ips: Vec<IpAddr>,
    user_agent: String,
    pub(super) object: Option<ObjectRef>,
    pub(super) decision: Option<(bool, String)>,
    pub(super) code: Option<u16>,
    /// The Status of a refusal.
    pub(super) refusal: Option<Value>,
    pub(super) request: Option<Sent>,
    pub(super) response: Option<Bytes>,
    /// Is something left out for its size?
    pub(super) truncated: bool,
    received: Timestamp,
    pub(super) staged: Timestamp,
}

impl Entry {
    pub(super) fn new(level: AuditLevel, parts: &Parts, peer: &Peer, id: &str) -> Self {
        let now = Timestamp::now();
        Self {
            level,
            id: id.to_owned(),
            stage: COMPLETE,
            uri: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            verb: parts.method.as_str().to_ascii_lowercase().into(),
            user: None,
            impersonated: None,
            source_ips: source_ips(&parts.headers, peer),
            user_agent: user_agent(&parts.headers),
            object: None,
            decision: None,
            code: None,
            refusal: None,
            request: None,
            response: None,
            truncated: false,
            received: now,
            staged: now,
        }
    }

    /// The event of a watch that has begun.
    pub(super) fn started(&self) -> Self {
        Self { stage: STARTED, staged: Timestamp::now(), ..self.clone() }
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        let bodies = self.request.as_ref().map_or(0, |sent| sent.body.len())
            + self.response.as_ref().map_or(0, Bytes::len);
        1024 + self.uri.len() + self.user_agent.len() + bodies
    }

    /// The event. The keys are in upstream's order.
    pub(super) fn to_value(&self) -> Value {
        let is_named = self.object.as_ref().is_none_or(|object| !object.name.is_empty());
        let wanted = self.level >= AuditLevel::Request || !is_named;
        let sent = self.request.as_ref().filter(|_| wanted).and_then(Sent::to_value);
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": self.level.name(), "auditID": self.id,
            "stage": self.stage, "requestURI": self.uri, "verb": self.verb,
            "user": self.user.as_ref().map_or_else(|| json!({}), user_info),
        });
        if let Some(user) = &self.impersonated {
            event["impersonatedUser"] = user_info(user);
        }
        event["sourceIPs"] = self.source_ips.iter().map(ToString::to_string).collect();
        if !self.user_agent.is_empty() {
            event["userAgent"] = self.user_agent.as_str().into();
        }
        if let Some(object) = &self.object {
            let is_object = sent.as_ref().filter(|_| !matches!(&*self.verb, "patch" | "delete"));
            event["objectRef"] = object.to_value(is_object);
        }
        event["responseStatus"] = self.status();
        let truncated = self.add_bodies(&mut event, sent);
        event["requestReceivedTimestamp"] = micros(self.received).into();
        event["stageTimestamp"] = micros(self.staged).into();
        event["annotations"] = self.annotations(truncated);
        event.as_object_mut().expect("an event is an object").retain(|_, value| !value.is_null());
        event
    }

    fn status(&self) -> Value {
        let Some(code) = self.code else { return Value::Null };
        let Some(refusal) = &self.refusal else { return json!({ "metadata": {}, "code": code }) };
        let mut status = refusal.clone();
        if let Some(status) = status.as_object_mut() {
            status.retain(|key, _| !matches!(key.as_str(), "kind" | "apiVersion"));
        }
        status
    }

    /// Adds what was sent and answered, as far as the level and their sizes allow; says whether something was too large.
    fn add_bodies(&self, event: &mut Value, sent: Option<Value>) -> bool {
        let mut truncated = self.truncated;
        if self.level < AuditLevel::Request || self.object.is_none() {
            return false;
        }
        if self.request.as_ref().is_some_and(|sent| sent.body.len() > LARGEST_BODY) {
            truncated = true;
        } else if let Some(sent) = sent {
            event["requestObject"] = sent;
        }
        if let Some(answer) = self.response.as_ref().and_then(|body| serde_json::from_slice(body).ok()) {
            event["responseObject"] = answer;
        }
        truncated
    }

    fn annotations(&self, truncated: bool) -> Value {
        let mut annotations = Map::new();
        if let Some((allowed, reason)) = &self.decision {
            let decision = if *allowed { "allow" } else { "forbid" };
            annotations.insert("authorization.k8s.io/decision".to_owned(), decision.into());
            annotations.insert("authorization.k8s.io/reason".to_owned(), reason.as_str().into());
        }
        if truncated {
            annotations.insert("audit.k8s.io/truncated".to_owned(), "true".into());
        }
        if annotations.is_empty() { Value::Null } else { annotations.into() }
    }
}

/// As upstream writes a MicroTime.
fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// Where a request says it is from, and where it is from; proxies on the way may add themselves.
fn source_ips(headers: &HeaderMap, peer: &Peer) -> Vec<IpAddr> {
    let texts = |name: &str| headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    let forwarded = texts("x-forwarded-for").flat_map(|v| v.split(','));
    let mut ips: Vec<IpAddr> = Vec::new();
    let said = forwarded.chain(texts("x-real-ip")).filter_map(|text| text.trim().parse().ok());
    for ip in said.chain(peer.address.map(|address| address.ip().to_canonical())) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips
}

fn user_agent(headers: &HeaderMap) -> String {
    let text = headers.get(USER_AGENT).map(|v| String::from_utf8_lossy(v.as_bytes())).unwrap_or_default();
    match text.char_indices().nth(LONGEST_USER_AGENT) {
        Some((end, _)) => format!("{}...TRUNCATED", &text[..end]),
        None => text.into_owned(),
    }
}
