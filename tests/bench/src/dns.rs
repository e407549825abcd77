//! DNS: names of the cluster over UDP, asked by dnsperf on the node itself; both share the machine's cores, so CPU a query is
//! the figure that stands.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::client::Target;
use crate::process::{Lab, cpu_seconds, settled};
use crate::reads::create_services;
use crate::report::{Budget, Report, percentile};
use crate::start::memory;

const SERVICES: usize = 1_000;
const NODE: &str = "node1";
const SECONDS: &str = "5";
/// Enough to see a tail, little enough not to queue.
const PACE: &str = "5000";

/// Memory with 1,000 Services; then as many queries as can be had, and latency at a steady pace.
pub(crate) async fn measure(report: &mut Report, lab: &Lab) -> Result<()> {
    create_services(&Target::from_kubeconfig(&lab.kubeconfig()).await?, SERVICES).await?;
    let pid = lab.pid(NODE)?;
    let with_services = settled(pid).await?;
    memory(
        report,
        "agent: memory, 1,000 Services",
        &with_services,
        Budget::None,
        "proxy, DNS and pods, idle",
    );
    let names: String = (0..SERVICES).map(|n| format!("s-{n}.default.svc.cluster.local A\n")).collect();
    std::fs::write(lab.root().join("queries"), names)?;
    let before = cpu_seconds(pid)?;
    let text = dnsperf(lab, &["-l", SECONDS, "-c", "8", "-q", "100"])?;
    let used = cpu_seconds(pid)? - before;
    let completed = figure(&text, "Queries completed:")?;
    let stands_for = format!(
        "A of {SERVICES} Services over UDP at the VIP, 8 clients with 100 under way, the client on the same cores; {} lost",
        figure(&text, "Queries lost:")?
    );
    report.row("DNS: queries", figure(&text, "Queries per second:")?, "1/s", Budget::None, stands_for);
    let stands_for = "CPU time of the whole agent process, divided by the queries of the row above";
    report.row("DNS: server CPU a query", used / completed * 1e6, "us", Budget::AtMost(8.0), stands_for);
    paced(report, lab)
}

/// Latency at a pace that is no load.
fn paced(report: &mut Report, lab: &Lab) -> Result<()> {
    let text = dnsperf(lab, &["-v", "-l", "3", "-c", "8", "-Q", PACE])?;
    // `> NOERROR s-1.default.svc.cluster.local A 0.000123`
    let answers = text
        .lines()
        .filter_map(|line| line.strip_prefix("> NOERROR ")?.rsplit(' ').next()?.parse::<f64>().ok());
    let mut latencies: Vec<f64> = answers.map(|seconds| seconds * 1e6).collect();
    if latencies.len() < 1_000 {
        bail!("dnsperf showed only {} answers", latencies.len());
    }
    let stands_for = format!(
        "at {PACE} queries/s, as dnsperf on the same node sees it; p50 {:.0}",
        percentile(&mut latencies, 0.5)
    );
    report.row("DNS: latency, p99", percentile(&mut latencies, 0.99), "us", Budget::None, stands_for);
    Ok(())
}

fn dnsperf(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let queries = lab.root().join("queries");
    let words = ["dnsperf", "-s", "10.96.0.10", "-d", &queries.to_string_lossy()];
    let output = lab.on(NODE, &[&words, arguments].concat()).stderr(Stdio::inherit()).output();
    let output = output.context("dnsperf (apt-get install dnsperf)")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The figure behind a label of dnsperf's report.
fn figure(text: &str, label: &str) -> Result<f64> {
    let line = text.lines().find_map(|l| l.trim().strip_prefix(label));
    let Some(line) = line else { bail!("dnsperf says no {label:?}:\n{text}") };
    Ok(line.split_whitespace().next().context("a figure")?.parse()?)
}
