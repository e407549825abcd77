//! `make bench`: the budgets of the project, measured on this machine with the binary as it is shipped.
//!
//! Each row is one file and says what its figure stands for. Absolute figures depend on the machine: what is compared is
//! compared within one run. Output: a table, and the same as JSON.

mod client;
mod disk;
mod dns;
mod fanout;
mod latency;
mod process;
mod reads;
mod report;
mod start;
mod writes;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::report::Report;

/// Measures svcd.
#[derive(Debug, Parser)]
struct Options {
    /// The binary to measure.
    #[arg(long, default_value = "target/dist/svcd")]
    binary: PathBuf,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let binary = options.binary.canonicalize()?;
    let mut report = Report::new(options.only);
    if report.wants("size") {
        let bytes = std::fs::metadata(&binary)?.len();
        report.row("size of the binary", bytes as f64 / 1e6, "MB", "budget 25");
    }
    if report.wants("disk") {
        disk::measure(&mut report)?;
    }
    if report.wants("start") {
        start::measure(&mut report, &binary).await?;
    }
    if report.wants("writes") {
        writes::measure(&mut report, &binary).await?;
    }
    if report.wants("list") {
        reads::measure(&mut report, &binary).await?;
    }
    if report.wants("fanout") {
        fanout::measure(&mut report, &binary).await?;
    }
    if report.wants("lab") {
        let lab = process::Lab::up(&binary)?;
        latency::measure(&mut report, &lab).await?;
        dns::measure(&mut report, &lab)?;
    }
    report.finish(&options.json)
}
