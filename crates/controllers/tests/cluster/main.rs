//! The controllers against the real API server and store, in process.

mod endpoints;
mod lifecycle;
mod nodes;
mod rig;
mod workloads;
