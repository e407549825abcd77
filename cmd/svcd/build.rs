//! How the shipped binary is linked. The decoding of API types is generated in every crate that asks for a type, much of it
//! to the same instructions: the linker keeps one copy of each. Only lld can (it is Rust's linker on x86-64 Linux), and
//! only builds that are optimised are worth its time. And what it says of itself: version, commit and target, nothing that
//! differs from one build of the same source to the next.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    say_version();
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    let lld = is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_OS", "linux");
    if lld && !is("OPT_LEVEL", "0") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        // A tenth of a byte for each place that the loader fixes up instead of 24; glibc knows these since 2.36 (Debian 12).
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Who builds a package, from an archive without git's files, says the commit in `SVCD_COMMIT`.
fn say_version() {
    println!("cargo:rerun-if-env-changed=SVCD_COMMIT");
    let given = env::var("SVCD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(commit).unwrap_or_else(|| "unknown".to_owned());
    let variable = |name| env::var(name).unwrap_or_default();
    let (version, target) = (variable("CARGO_PKG_VERSION"), variable("TARGET"));
    println!("cargo:rustc-env=SVCD_VERSION={version} (commit {commit}, {target})");
}

fn commit() -> Option<String> {
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
