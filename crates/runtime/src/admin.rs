//! The plain HTTP port of a role: `/healthz`, `/livez`, `/readyz`, `/metrics`, `/configz`.
//!
//! Binding and serving are apart, so that a busy port is known before anything else starts. Nothing here can be written to.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Answer, Error, Readiness, answer_at};

/// The process's metrics. Clones share the registry.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Lets a subsystem register what it counts.
    pub fn register<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner));
        text
    }
}

/// The health port, bound and not yet serving.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    readiness: Readiness,
    metrics: Metrics,
    config_json: String,
}

impl Admin {
    /// Binds the port. `config_json` is what `/configz` shows; it must hold no secrets.
    pub async fn bind(
        address: SocketAddr,
        readiness: Readiness,
        metrics: Metrics,
        config_json: String,
    ) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
        Ok(Self { listener, state: Arc::new(State { readiness, metrics, config_json }) })
    }

    /// Where it listens (the number that port 0 became).
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the order to stop.
    pub async fn serve(self, shutdown: CancellationToken) {
        let state = self.state;
        let answers: Answer = Arc::new(move |method, path| answer(&state, method, path));
        answer_at(self.listener, answers, shutdown).await;
    }
}

fn answer(state: &State, method: &Method, path: &str) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if method != Method::GET && method != Method::HEAD {
        return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET here\n".to_owned());
    }
    match path {
        "/healthz" | "/livez" => respond(StatusCode::OK, TEXT, "ok".to_owned()),
        "/readyz" => {
            let (status, text) = readyz(&state.readiness.pending());
            respond(status, TEXT, text)
        }
        "/metrics" => respond(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            state.metrics.encode(),
        ),
        "/configz" => respond(StatusCode::OK, "application/json", state.config_json.clone()),
        _ => respond(
            StatusCode::NOT_FOUND,
            TEXT,
            "here are /healthz /livez /readyz /metrics /configz\n".to_owned(),
        ),
    }
}

/// The words are those of upstream's `/readyz?verbose`, for people and scripts that read them.
fn readyz(pending: &[String]) -> (StatusCode, String) {
    if pending.is_empty() {
        return (StatusCode::OK, "ok".to_owned());
    }
    let mut text = String::new();
    for name in pending {
        let _ = writeln!(text, "[-]{name} not ready");
    }
    text.push_str("readyz check failed\n");
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

fn respond(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    async fn bind(readiness: &Readiness, metrics: &Metrics) -> Admin {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Admin::bind(any, readiness.clone(), metrics.clone(), "{\"a\":1}".to_owned()).await.unwrap()
    }

    #[tokio::test]
    async fn answers() {
        let (readiness, metrics) = (Readiness::default(), Metrics::default());
        let counter = Counter::<u64>::default();
        metrics.register(|registry| registry.register("sheep", "Counted", counter.clone()));
        counter.inc();
        let guard = readiness.guard("proxy");
        let admin = bind(&readiness, &metrics).await;
        let address = admin.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(admin.serve(shutdown.clone()));

        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let waiting = get(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("[-]proxy not ready"), "{waiting}");
        drop(guard);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("sheep_total 1"));
        assert!(get(address, "/configz").await.ends_with("{\"a\":1}"));
        assert!(get(address, "/other").await.starts_with("HTTP/1.1 404"));
        shutdown.cancel();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_busy_port_says_what_to_do() {
        let (readiness, metrics) = (Readiness::default(), Metrics::default());
        let first = bind(&readiness, &metrics).await;
        let address = first.local_addr().unwrap();
        let error = Admin::bind(address, readiness, metrics, String::new()).await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("another process"), "{error}");
    }
}
