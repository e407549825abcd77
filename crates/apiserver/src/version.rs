//! `/version`: which Kubernetes this is compatible with, and which build of ours.

use serde_json::{Value, json};

const MAJOR: &str = "1";
const MINOR: &str = "37";
const OLDEST_MINOR: &str = "36";
/// The version that clients are told: Kubernetes' (that of the API types) and ours.
pub const GIT_VERSION: &str = concat!("v1.37.0+svcd.", env!("CARGO_PKG_VERSION"));

/// The answer to `/version`.
pub(crate) fn info() -> Value {
    json!({
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": OLDEST_MINOR,
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    })
}

/// The machine as Go names it; clients know those names.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
