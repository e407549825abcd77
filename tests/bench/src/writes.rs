//! Durable creates a second over HTTPS: each client has one connection and sends its next request when the last one was
//! answered, which is when it was on disk. The same with nothing to do shows what of it is not the create. Client and server
//! share the machine's cores.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hyper::Method;
use tokio::sync::Barrier;

use crate::client::Target;
use crate::disk;
use crate::process::Server;
use crate::report::{Budget, Report, percentile};

pub(crate) const PERIOD: Duration = Duration::from_secs(5);

/// With 1, 16 and 256 clients; then how many requests would be answered if there were nothing to do.
pub(crate) async fn measure(report: &mut Report, binary: &Path, work: &Path) -> Result<()> {
    for (clients, budget) in [(1, Budget::None), (16, Budget::None), (256, Budget::AtLeast(5_000.0))] {
        let sync = percentile(&mut disk::samples(work)?, 0.5);
        let (rate, figures) = rate(binary, work, clients, create).await?;
        let stands_for =
            format!("ConfigMaps of 1 KB, each answered when on disk; {figures}; disk sync {sync:.2} ms");
        report.row(format!("durable creates, {clients} clients"), rate, "1/s", budget, stands_for);
    }
    let (rate, figures) = rate(binary, work, 256, ask_if_alive).await?;
    let stands_for = format!("GET /livez: what TLS, HTTP and the clients leave to creates; {figures}");
    report.row("requests with nothing to do, 256 clients", rate, "1/s", Budget::None, stands_for);
    Ok(())
}

/// Answers a second, and in words how long they and the server took.
async fn rate(binary: &Path, work: &Path, clients: usize, request: Request) -> Result<(f64, String)> {
    let dir = tempfile::tempdir_in(work)?;
    let server = Server::start(binary, dir.path())?;
    let target = Target::from_kubeconfig(&server.kubeconfig()).await?;
    target.ready().await?;
    server.settled().await?;
    let cpu = server.cpu_seconds()?;
    let mut samples = samples(&target, clients, request).await?;
    let figures = format!(
        "p50 {:.2} ms, p99 {:.2} ms; server CPU {:.0} us each",
        percentile(&mut samples, 0.5),
        percentile(&mut samples, 0.99),
        (server.cpu_seconds()? - cpu) / samples.len() as f64 * 1e6,
    );
    Ok((samples.len() as f64 / PERIOD.as_secs_f64(), figures))
}

/// Method, path and body, from the client's number and the request's.
pub(crate) type Request = fn(usize, usize) -> (Method, &'static str, String);

/// A create of a ConfigMap of 1 KB.
pub(crate) fn create(client: usize, n: usize) -> (Method, &'static str, String) {
    let filling = "x".repeat(900);
    let body = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"bench-{client}-{n}"}},"data":{{"k":"{filling}"}}}}"#
    );
    (Method::POST, "/api/v1/namespaces/default/configmaps", body)
}

/// A request that nothing has to be done for.
fn ask_if_alive(_: usize, _: usize) -> (Method, &'static str, String) {
    (Method::GET, "/livez", String::new())
}

/// Latencies, in milliseconds, of all requests that were answered within [`PERIOD`].
pub(crate) async fn samples(target: &Target, clients: usize, request: Request) -> Result<Vec<f64>> {
    let start = Arc::new(Barrier::new(clients));
    let tasks: Vec<_> =
        (0..clients).map(|n| tokio::spawn(client(target.clone(), n, request, start.clone()))).collect();
    let mut samples = Vec::new();
    for task in tasks {
        samples.extend(task.await??);
    }
    Ok(samples)
}

/// Begins when all have their connection, so that handshakes are not counted.
async fn client(target: Target, client: usize, request: Request, start: Arc<Barrier>) -> Result<Vec<f64>> {
    let connection = target.connect().await;
    start.wait().await;
    let (mut connection, end, mut samples) = (connection?, Instant::now() + PERIOD, Vec::new());
    while Instant::now() < end {
        let (method, path, body) = request(client, samples.len());
        let began = Instant::now();
        connection.send(method, path, "application/json", body.into()).await?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(samples)
}
