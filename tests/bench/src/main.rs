//! `make bench`: the budgets of the project, measured on this machine with the binary as it is shipped.
//!
//! Each row is one file and says what its figure stands for. Every row starts fresh processes on fresh data. Absolute
//! figures depend on the machine, and client and server share it: compare within one run. Output: a table, and the same
//! as JSON. `run` starts this in namespaces of its own, whose end ends everything that was started here.

mod client;
mod disk;
mod dns;
mod fanout;
mod latency;
mod peer;
mod peers;
mod process;
mod reads;
mod report;
mod start;
mod writes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::report::{Budget, Report};

/// Measures svcd.
#[derive(Debug, Parser)]
struct Options {
    /// The binary to measure.
    #[arg(long, default_value = "target/dist/svcd")]
    binary: PathBuf,
    /// Where data directories are made: the disk that is measured, and a short path (sockets).
    #[arg(long, default_value = "/var/tmp")]
    work: PathBuf,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Where `kube-apiserver` and `etcd` are, to be measured beside svcd.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Only the group of rows whose name contains this: size, disk, start, writes, list, fanout, peers, lab.
    #[arg(long, default_value = "")]
    only: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    end_on_signals()?;
    let binary = options.binary.canonicalize().with_context(|| format!("{}", options.binary.display()))?;
    let work = options.work.canonicalize().with_context(|| format!("{}", options.work.display()))?;
    let mut report = Report::new(options.only);
    measure(&mut report, &binary, &work, options.peers.as_deref()).await?;
    report.finish(&options.json)
}

async fn measure(report: &mut Report, binary: &Path, work: &Path, peers: Option<&Path>) -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load: f64 = load.split(' ').next().context("a load average")?.parse()?;
    let cores = std::thread::available_parallelism()?;
    let stands_for =
        format!("average of the last minute on {cores} cores: near 0, or all below is worse than it is");
    report.row("load of the machine before", load, "", Budget::None, stands_for);
    if report.wants("size") {
        let bytes = std::fs::metadata(binary)?.len();
        report.row(
            "binary",
            bytes as f64 / 1e6,
            "MB",
            Budget::AtMost(25.0),
            "the one file, stripped, as shipped",
        );
    }
    if report.wants("disk") {
        disk::measure(report, work)?;
    }
    if report.wants("start") {
        start::measure(report, binary, work).await?;
    }
    if report.wants("writes") {
        writes::measure(report, binary, work).await?;
    }
    if report.wants("list") {
        reads::measure(report, binary, work).await?;
    }
    if report.wants("fanout") {
        fanout::measure(report, binary, work).await?;
    }
    if report.wants("peers")
        && let Some(programs) = peers
    {
        peers::measure(report, binary, programs, work).await?;
    }
    if report.wants("lab") {
        let lab = process::Lab::up(binary, work)?;
        latency::measure(report, &lab).await?;
        dns::measure(report, &lab).await?;
    }
    Ok(())
}

/// The first process of a PID namespace gets only signals that it asked for.
fn end_on_signals() -> Result<()> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut stream = signal(kind)?;
        tokio::spawn(async move {
            stream.recv().await;
            std::process::exit(130);
        });
    }
    Ok(())
}
