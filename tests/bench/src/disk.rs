//! What the disk takes to sync: the floor under every durable write.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;

use crate::report::{Report, percentile};

const SYNCS: usize = 300;

/// Appends of 1 KiB, each with `fdatasync`, one after another.
pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let mut file = tempfile::tempfile_in(".")?;
    let block = [7; 1024];
    let mut samples = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    report.row(
        "disk: append of 1 KiB + fdatasync, p50",
        percentile(&mut samples, 0.5),
        "ms",
        "one at a time",
    );
    report.row("disk: the same, p99", percentile(&mut samples, 0.99), "ms", "");
    Ok(())
}
