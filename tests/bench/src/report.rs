//! The figures, as a table for people and as JSON for machines.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    note: String,
}

/// What has been measured so far.
#[derive(Debug)]
pub(crate) struct Report {
    only: String,
    rows: Vec<Row>,
}

impl Report {
    /// Keeps to the groups whose name contains `only`.
    pub(crate) fn new(only: String) -> Self {
        Self { only, rows: Vec::new() }
    }

    /// Whether a group of rows is asked for.
    pub(crate) fn wants(&self, group: &str) -> bool {
        group.contains(&self.only)
    }

    /// Adds a figure and shows it.
    pub(crate) fn row(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        note: impl Into<String>,
    ) {
        let row = Row { what: what.into(), value, unit, note: note.into() };
        println!("{:<58} {:>12.2} {:<10} {}", row.what, row.value, row.unit, row.note);
        self.rows.push(row);
    }

    /// Writes the JSON.
    pub(crate) fn finish(self, json: &Path) -> Result<()> {
        std::fs::write(json, serde_json::to_vec_pretty(&self.rows)?)?;
        println!("\nas JSON: {}", json.display());
        Ok(())
    }
}

/// The value below which `share` (0 to 1) of the samples lie.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1);
    let index = (share * last as f64).round() as usize;
    samples.get(index).copied().unwrap_or(f64::NAN)
}
