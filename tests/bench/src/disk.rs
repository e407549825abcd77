//! What the disk takes to sync: the floor under every durable write.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::report::{Budget, Report, percentile};

const SYNCS: usize = 300;

/// Appends of 1 KiB, each with `fdatasync`, one after another.
pub(crate) fn measure(report: &mut Report, work: &Path) -> Result<()> {
    let p50 = percentile(&mut samples(work)?, 0.5);
    let stands_for = "append of 1 KiB and fdatasync, one after another: the floor of a durable write";
    report.row("disk sync, p50", p50, "ms", Budget::None, stands_for);
    Ok(())
}

/// The times of some syncs, in milliseconds.
pub(crate) fn samples(work: &Path) -> Result<Vec<f64>> {
    let mut file = tempfile::tempfile_in(work)?;
    let block = [7; 1024];
    let mut samples = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(samples)
}
