//! One writer, many watchers: events a second that have been read by every watcher. Counted at the reader, since megabytes
//! fit into the sockets' buffers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
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
        let mut audience = Audience::connect(&target, watchers).await?;
        server.settled().await?;
        let cpu = server.cpu_seconds()?;
        let (all, seconds) = (EVENTS * watchers, audience.round(EVENTS).await?);
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

/// Watchers, and who writes what they read; all have their connection.
pub(crate) struct Audience {
    writers: Vec<Connection>,
    readers: JoinSet<()>,
    seen: Arc<AtomicUsize>,
    expected: usize,
    rounds: usize,
}

impl Audience {
    /// Opens so many watches, and the writers' connections.
    pub(crate) async fn connect(target: &Target, watchers: usize) -> Result<Self> {
        let (seen, mut readers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for _ in 0..watchers {
            readers.spawn(count_events(target.connect().await?, seen.clone()).await?);
        }
        let writers = try_join_all((0..WRITERS).map(|_| target.connect())).await?;
        Ok(Self { writers, readers, seen, expected: 0, rounds: 0 })
    }

    /// Seconds from the first of so many creates until the last watcher has read the last event.
    pub(crate) async fn round(&mut self, events: usize) -> Result<f64> {
        self.rounds += 1;
        self.expected += events * self.readers.len();
        let began = Instant::now();
        let round = self.rounds;
        let shares = self.writers.iter_mut().enumerate();
        try_join_all(
            shares.map(|(writer, connection)| {
                write_share(connection, round, (writer..events).step_by(WRITERS))
            }),
        )
        .await?;
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.seen.load(Ordering::Relaxed) < self.expected {
            let count = self.seen.load(Ordering::Relaxed);
            ensure!(Instant::now() < deadline, "only {count} of {} events arrived", self.expected);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        ensure!(self.seen.load(Ordering::Relaxed) == self.expected, "events arrived twice");
        Ok(seconds)
    }
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

async fn write_share(
    connection: &mut Connection,
    round: usize,
    share: impl Iterator<Item = usize>,
) -> Result<()> {
    for n in share {
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("c-{round}-{n}") }, "data": { "k": "v" } });
        connection.post("/api/v1/namespaces/kube-public/configmaps", body.to_string()).await?;
    }
    Ok(())
}
