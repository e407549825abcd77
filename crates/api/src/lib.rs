//! What each kind is, without I/O.

pub mod field;
pub mod kind;
