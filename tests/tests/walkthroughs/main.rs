//! The walkthroughs: what people type, and what they must see. Each test carries the id of its row.

mod a_addresses;
mod a_services;
mod b_dns;
mod bad_input;
mod c_proxy;
mod d_api;
mod e_certificates;
mod e_check;
mod e_cluster;
mod e_crashes;
mod e_moves;
mod e_service;
mod e_snapshots;
mod e_uninstall;
mod pages;
