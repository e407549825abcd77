//! The figures, as a table for people and as JSON for machines.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

/// What a figure should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Budget {
    /// Nothing was promised; the figure is there to be watched.
    None,
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    budget: Budget,
    met: Option<bool>,
    stands_for: String,
}

/// What has been measured so far.
#[derive(Debug)]
pub(crate) struct Report {
    only: String,
    rows: Vec<Row>,
}

impl Budget {
    fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
        }
    }

    fn text(self, value: f64) -> String {
        let verdict = if self.met(value) == Some(false) { " MISSED" } else { "" };
        match self {
            Self::None => String::new(),
            Self::AtMost(limit) => format!("<= {limit}{verdict}"),
            Self::AtLeast(limit) => format!(">= {limit}{verdict}"),
        }
    }
}

impl Report {
    /// Keeps to the groups whose name contains `only`.
    pub(crate) fn new(only: String) -> Self {
        println!("{:<52} {:>10} {:<9} {:<15} what it stands for", "what", "measured", "", "budget");
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
        budget: Budget,
        stands_for: impl Into<String>,
    ) {
        let (what, stands_for) = (what.into(), stands_for.into());
        println!("{what:<52} {value:>10.2} {unit:<9} {:<15} {stands_for}", budget.text(value));
        self.rows.push(Row { what, value, unit, budget, met: budget.met(value), stands_for });
    }

    /// Writes the JSON.
    pub(crate) fn finish(self, json: &Path) -> Result<()> {
        std::fs::write(json, serde_json::to_vec_pretty(&self.rows)?)?;
        let missed = self.rows.iter().filter(|row| row.met == Some(false)).count();
        println!("\n{} figures, {missed} over budget; as JSON: {}", self.rows.len(), json.display());
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
