//! The controllers against the real API server and store, in process.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

mod addresses;
mod budgets;
mod certificates;
mod endpoints;
mod lifecycle;
mod nodes;
mod rig;
mod sets;
mod workloads;
