//! What the walkthroughs share: labs, kubectl, commands on nodes and in pods.
//!
//! Every lab runs in a network namespace of its own that stands for "the machine", with files of its own, so tests run
//! in parallel and touch nothing else. A lab goes when its test process ends, however that ends.

mod lab;
mod run;
mod site;

pub use lab::{Lab, binary};
pub use run::{Done, eventually};
pub use site::{Machine, Site};
