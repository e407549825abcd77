//! Kernel parameters below `net`: read first, written only when they differ, so that a read-only `/proc/sys` with the
//! right values is good enough. They belong to the network namespace of the calling thread.

use std::fs;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// Makes `key` (as in `net/ipv4/ip_forward`) have `value`.
pub(crate) fn ensure(key: &str, value: &str) -> Result<()> {
    let path = PathBuf::from("/proc/sys").join(key);
    let actual = fs::read_to_string(&path).map_err(Error::io("read kernel parameter", &path))?;
    if actual.trim() == value {
        return Ok(());
    }
    tracing::info!(key, value, was = actual.trim(), "setting kernel parameter");
    fs::write(&path, value).map_err(Error::io("set kernel parameter", path))
}
