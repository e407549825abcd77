//! Every kind through the steps that a write takes in the server, against what a real server answers.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod addresses;
mod certificates;
mod config;
mod decoding;
mod ensembles;
mod harness;
mod metadata;
mod network;
mod networking;
mod nodes;
mod pods;
mod service_families;
mod service_types;
mod services;
mod tables;
mod warnings;
mod workloads;
