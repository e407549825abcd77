//! What tests of several crates share: private network namespaces, links between them, small servers that say who
//! answered, and polling with a deadline.
//!
//! For tests only: it panics where production code would return an error, with words that say what failed.
//! It refuses to touch the machine's own network: everything happens in anonymous namespaces, held by an open file of
//! the test process, so that even a killed test leaves nothing behind.

mod link;
mod netns;
mod wait;
mod whoami;

pub use link::{End, bridge, plug, veth};
pub use netns::{Netns, Running, privileged};
pub use wait::{eventually, eventually_async};
pub use whoami::{Answer, Whoami, ask_tcp, ask_udp};
