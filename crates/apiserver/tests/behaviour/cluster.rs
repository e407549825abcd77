//! A server over a store in a directory of its own, and a client that speaks HTTP to its router without a socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use svcd_apiserver::{ApiServer, Config, User};
use svcd_pki::Ca;
use svcd_store::{Embedded, Options, Store};
use tower::ServiceExt as _;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    pub(crate) server: Arc<ApiServer>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ca: Arc<Ca>,
    pub(crate) admin: Client,
    _directory: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default(), Options::default()).await
    }

    pub(crate) async fn with(config: Config, options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(Embedded::open(directory.path().join("store"), options).unwrap());
        let ca = Arc::new(Ca::load_or_create(&directory.path().join("pki")).unwrap());
        let server = ApiServer::new(Arc::clone(&store), Arc::clone(&ca), config);
        server.bootstrap().await.unwrap();
        let admin = Client(server.in_process(User::master("admin")));
        Self { server, store, ca, admin, _directory: directory }
    }

    /// Somebody whose connection says nothing about them.
    pub(crate) fn anonymous(&self) -> Client {
        Client(self.server.in_process_anonymous())
    }

    pub(crate) fn client(&self, user: User) -> Client {
        Client(self.server.in_process(user))
    }
}

#[derive(Clone)]
pub(crate) struct Client(pub(crate) Router);

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {:?}", self.bytes))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// Checks that this is a Status with that code and reason; gives its message.
    #[track_caller]
    pub(crate) fn refused(self, code: u16, reason: &str) -> String {
        let value = self.expect(code);
        assert_eq!(value["kind"], "Status", "{value}");
        assert_eq!((&value["reason"], &value["code"]), (&json!(reason), &json!(code)), "{value}");
        assert_eq!(value["status"], "Failure");
        value["message"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.0.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes =
            tokio::time::timeout(PATIENCE, body.collect()).await.expect("the body ends").unwrap().to_bytes();
        Reply { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Reply {
        self.send(Method::GET, path, &[("accept", accept)], Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::PUT, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> Reply {
        let content_type = format!("application/{kind}-patch+json");
        self.send(Method::PATCH, path, &[("content-type", &content_type)], body.to_string()).await
    }

    pub(crate) async fn merge(&self, path: &str, body: &Value) -> Reply {
        self.patch(path, "merge", body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, &[], Body::empty()).await
    }

    pub(crate) async fn delete_with(&self, path: &str, options: &Value) -> Reply {
        self.send(Method::DELETE, path, &[("content-type", "application/json")], options.to_string()).await
    }

    pub(crate) async fn watch(&self, path: &str) -> Watcher {
        self.watch_as(path, "application/json").await
    }

    pub(crate) async fn watch_as(&self, path: &str, accept: &str) -> Watcher {
        let request = Request::builder().uri(path).header("accept", accept).body(Body::empty()).unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Watcher { body: response.into_body().into_data_stream(), buffer: Vec::new() }
    }
}

/// The events of a watch.
pub(crate) struct Watcher {
    body: axum::body::BodyDataStream,
    buffer: Vec<u8>,
}

impl Watcher {
    /// The next event; `None` when the watch has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            match tokio::time::timeout(PATIENCE, self.body.next()).await.expect("an event in time") {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.unwrap()),
                None => return None,
            }
        }
    }

    /// The next event as `TYPE name`.
    pub(crate) async fn brief(&mut self) -> String {
        let event = self.next().await.expect("one more event");
        format!(
            "{} {}",
            event["type"].as_str().unwrap(),
            event["object"]["metadata"]["name"].as_str().unwrap_or("-")
        )
    }

    /// Is there nothing to read right now?
    pub(crate) fn is_quiet(&mut self) -> bool {
        use futures::FutureExt as _;
        self.buffer.is_empty() && self.body.next().now_or_never().is_none()
    }
}

pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn service(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80 }] } })
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": "1" } })
}

pub(crate) fn pod(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "svcd.io/echo" }] } })
}

pub(crate) fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}
