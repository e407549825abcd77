//! One writer, many watchers: events a second that have been read by every watcher. Counted at the reader, since megabytes
//! fit into the sockets' buffers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{Connection, Target};
use crate::process::Server;
use crate::report::{Budget, Report};

const EVENTS: usize = 1_000;
const WRITERS: usize = 16;

/// With 100 and 1,000 watchers of ConfigMaps.
pub(crate) async fn measure(report: &mut Report, binary: &Path, work: &Path) -> Result<()> {
    for watchers in [100, 1_000] {
        let dir = tempfile::tempdir_in(work)?;
        let server = Server::start(binary, dir.path())?;
        let target = Target::from_kubeconfig(&server.kubeconfig()).await?;
        target.ready().await?;
        server.settled().await?;
        let cpu = server.cpu_seconds()?;
        let (all, seconds) = (EVENTS * watchers, seconds(&target, watchers, EVENTS).await?);
        let cpu = (server.cpu_seconds()? - cpu) / all as f64 * 1e6;
        let stands_for = format!(
            "{EVENTS} creates by {WRITERS} writers until the last watcher has read the last event: {:.0} events/s; server CPU {cpu:.1} us a delivery",
            EVENTS as f64 / seconds
        );
        let what = format!("deliveries to {watchers} watchers");
        report.row(what, all as f64 / seconds, "1/s", Budget::None, stands_for);
    }
    Ok(())
}

/// Seconds from the first of so many creates until the last watcher has read the last event.
pub(crate) async fn seconds(target: &Target, watchers: usize, events: usize) -> Result<f64> {
    let seen = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..watchers {
        readers.spawn(count_events(target.connect().await?, seen.clone()).await?);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(write_share(target.clone(), n, events));
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    let (all, deadline) = (events * watchers, Instant::now() + Duration::from_secs(120));
    while seen.load(Ordering::Relaxed) < all {
        let count = seen.load(Ordering::Relaxed);
        ensure!(Instant::now() < deadline, "only {count} of {all} events arrived");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    ensure!(seen.load(Ordering::Relaxed) == all, "events arrived twice");
    Ok(seconds)
}

/// Opens a watch in a namespace that nothing else writes to; the future counts what arrives.
async fn count_events(
    mut connection: Connection,
    seen: Arc<AtomicUsize>,
) -> Result<impl Future<Output = ()> + Send + 'static> {
    let path =
        "/api/v1/namespaces/kube-public/configmaps?watch=true&fieldSelector=metadata.name!=kube-root-ca.crt";
    let mut body = connection.open(Method::GET, path, "application/json", Bytes::new()).await?.into_body();
    Ok(async move {
        // Every event ends with a line feed, and no line feed stands within one.
        let _open = connection;
        while let Some(Ok(frame)) = body.frame().await {
            let count = frame.data_ref().map_or(0, |data| data.iter().filter(|b| **b == b'\n').count());
            seen.fetch_add(count, Ordering::Relaxed);
        }
    })
}

async fn write_share(target: Target, writer: usize, events: usize) -> Result<()> {
    let mut connection = target.connect().await?;
    for n in (writer..events).step_by(WRITERS) {
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("c-{n}") }, "data": { "k": "v" } });
        connection.post("/api/v1/namespaces/kube-public/configmaps", body.to_string()).await?;
    }
    Ok(())
}
