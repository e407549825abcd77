//! Typed objects over kube-rs, each kind with one decoder in the whole binary.
//!
//! kube's own `Api<K>` generates requests, watches and JSON readers anew for every kind in every crate that names one;
//! half of a small binary would be that. Here one kind of object, [`Raw`], goes over the wire, and a typed object is made
//! of it at the last moment by [`svcd_api::Wire`]. Promises: what `Api` means by a call, [`Objects`] means too. Refuses: to
//! be a client of its own; requests, retries and watches are kube's.

mod access;
mod connect;
mod objects;
mod raw;

pub use access::{Access, KubeconfigError};
pub use connect::{ConnectError, Renewable, connect, connect_renewable};
pub use objects::{Event, Objects, Page};
pub use raw::Raw;
