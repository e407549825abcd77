//! What each kind is: decoding, defaults, validation, tables, merge keys, and the errors and selectors around them.
//! Pure functions from values to values: no I/O, no clock, no client. Storing, allocating and answering are the API
//! server's; this crate only says what is right.

pub mod addresses;
pub mod apply;
mod behavior;
pub mod binding;
mod decode;
pub mod eviction;
pub mod field;
pub mod kind;
mod kinds;
mod metadata;
mod names;
pub mod patch;
mod pod_spec;
pub mod protobuf;
pub mod quantity;
mod registry;
pub mod renamed;
mod rules;
pub mod scale;
pub mod schema;
pub mod selector;
pub mod signing_request;
pub mod status;
mod table;
mod warnings;
mod wire;
mod workload;

pub use names::NameRule;
pub use registry::{Registry, registry};
pub use status::{ApiError, ResourceName};
pub use table::human_duration;
pub use wire::{Json, Wire};
