//! Where `tests/setup.sh` puts the clients: outside the repository, kept between runs.

use std::path::{Path, PathBuf};

/// The directory of all clients.
pub(crate) fn dir() -> PathBuf {
    std::env::var_os("SVCD_TEST_CACHE").map_or_else(|| PathBuf::from("/var/cache/svcd-tests"), PathBuf::from)
}

/// A program below it, or why there is none.
pub(crate) fn program(path: impl AsRef<Path>) -> Result<PathBuf, String> {
    let path = dir().join(path);
    if path.is_file() { Ok(path) } else { Err(format!("{} is not there", path.display())) }
}

/// The minor versions of kubectl that are there, from the names of their directories (`kubectl/1.32`).
pub(crate) fn kubectl_minors() -> Vec<u32> {
    let entries = std::fs::read_dir(dir().join("kubectl")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("1.")?.parse().ok()).collect()
}
