//! The list of 10,000 Services.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::client::Target;
use crate::process::Server;
use crate::report::{Report, percentile};

const SERVICES: usize = 10_000;
const RUNS: usize = 20;
const CREATORS: usize = 32;

/// The whole list as JSON, one request at a time.
pub(crate) async fn measure(report: &mut Report, binary: &Path) -> Result<()> {
    let dir = tempfile::tempdir_in(".")?;
    let server = Server::start(binary, dir.path())?;
    let target = Target::from_kubeconfig(&server.kubeconfig()).await?;
    create_services(&target, SERVICES).await?;
    let mut connection = target.connect().await?;
    let (mut samples, mut size) = (Vec::new(), 0);
    for _ in 0..RUNS {
        let began = Instant::now();
        size = connection.get("/api/v1/services").await?.len();
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let note = format!("{:.1} MB, p99 {:.1} ms", size as f64 / 1e6, percentile(&mut samples, 0.99));
    report.row("list of 10,000 Services, p50", percentile(&mut samples, 0.5), "ms", note);
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
