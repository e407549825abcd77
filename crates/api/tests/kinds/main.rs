//! Every kind through the steps that a write takes in the server, against what a real server answers.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod config;
mod decoding;
mod ensembles;
mod harness;
mod metadata;
mod network;
mod nodes;
mod pods;
mod services;
mod tables;
mod workloads;
