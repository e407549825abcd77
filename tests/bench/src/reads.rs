//! The list of 10,000 Services.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::client::Target;
use crate::process::Server;
use crate::report::{Budget, Report, percentile};

/// As many as the largest clusters have.
pub(crate) const SERVICES: usize = 10_000;
const RUNS: usize = 20;
const CREATORS: usize = 32;

/// The whole list as JSON, one request at a time.
pub(crate) async fn measure(report: &mut Report, binary: &Path, work: &Path) -> Result<()> {
    let dir = tempfile::tempdir_in(work)?;
    let server = Server::start(binary, dir.path())?;
    let target = Target::from_kubeconfig(&server.kubeconfig()).await?;
    let began = Instant::now();
    create_services(&target, SERVICES).await?;
    let rate = SERVICES as f64 / began.elapsed().as_secs_f64();
    let stands_for = format!(
        "{SERVICES} by {CREATORS} clients: VIP allocated, durable, while controllers write their slices"
    );
    report.row("creates of Services", rate, "1/s", Budget::None, stands_for);
    server.settled().await?;
    let mut connection = target.connect().await?;
    let (mut samples, mut list) = (Vec::new(), bytes::Bytes::new());
    let cpu = server.cpu_seconds()?;
    for _ in 0..RUNS {
        let began = Instant::now();
        list = connection.get("/api/v1/services").await?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let cpu = (server.cpu_seconds()? - cpu) / RUNS as f64 * 1e3;
    let items = serde_json::from_slice::<Value>(&list)?["items"].as_array().map_or(0, Vec::len);
    ensure!(items > SERVICES, "the list has {items} Services");
    let stands_for = format!(
        "all in one answer of {:.1} MB of JSON, read to its end; worst {:.1} ms; server CPU {cpu:.1} ms",
        list.len() as f64 / 1e6,
        percentile(&mut samples, 1.0)
    );
    report.row("list of 10,000 Services, p50", percentile(&mut samples, 0.5), "ms", Budget::None, stands_for);
    Ok(())
}

/// Creates Services with many clients at once.
pub(crate) async fn create_services(target: &Target, count: usize) -> Result<()> {
    target.ready().await?;
    let tasks: Vec<_> = (0..CREATORS).map(|n| tokio::spawn(create_share(target.clone(), n, count))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn create_share(target: Target, creator: usize, count: usize) -> Result<()> {
    let mut connection = target.connect().await?;
    for n in (creator..count).step_by(CREATORS) {
        let body = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": format!("s-{n}"), "labels": { "app": format!("a-{n}") } },
            "spec": { "selector": { "app": format!("a-{n}") }, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
        });
        connection.post("/api/v1/namespaces/default/services", body.to_string()).await?;
    }
    Ok(())
}
