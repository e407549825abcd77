//! To be written: the index. The types stand.
mod types;
pub use types::*;
