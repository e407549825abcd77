//! DNS: names of the cluster over UDP, asked by dnsperf on the node itself; both share the machine's cores, so CPU a query is
//! the figure that stands.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::process::{Lab, cpu_seconds, resident};
use crate::report::Report;

const SECONDS: &str = "5";

/// Queries a second, latency and CPU of the node's process.
pub(crate) fn measure(report: &mut Report, lab: &Lab) -> Result<()> {
    let queries = lab.root().join("queries");
    std::fs::write(&queries, "webui.default.svc.cluster.local A\nkubernetes.default.svc.cluster.local A\n")?;
    let pid = lab.pid("node1")?;
    let before = cpu_seconds(pid)?;
    let file = queries.to_string_lossy();
    let words = ["dnsperf", "-s", "10.96.0.10", "-d", &file, "-l", SECONDS, "-c", "8", "-q", "100"];
    let output = lab
        .on("node1", &words)
        .stderr(Stdio::null())
        .output()
        .context("dnsperf (apt-get install dnsperf)")?;
    let used = cpu_seconds(pid)? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |label: &str| -> Result<f64> {
        let line = text.lines().find_map(|l| l.trim().strip_prefix(label));
        let Some(line) = line else { bail!("dnsperf says no {label:?}:\n{text}") };
        Ok(line.split_whitespace().next().context("a figure")?.parse()?)
    };
    let completed = figure("Queries completed:")?;
    let note = format!(
        "{:.1} us of server CPU each (budget 8); average latency {:.2} ms",
        used / completed * 1e6,
        figure("Average Latency (s):")? * 1e3
    );
    report.row("DNS: cluster names over UDP", figure("Queries per second:")?, "queries/s", note);
    report.row("DNS: resident memory of the agent afterwards", resident(pid)?, "MB", "");
    Ok(())
}
