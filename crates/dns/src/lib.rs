//! The cluster's DNS, on every node: names of Services and pods from an index in memory, other names from upstreams.
//!
//! Plain values in (`svcd_svcmap::Update`, namespaces), answers out. Sees no API server and no client, and goes on answering
//! when those are down. The parts, from the inside out: `zone` is the pure answer table; `wire` and `handler` write its
//! answers (by hand for speed, and through hickory for everything odd); `forward` asks upstreams; `udp` and `server` are the
//! sockets. Refuses DNSSEC signing, zone transfers and dynamic updates.

mod core;
mod error;
mod fast;
#[cfg(test)]
mod fixture;
mod forward;
mod handler;
mod metrics;
pub mod name;
pub mod resolv;
#[cfg(test)]
mod same_answers;
mod server;
mod udp;
mod wire;
pub mod zone;

pub use error::Error;
pub use forward::{ForwardSettings, Upstreams};
pub use resolv::{DnsPolicy, PodDns, ResolvConf, pod_resolv_conf};
pub use server::{Config, Handle, Server};
