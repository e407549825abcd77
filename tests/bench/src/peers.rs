//! svcd beside kube-apiserver with etcd, one after the other on the same disk in the same run: ratios mean more than
//! figures. Each row says what it stands for; the programs of the peer are built by `tests/clients/setup.sh peers`.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;

use crate::client::Target;
use crate::fanout::Audience;
use crate::peer::Peer;
use crate::process::Server;
use crate::report::{Budget, Report, percentile};
use crate::writes;

const CLIENTS: usize = 256;
const PODS: usize = 10_000;
const LISTS: usize = 10;
const WATCHERS: usize = 1_000;
/// Few enough for the slower one not to cut its watchers off, as it does with those that have fallen behind.
const EVENTS: usize = 20;
/// A round is over in some tens of milliseconds: the median of several counts.
const ROUNDS: usize = 9;

/// What is measured of each.
struct Figures {
    ready_ms: f64,
    memory: f64,
    creates: f64,
    /// CPU time of its processes for each, in microseconds.
    create_us: f64,
    list_ms: f64,
    deliveries: f64,
    delivery_us: f64,
}

/// One of the two, running.
enum Subject {
    Svcd(Server),
    Peer(Peer),
}

impl Subject {
    fn start(binary: &Path, programs: Option<&Path>, dir: &Path) -> Result<Self> {
        Ok(match programs {
            Some(programs) => Self::Peer(Peer::start(programs, dir)?),
            None => Self::Svcd(Server::start(binary, dir)?),
        })
    }

    async fn target(&self) -> Result<Target> {
        Target::from_kubeconfig(&match self {
            Self::Svcd(server) => server.kubeconfig(),
            Self::Peer(peer) => peer.kubeconfig(),
        })
        .await
    }

    /// Resident memory once it has nothing more to do, in MB.
    async fn memory(&self) -> Result<f64> {
        match self {
            Self::Svcd(server) => Ok(server.settled().await?.resident),
            Self::Peer(peer) => peer.memory().await,
        }
    }

    /// CPU time that it has used.
    fn cpu_seconds(&self) -> Result<f64> {
        match self {
            Self::Svcd(server) => server.cpu_seconds(),
            Self::Peer(peer) => peer.cpu_seconds(),
        }
    }
}

/// Both, and what svcd is times the peer.
pub(crate) async fn measure(report: &mut Report, binary: &Path, programs: &Path, work: &Path) -> Result<()> {
    let peer = figures(binary, Some(programs), work).await.context("kube-apiserver with etcd")?;
    let ours = figures(binary, None, work).await.context("svcd")?;
    let mut pair = |what: &str, unit, of: fn(&Figures) -> f64, ratio: f64, budget, stands_for: &str| {
        report.row(format!("peer: {what}"), of(&peer), unit, Budget::None, stands_for);
        report.row(format!("svcd: {what}"), of(&ours), unit, Budget::None, stands_for);
        report.row(format!("      {what}"), ratio, "times", budget, "the two rows above");
    };
    pair(
        "start",
        "ms",
        |f| f.ready_ms,
        peer.ready_ms / ours.ready_ms,
        Budget::None,
        "exec to /readyz, new data directory",
    );
    pair(
        "memory, idle",
        "MB",
        |f| f.memory,
        peer.memory / ours.memory,
        Budget::None,
        "resident, just started; svcd with its controllers, the peer without any",
    );
    let stands_for = "ConfigMaps of 1 KB by 256 clients, each answered when on disk";
    pair(
        "durable creates",
        "1/s",
        |f| f.creates,
        ours.creates / peer.creates,
        Budget::AtLeast(20.0),
        stands_for,
    );
    let stands_for = "CPU of the server, with etcd, for each of these: what remains when the client does not share its cores";
    pair("CPU a create", "us", |f| f.create_us, peer.create_us / ours.create_us, Budget::None, stands_for);
    let stands_for = "10,000 pods in one answer of JSON, read to its end, p50";
    pair("list", "ms", |f| f.list_ms, peer.list_ms / ours.list_ms, Budget::AtLeast(10.0), stands_for);
    let stands_for = "20 events to 1,000 watchers until the last has read the last, p50 of 9 rounds";
    pair(
        "deliveries",
        "1/s",
        |f| f.deliveries,
        ours.deliveries / peer.deliveries,
        Budget::AtLeast(10.0),
        stands_for,
    );
    let stands_for = "CPU of the server, with etcd, for each of these";
    pair(
        "CPU a delivery",
        "us",
        |f| f.delivery_us,
        peer.delivery_us / ours.delivery_us,
        Budget::None,
        stands_for,
    );
    Ok(())
}

async fn figures(binary: &Path, programs: Option<&Path>, work: &Path) -> Result<Figures> {
    let dir = tempfile::tempdir_in(work)?;
    let began = Instant::now();
    let subject = Subject::start(binary, programs, dir.path())?;
    let target = subject.target().await?;
    target.ready().await?;
    let ready_ms = began.elapsed().as_secs_f64() * 1e3;
    let memory = subject.memory().await?;
    let cpu = subject.cpu_seconds()?;
    let created = writes::samples(&target, CLIENTS, writes::create).await?.len() as f64;
    let create_us = (subject.cpu_seconds()? - cpu) / created * 1e6;
    let creates = created / writes::PERIOD.as_secs_f64();
    drop(subject);
    // Each row on fresh data.
    let dir = tempfile::tempdir_in(work)?;
    let subject = Subject::start(binary, programs, dir.path())?;
    let target = subject.target().await?;
    target.ready().await?;
    let (deliveries, delivery_us) = deliver(&subject, &target).await?;
    create_pods(&target).await?;
    subject.memory().await?;
    let list_ms = list_pods(&target).await?;
    Ok(Figures { ready_ms, memory, creates, create_us, list_ms, deliveries, delivery_us })
}

/// Deliveries a second, and the CPU time of each in microseconds.
async fn deliver(subject: &Subject, target: &Target) -> Result<(f64, f64)> {
    let mut audience = Audience::connect(target, WATCHERS).await?;
    subject.memory().await?;
    let cpu = subject.cpu_seconds()?;
    let mut samples = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        samples.push(audience.round(EVENTS).await?);
    }
    let cpu = subject.cpu_seconds()? - cpu;
    let of_a_round = (EVENTS * WATCHERS) as f64;
    Ok((of_a_round / percentile(&mut samples, 0.5), cpu / (of_a_round * ROUNDS as f64) * 1e6))
}

async fn create_pods(target: &Target) -> Result<()> {
    const CREATORS: usize = 32;
    let share = async |creator: usize, target: Target| -> Result<()> {
        let mut connection = target.connect().await?;
        for n in (creator..PODS).step_by(CREATORS) {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": format!("p-{n}"), "labels": { "app": "web", "n": n.to_string() } },
                // To a node that does not exist, so that nobody moves them.
                "spec": { "nodeName": "nowhere", "containers": [{ "name": "c", "image": "svcd.io/echo",
                    "ports": [{ "containerPort": 8080 }], "env": [{ "name": "A", "value": "b" }] }] },
            });
            connection.post("/api/v1/namespaces/default/pods", pod.to_string()).await?;
        }
        Ok(())
    };
    let tasks: Vec<_> = (0..CREATORS).map(|n| share(n, target.clone())).collect();
    futures::future::try_join_all(tasks).await?;
    Ok(())
}

async fn list_pods(target: &Target) -> Result<f64> {
    let mut connection = target.connect().await?;
    let mut samples = Vec::with_capacity(LISTS);
    for _ in 0..LISTS {
        let began = Instant::now();
        connection.get("/api/v1/pods").await?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(percentile(&mut samples, 0.5))
}
