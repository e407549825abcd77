//! Where load balancers ask whether this node serves a Service (`healthCheckNodePort`): a port for each such Service, with
//! kube-proxy's answers: 200 while a ready endpoint is here and the proxy keeps up with changes, 503 otherwise.
//!
//! Promises: ports follow the Services; one that cannot be had is told once, as an Event, and tried again until it can.

mod refusals;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use svcd_runtime::{Answer, answer_at};
use svcd_svcmap::{HealthCheck, ServiceName, Update};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::refusals::Refusals;
use crate::services::Forwarder;

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// Whether rules in the kernel are in step with the Services.
pub(crate) type ProxyIsHealthy = Arc<dyn Fn() -> bool + Send + Sync>;
/// Where it is told that a port cannot be had.
pub(crate) type Report = Arc<dyn Fn(&ServiceName, String) + Send + Sync>;

/// Where changes of Services are handed over.
pub(crate) struct Inlet(mpsc::UnboundedSender<Update>);

impl Forwarder for Inlet {
    fn apply(&self, update: Update) {
        // The other end is gone only when the agent ends.
        let _ = self.0.send(update);
    }
}

/// All health-check ports of this node.
pub(crate) struct HealthChecks {
    node: String,
    proxy: ProxyIsHealthy,
    report: Report,
    wanted: BTreeMap<ServiceName, HealthCheck>,
    open: BTreeMap<ServiceName, Open>,
    refused: Refusals,
    inlet: mpsc::UnboundedReceiver<Update>,
}

/// A port that answers.
struct Open {
    port: u16,
    local: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
    _stop: DropGuard,
}

impl HealthChecks {
    pub(crate) fn new(node: impl Into<String>, proxy: ProxyIsHealthy, report: Report) -> (Self, Inlet) {
        let (sender, inlet) = mpsc::unbounded_channel();
        let checks = Self {
            node: node.into(),
            proxy,
            report,
            wanted: BTreeMap::new(),
            open: BTreeMap::new(),
            refused: Refusals::default(),
            inlet,
        };
        (checks, Inlet(sender))
    }

    /// Runs until the other end of the inlet is gone.
    pub(crate) async fn run(mut self) {
        loop {
            self.settle().await;
            let due = self.refused.next();
            tokio::select! {
                update = self.inlet.recv() => match update {
                    Some(update) => self.take(&update),
                    None => return,
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn take(&mut self, update: &Update) {
        match update {
            Update::Reset(entries) => {
                let check = |entry: &Arc<svcd_svcmap::Entry>| {
                    Some((entry.service.name.clone(), entry.health_check(&self.node)?))
                };
                self.wanted = entries.iter().filter_map(check).collect();
            }
            Update::Changed(changed) => {
                for (name, entry) in changed {
                    match entry.as_ref().and_then(|entry| entry.health_check(&self.node)) {
                        Some(check) => self.wanted.insert(name.clone(), check),
                        None => self.wanted.remove(name),
                    };
                }
            }
        }
    }

    /// Wanted minus open, open minus wanted.
    async fn settle(&mut self) {
        let names: BTreeSet<_> = self.open.keys().chain(self.wanted.keys()).cloned().collect();
        // A port may move from one Service to another: those that go are closed first.
        for name in &names {
            let wanted = self.wanted.get(name);
            if let Some(open) = self.open.get(name)
                && wanted.is_none_or(|wanted| wanted.port != open.port)
            {
                self.close(name).await;
            }
        }
        for name in &names {
            let Some(wanted) = self.wanted.get(name).copied() else { continue };
            if !self.open.contains_key(name) && self.refused.may_try(name, wanted.port, Instant::now()) {
                self.try_open(name, wanted.port).await;
            }
            if let Some(open) = self.open.get(name) {
                open.local.store(wanted.local, Ordering::Relaxed);
            }
        }
        self.refused.keep(|name| self.wanted.contains_key(name) && !self.open.contains_key(name));
    }

    async fn try_open(&mut self, name: &ServiceName, port: u16) {
        match self.open(name, port).await {
            Ok(open) => drop(self.open.insert(name.clone(), open)),
            Err(error) => {
                if self.refused.note(name, port, error.to_string(), Instant::now()) {
                    self.tell(name, port, &error);
                }
            }
        }
    }

    /// Ends a port, and waits until it is free.
    async fn close(&mut self, name: &ServiceName) {
        let Some(Open { serving, port, .. }) = self.open.remove(name) else { return };
        serving.abort();
        // However it ended, its listener is gone.
        let _ = serving.await;
        self.refused.freed(port, Instant::now());
        tracing::info!(namespace = %name.namespace, name = %name.name, port, "health-check port closed");
    }

    async fn open(&self, name: &ServiceName, port: u16) -> std::io::Result<Open> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await?;
        let (stop, local) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let (service, count, proxy) = (name.clone(), Arc::clone(&local), Arc::clone(&self.proxy));
        let answer: Answer = Arc::new(move |_, _| answer(&service, count.load(Ordering::Relaxed), proxy()));
        let serving = tokio::spawn(answer_at(listener, answer, stop.clone()));
        tracing::info!(namespace = %name.namespace, name = %name.name, port, "health-check port opened");
        Ok(Open { port, local, serving, _stop: stop.drop_guard() })
    }

    fn tell(&self, name: &ServiceName, port: u16, error: &std::io::Error) {
        let ServiceName { namespace, name: service } = name;
        let message = format!(
            "node {} failed to start healthcheck \"{namespace}/{service}\" on port {port}: {error}",
            self.node
        );
        tracing::warn!(%namespace, name = %service, port, %error, "a health-check port cannot be opened; trying again");
        (self.report)(name, message);
    }
}

fn answer(service: &ServiceName, local: usize, proxy_is_healthy: bool) -> Response<Full<Bytes>> {
    let (namespace, name) = (&service.namespace, &service.name);
    let text = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\"localEndpoints\": \
         {local},\n\t\"serviceProxyHealthy\": {proxy_is_healthy}\n}}"
    );
    let mut response = Response::new(Full::new(Bytes::from(text)));
    if local == 0 || !proxy_is_healthy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(WEIGHT, HeaderValue::from(local));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use serde_json::Value;
    use svcd_svcmap::{Endpoint, Entry, Protocol, Service, ServiceKind, TrafficPolicy};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    struct Rig {
        inlet: Inlet,
        healthy: Arc<AtomicBool>,
        told: Arc<Mutex<Vec<String>>>,
    }

    fn rig() -> Rig {
        let healthy = Arc::new(AtomicBool::new(true));
        let told = Arc::new(Mutex::new(Vec::new()));
        let (state, said) = (Arc::clone(&healthy), Arc::clone(&told));
        let (checks, inlet) = HealthChecks::new(
            "here",
            Arc::new(move || state.load(Ordering::Relaxed)),
            Arc::new(move |_: &ServiceName, message| said.lock().unwrap().push(message)),
        );
        tokio::spawn(checks.run());
        Rig { inlet, healthy, told }
    }

    fn entry(name: &str, port: u16, nodes: &[&str]) -> Arc<Entry> {
        let mut service = Service::new(ServiceName::new("ns", name), ServiceKind::LoadBalancer);
        service.external_policy = TrafficPolicy::Local;
        service.health_check_node_port = Some(port);
        let one = |(at, node): (usize, &&str)| Endpoint {
            node: Some((**node).into()),
            ..Endpoint::new([10, 244, 0, u8::try_from(at).unwrap()].into(), 8080)
        };
        let endpoints = nodes.iter().enumerate().map(one).collect();
        let endpoints = BTreeMap::from([((Arc::from(""), Protocol::Tcp), endpoints)]);
        Arc::new(Entry { service, endpoints, portless: Vec::new() })
    }

    fn changed(name: &str, entry: Option<Arc<Entry>>) -> Update {
        Update::Changed(BTreeMap::from([(ServiceName::new("ns", name), entry)]))
    }

    fn free_port() -> u16 {
        std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
    }

    /// Head and body of an answer, when something answers.
    async fn ask(port: u16) -> Option<(String, Value)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.to_lowercase(), serde_json::from_str(body).ok()?))
    }

    async fn until(port: u16, what: &str, is_so: impl Fn(Option<&(String, Value)>) -> bool) {
        let start = Instant::now();
        loop {
            let answer = ask(port).await;
            if is_so(answer.as_ref()) {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "{what}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn says(code: &str, local: u64, healthy: bool) -> impl Fn(Option<&(String, Value)>) -> bool {
        let start = format!("http/1.1 {code}");
        move |answer| {
            answer.is_some_and(|(head, body)| {
                head.starts_with(&start)
                    && head.contains(&format!("x-load-balancing-endpoint-weight: {local}"))
                    && body["service"] == serde_json::json!({ "namespace": "ns", "name": "web" })
                    && body["localEndpoints"] == local
                    && body["serviceProxyHealthy"] == healthy
            })
        }
    }

    #[tokio::test]
    async fn a16_a_port_follows_its_service_and_the_endpoints_of_the_node() {
        let Rig { inlet, healthy, .. } = rig();
        let (port, other) = (free_port(), free_port());
        inlet.apply(Update::Reset(vec![entry("web", port, &["here", "here", "there"])]));
        until(port, "two of three are here", says("200", 2, true)).await;
        inlet.apply(changed("web", Some(entry("web", port, &["there"]))));
        until(port, "none is here", says("503", 0, true)).await;
        inlet.apply(changed("web", Some(entry("web", port, &["here"]))));
        until(port, "one is here", says("200", 1, true)).await;
        healthy.store(false, Ordering::Relaxed);
        until(port, "the proxy is behind", says("503", 1, false)).await;
        healthy.store(true, Ordering::Relaxed);
        inlet.apply(changed("web", Some(entry("web", other, &["here"]))));
        until(other, "at another port", says("200", 1, true)).await;
        assert!(ask(port).await.is_none(), "and no longer at the old one");
        inlet.apply(changed("web", None));
        until(other, "gone with the Service", |answer| answer.is_none()).await;
    }

    #[tokio::test]
    async fn a16_a_port_that_is_taken_is_told_and_tried_again() {
        let Rig { inlet, told, .. } = rig();
        let blocker = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = blocker.local_addr().unwrap().port();
        inlet.apply(Update::Reset(vec![entry("web", port, &["here"])]));
        let start = Instant::now();
        while told.lock().unwrap().is_empty() {
            assert!(start.elapsed() < DEADLINE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Others change meanwhile, and it is not said again.
        for n in 0..20 {
            inlet.apply(changed("other", Some(entry("other", free_port(), &["here"]))));
            tokio::time::sleep(Duration::from_millis(10 * (n % 3))).await;
        }
        assert_eq!(told.lock().unwrap().len(), 1);
        let message = told.lock().unwrap()[0].clone();
        assert!(message.contains("node here failed to start healthcheck \"ns/web\""), "{message}");
        drop(blocker);
        until(port, "it is had at last", says("200", 1, true)).await;
    }

    #[tokio::test]
    async fn a_port_moves_from_one_service_to_another() {
        let Rig { inlet, told, .. } = rig();
        let port = free_port();
        inlet.apply(Update::Reset(vec![entry("old", port, &["here"])]));
        until(port, "the old one", |answer| answer.is_some_and(|(_, body)| body["service"]["name"] == "old"))
            .await;
        let both = BTreeMap::from([
            (ServiceName::new("ns", "old"), None),
            (ServiceName::new("ns", "new"), Some(entry("new", port, &["here"]))),
        ]);
        inlet.apply(Update::Changed(both));
        until(port, "the new one", |answer| answer.is_some_and(|(_, body)| body["service"]["name"] == "new"))
            .await;
        assert_eq!(*told.lock().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_answer_is_kube_proxys_to_the_letter() {
        use http_body_util::BodyExt as _;
        let response = answer(&ServiceName::new("ns", "web"), 1, true);
        let body = futures::executor::block_on(response.into_body().collect()).unwrap().to_bytes();
        assert_eq!(
            &*body,
            b"{\n\t\"service\": {\n\t\t\"namespace\": \"ns\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 1,\n\t\"serviceProxyHealthy\": true\n}"
        );
    }
}
