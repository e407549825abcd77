//! From a pod's status write to the rule in the kernel of every node: the time that users wait for.
//!
//! A client sets a pod's readiness back and forth. On each node `nft monitor` tells when the kernel's rules changed (the
//! iptables of Debian writes nftables); the slowest node counts.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Connection, Target};
use crate::process::{Lab, settled};
use crate::report::{Budget, Report, percentile};
use crate::start::memory;

const NODES: [&str; 4] = ["control-plane", "node1", "node2", "node3"];
const CHANGES: usize = 200;
/// No change of the last round is taken for one of the next.
const QUIET: Duration = Duration::from_millis(40);

/// Also what the lab itself shows: its start and the memory of its processes.
pub(crate) async fn measure(report: &mut Report, lab: &Lab) -> Result<()> {
    let stands_for = "`svcd lab up`: control plane, 3 workers, 3 echo pods and their Service, all ready";
    report.row("lab: up", lab.took, "s", Budget::AtMost(2.0), stands_for);
    let server = settled(lab.pid("control-plane")?).await?;
    memory(
        report,
        "server with agent: memory, idle",
        &server,
        Budget::AtMost(40.0),
        "the lab's control plane",
    );
    let agent = settled(lab.pid("node1")?).await?;
    memory(report, "agent: memory, idle", &agent, Budget::AtMost(20.0), "the lab's node1, with one pod");
    let target = Target::from_kubeconfig(&lab.kubeconfig()).await?;
    let mut connection = target.connect().await?;
    prepare(&mut connection).await?;
    let (send, changes) = channel();
    let _monitors =
        NODES.map(|node| Monitor::start(lab, node, send.clone())).into_iter().collect::<Result<Vec<_>>>()?;
    // A monitor does not say when it has begun.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut samples = Vec::new();
    for n in 0..=CHANGES {
        while changes.recv_timeout(QUIET).is_ok() {}
        let began = Instant::now();
        set_ready(&mut connection, n % 2 == 0).await?;
        let took = slowest(&changes, began)?;
        // The first one also brings the Service's own chains.
        if n > 0 {
            samples.push(took);
        }
    }
    let stands_for = format!(
        "PATCH sent to the rule seen by `nft monitor` on the slowest of {} nodes; {CHANGES} changes one by one",
        NODES.len()
    );
    report.row(
        "pod status to every kernel, p50",
        percentile(&mut samples, 0.5),
        "ms",
        Budget::None,
        stands_for,
    );
    let stands_for =
        format!("the same; then to be brought to 10; worst {:.1}", percentile(&mut samples, 1.0));
    report.row(
        "pod status to every kernel, p99",
        percentile(&mut samples, 0.99),
        "ms",
        Budget::AtMost(50.0),
        stands_for,
    );
    Ok(())
}

/// A Service, and a pod of no node that only its status makes ready.
async fn prepare(connection: &mut Connection) -> Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "latency" },
        "spec": { "selector": { "app": "latency" }, "ports": [{ "port": 80 }] },
    });
    connection.post("/api/v1/namespaces/default/services", service.to_string()).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "latency", "labels": { "app": "latency" } },
        "spec": { "schedulerName": "nobody", "containers": [{ "name": "c", "image": "svcd.io/echo" }] },
    });
    connection.post("/api/v1/namespaces/default/pods", pod.to_string()).await?;
    Ok(())
}

async fn set_ready(connection: &mut Connection, ready: bool) -> Result<()> {
    let status: Value = json!({ "status": {
        "phase": "Running", "podIP": "10.244.250.9", "podIPs": [{ "ip": "10.244.250.9" }],
        "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
    }});
    let path = "/api/v1/namespaces/default/pods/latency/status";
    connection
        .send(Method::PATCH, path, "application/strategic-merge-patch+json", status.to_string().into())
        .await?;
    Ok(())
}

/// `nft monitor` on a node; ended when dropped.
struct Monitor(Child);

impl Monitor {
    /// Sends the node's name and the time whenever its kernel's rules change: nothing else changes them in a lab that
    /// has settled.
    fn start(lab: &Lab, node: &'static str, send: Sender<(&'static str, Instant)>) -> Result<Self> {
        let mut child = lab
            .on(node, &["nft", "monitor", "rules"])
            .stdout(Stdio::piped())
            .spawn()
            .context("nft monitor")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.contains(" rule ip ") && send.send((node, Instant::now())).is_err() {
                    return;
                }
            }
        });
        Ok(Self(child))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Milliseconds until the last node's first change.
fn slowest(changes: &Receiver<(&'static str, Instant)>, began: Instant) -> Result<f64> {
    let mut seen = Vec::new();
    let mut last = began;
    while seen.len() < NODES.len() {
        let (node, at) =
            changes.recv_timeout(Duration::from_secs(10)).context("a node's rules did not change")?;
        if !seen.contains(&node) {
            seen.push(node);
            last = last.max(at);
        }
    }
    Ok((last - began).as_secs_f64() * 1e3)
}
