//! What a fuzzer does with an input: reads requests out of it, sends them to a server of this process, and holds every
//! answer against what must hold of any. Shared by the fuzz target and by the test that replays the corpus.
//!
//! An input is one or more requests, separated by lines of `%%`: a line `METHOD PATH`, header lines, an empty line, the
//! body. The header `as` says who sends it: `admin` (the default), `node` or `anonymous`. What is no request is left out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use svcd_apiserver::{ApiServer, Config, NODES, User};
use svcd_pki::Ca;
use svcd_store::{Embedded, Options, Store};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// A request that takes longer is given up: some wait for a revision that never comes, and watches do not end.
const PATIENCE: Duration = Duration::from_millis(100);
/// After so many inputs the server is a new one.
const LIFETIME: usize = 2000;

/// The first panic of any thread.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// A server, and what inputs are sent to it with.
pub(crate) struct Harness {
    runtime: Runtime,
    server: Option<Server>,
    inputs: usize,
}

struct Server {
    admin: Router,
    node: Router,
    anonymous: Router,
    _directory: tempfile::TempDir,
}

impl Default for Harness {
    fn default() -> Self {
        std::panic::set_hook(Box::new(|info| {
            let what = format!("{info}\n{}", std::backtrace::Backtrace::force_capture());
            PANIC.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(what);
        }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, server: None, inputs: 0 }
    }
}

impl Harness {
    /// Sends an input; what is wrong with the answers, or a panic anywhere, is the error.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn run(&mut self, input: &[u8]) -> Result<(), String> {
        if self.inputs.is_multiple_of(LIFETIME) {
            self.server = None;
        }
        self.inputs += 1;
        let server = self.server.get_or_insert_with(|| self.runtime.block_on(Server::new()));
        let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.runtime.block_on(async {
                for request in requests(input) {
                    server.send(request).await?;
                }
                Ok(())
            })
        }));
        if let Some(panic) = PANIC.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            return Err(panic);
        }
        sent.unwrap_or_else(|_| Err("a panic that nobody told of".to_owned()))
    }
}

impl Server {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store: Arc<dyn Store> =
            Arc::new(Embedded::open(directory.path().join("store"), Options::default()).expect("a store"));
        let ca = Arc::new(Ca::load_or_create(&directory.path().join("pki")).expect("an authority"));
        let server = ApiServer::new(store, ca, Config::default());
        server.bootstrap().await.expect("the first objects");
        Self {
            admin: server.in_process(User::master("admin")),
            node: server.in_process(User::new("system:node:n1", [NODES])),
            anonymous: server.in_process_anonymous(),
            _directory: directory,
        }
    }

    async fn send(&self, request: Request<Body>) -> Result<(), String> {
        let router = match request.headers().get("as").map(HeaderValue::as_bytes) {
            Some(b"node") => &self.node,
            Some(b"anonymous") => &self.anonymous,
            _ => &self.admin,
        };
        let shown = format!("{} {}", request.method(), request.uri());
        let Ok(answer) = tokio::time::timeout(PATIENCE, router.clone().oneshot(request)).await else {
            return Ok(());
        };
        let answer = answer.expect("a router does not fail");
        let status = answer.status();
        // Nothing that a client sends is a fault of the server's.
        let unavailable = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        if status.is_server_error() && !unavailable.contains(&status) {
            let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let text = String::from_utf8_lossy(&body);
            // Upstream answers 500 to an applied configuration that does not fit its type, and clients know it so.
            let is_upstreams = text.contains("failed to create typed patch object");
            return if is_upstreams { Ok(()) } else { Err(format!("{shown}: {status} {text}")) };
        }
        read(answer.into_body()).await.map_err(|why| format!("{shown}: {why}"))
    }
}

/// Reads a body to its end, or as long as it goes on.
async fn read(mut body: Body) -> Result<(), String> {
    while let Ok(Some(frame)) = tokio::time::timeout(PATIENCE / 10, body.frame()).await {
        frame.map_err(|error| format!("the answer broke off: {error}"))?;
    }
    Ok(())
}

/// The requests in an input.
fn requests(input: &[u8]) -> Vec<Request<Body>> {
    let mut rest = input;
    let mut requests = Vec::new();
    while !rest.is_empty() && requests.len() < 8 {
        let end = rest.windows(4).position(|window| window == b"\n%%\n");
        requests.extend(request(&rest[..end.unwrap_or(rest.len())]));
        rest = end.map_or(&[], |end| &rest[end + 4..]);
    }
    requests
}

fn request(text: &[u8]) -> Option<Request<Body>> {
    let end = text.windows(2).position(|window| window == b"\n\n").unwrap_or(text.len());
    let body = text.get(end + 2..).unwrap_or_default();
    let mut lines = text[..end].split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::new(Body::from(body.to_vec()));
    *request.method_mut() = Method::from_bytes(first.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(first.next()?).ok()?;
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let name = HeaderName::from_bytes(name.trim_ascii());
        let value = HeaderValue::from_bytes(value.trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            request.headers_mut().append(name, value);
        }
    }
    Some(request)
}
