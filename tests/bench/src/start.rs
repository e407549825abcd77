//! From the start of the process to `/readyz`, and what it then holds in memory.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::client::Target;
use crate::process::{Memory, Server};
use crate::reads::{SERVICES, create_services};
use crate::report::{Budget, Report, percentile};

const RUNS: usize = 10;

/// With an empty store, and with 10,000 Services.
pub(crate) async fn measure(report: &mut Report, binary: &Path, work: &Path) -> Result<()> {
    let mut fresh = Vec::new();
    for _ in 0..RUNS {
        let dir = tempfile::tempdir_in(work)?;
        fresh.push(timed(binary, dir.path()).await?.0);
    }
    let stands_for = format!(
        "exec to /readyz answering 200 over HTTPS, new data directory with a new CA; p50 of {RUNS}, worst {:.0}",
        percentile(&mut fresh, 1.0)
    );
    report.row("server: start, empty", percentile(&mut fresh, 0.5), "ms", Budget::AtMost(200.0), stands_for);
    let dir = tempfile::tempdir_in(work)?;
    let (_, server) = timed(binary, dir.path()).await?;
    let idle = server.settled().await?;
    memory(
        report,
        "server --no-agent: memory, idle",
        &idle,
        Budget::AtMost(40.0),
        "API, store, controllers; empty",
    );
    let target = Target::from_kubeconfig(&server.kubeconfig()).await?;
    create_services(&target, SERVICES).await?;
    let after = server.settled().await?;
    memory(
        report,
        "server: memory, 10,000 Services just made",
        &after,
        Budget::None,
        "the same process, with their slices",
    );
    server.stop()?;
    let (mut full, mut later) = (Vec::new(), None);
    for _ in 0..RUNS {
        let (took, server) = timed(binary, dir.path()).await?;
        full.push(took);
        if later.is_none() {
            later = Some(server.settled().await?);
        }
        server.stop()?;
    }
    let stands_for = format!(
        "as above on a store with {SERVICES} Services; p50 of {RUNS}, worst {:.0}",
        percentile(&mut full, 1.0)
    );
    report.row(
        "server: start, 10,000 Services",
        percentile(&mut full, 0.5),
        "ms",
        Budget::AtMost(1000.0),
        stands_for,
    );
    if let Some(later) = later {
        memory(report, "server: memory, restarted with 10,000 Services", &later, Budget::None, "idle again");
    }
    Ok(())
}

/// A row of resident memory. How much of the binary's file is resident is up to the kernel: it maps whole neighbourhoods
/// of what is used, and shares them between processes.
pub(crate) fn memory(report: &mut Report, what: &str, memory: &Memory, budget: Budget, stands_for: &str) {
    let stands_for = format!(
        "{stands_for}; resident, of which {:.1} is the process's own (not the file's pages)",
        memory.own
    );
    report.row(what, memory.resident, "MB", budget, stands_for);
}

/// Milliseconds from the start to ready.
async fn timed(binary: &Path, dir: &Path) -> Result<(f64, Server)> {
    let began = Instant::now();
    let server = Server::start(binary, dir)?;
    let target = Target::from_kubeconfig(&server.kubeconfig()).await?;
    target.ready().await?;
    Ok((began.elapsed().as_secs_f64() * 1e3, server))
}
