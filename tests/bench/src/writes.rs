//! Durable creates a second over HTTPS: each client has one connection and sends its next request when the last one was
//! answered, which is when it was on disk. Client and server share the machine's cores.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::client::Target;
use crate::process::Server;
use crate::report::{Report, percentile};

const PERIOD: Duration = Duration::from_secs(5);

/// With 1, 16 and 256 clients.
pub(crate) async fn measure(report: &mut Report, binary: &Path) -> Result<()> {
    for clients in [1, 16, 256] {
        let dir = tempfile::tempdir_in(".")?;
        let server = Server::start(binary, dir.path())?;
        let target = Target::from_kubeconfig(&server.kubeconfig()).await?;
        target.ready().await?;
        let began = Instant::now();
        let tasks: Vec<_> =
            (0..clients).map(|n| tokio::spawn(create_until(target.clone(), n, began + PERIOD))).collect();
        let mut samples = Vec::new();
        for task in tasks {
            samples.extend(task.await??);
        }
        let rate = samples.len() as f64 / began.elapsed().as_secs_f64();
        let note = format!(
            "p50 {:.2} ms, p99 {:.2} ms",
            percentile(&mut samples, 0.5),
            percentile(&mut samples, 0.99)
        );
        report.row(format!("durable creates of a 1 KB ConfigMap, {clients} clients"), rate, "1/s", note);
    }
    Ok(())
}

/// Latencies, in milliseconds, of creates one after another.
async fn create_until(target: Target, client: usize, end: Instant) -> Result<Vec<f64>> {
    let mut connection = target.connect().await?;
    let mut samples = Vec::new();
    let filling = "x".repeat(900);
    while Instant::now() < end {
        let name = format!("bench-{client}-{}", samples.len());
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": filling } });
        let began = Instant::now();
        connection.post("/api/v1/namespaces/default/configmaps", body.to_string()).await?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(samples)
}
