//! From the start of the process to `/readyz`, and what it then holds in memory.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::client::Target;
use crate::process::Server;
use crate::reads::create_services;
use crate::report::{Report, percentile};

const RUNS: usize = 10;
const SERVICES: usize = 10_000;

/// With an empty store, with a store that has been used, and with 10,000 Services.
pub(crate) async fn measure(report: &mut Report, binary: &Path) -> Result<()> {
    let mut fresh = Vec::new();
    for _ in 0..RUNS {
        let dir = tempfile::tempdir_in(".")?;
        fresh.push(timed(binary, dir.path()).await?.0);
    }
    report.row(
        "server: start to /readyz, new data directory, p50",
        percentile(&mut fresh, 0.5),
        "ms",
        "budget 200",
    );
    let dir = tempfile::tempdir_in(".")?;
    let (_, server) = timed(binary, dir.path()).await?;
    report.row(
        "server --no-agent: resident memory, idle",
        server.resident()?,
        "MB",
        "budget 40 with an agent",
    );
    let target = Target::from_kubeconfig(&server.kubeconfig()).await?;
    create_services(&target, SERVICES).await?;
    report.row("server: resident memory with 10,000 Services", server.resident()?, "MB", "");
    server.stop()?;
    let mut full = Vec::new();
    for _ in 0..RUNS {
        let (took, server) = timed(binary, dir.path()).await?;
        full.push(took);
        server.stop()?;
    }
    report.row(
        "server: start to /readyz, 10,000 Services, p50",
        percentile(&mut full, 0.5),
        "ms",
        "budget 1000",
    );
    Ok(())
}

/// Milliseconds from the start to ready.
async fn timed(binary: &Path, dir: &Path) -> Result<(f64, Server)> {
    let began = Instant::now();
    let server = Server::start(binary, dir)?;
    let target = Target::from_kubeconfig(&server.kubeconfig()).await?;
    target.ready().await?;
    Ok((began.elapsed().as_secs_f64() * 1e3, server))
}
