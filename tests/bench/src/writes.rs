//! Durable creates a second over HTTPS: each client has one connection and sends its next request when the last one was
//! answered, which is when it was on disk. Client and server share the machine's cores.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::Barrier;

use crate::client::{Connection, Target};
use crate::disk;
use crate::process::Server;
use crate::report::{Budget, Report, percentile};

pub(crate) const PERIOD: Duration = Duration::from_secs(5);

/// With 1, 16 and 256 clients.
pub(crate) async fn measure(report: &mut Report, binary: &Path, work: &Path) -> Result<()> {
    for (clients, budget) in [(1, Budget::None), (16, Budget::None), (256, Budget::AtLeast(5_000.0))] {
        let sync = percentile(&mut disk::samples(work)?, 0.5);
        let dir = tempfile::tempdir_in(work)?;
        let server = Server::start(binary, dir.path())?;
        let target = Target::from_kubeconfig(&server.kubeconfig()).await?;
        target.ready().await?;
        server.settled().await?;
        let cpu = server.cpu_seconds()?;
        let mut samples = samples(&target, clients).await?;
        let rate = samples.len() as f64 / PERIOD.as_secs_f64();
        let stands_for = format!(
            "ConfigMaps of 1 KB, each answered when on disk; p50 {:.2} ms, p99 {:.2} ms; server CPU {:.0} us each; disk sync {sync:.2} ms",
            percentile(&mut samples, 0.5),
            percentile(&mut samples, 0.99),
            (server.cpu_seconds()? - cpu) / samples.len() as f64 * 1e6,
        );
        report.row(format!("durable creates, {clients} clients"), rate, "1/s", budget, stands_for);
    }
    Ok(())
}

/// Latencies, in milliseconds, of all creates that were answered within [`PERIOD`].
pub(crate) async fn samples(target: &Target, clients: usize) -> Result<Vec<f64>> {
    let start = Arc::new(Barrier::new(clients));
    let tasks: Vec<_> =
        (0..clients).map(|n| tokio::spawn(client(target.clone(), n, start.clone()))).collect();
    let mut samples = Vec::new();
    for task in tasks {
        samples.extend(task.await??);
    }
    Ok(samples)
}

/// Begins when all have their connection, so that handshakes are not counted.
async fn client(target: Target, client: usize, start: Arc<Barrier>) -> Result<Vec<f64>> {
    let connection = target.connect().await;
    start.wait().await;
    create_until(connection?, client, Instant::now() + PERIOD).await
}

/// Latencies, in milliseconds, of creates one after another.
async fn create_until(mut connection: Connection, client: usize, end: Instant) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    let filling = "x".repeat(900);
    while Instant::now() < end {
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"bench-{client}-{}"}},"data":{{"k":"{filling}"}}}}"#,
            samples.len()
        );
        let began = Instant::now();
        connection.post("/api/v1/namespaces/default/configmaps", body).await?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(samples)
}
