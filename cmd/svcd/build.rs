//! How the shipped binary is linked. The decoding of API types is generated in every crate that asks for a type, much of it
//! to the same instructions: the linker keeps one copy of each. Only lld can (it is Rust's linker on x86-64 Linux), and
//! only builds that are optimised are worth its time.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    let lld = is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_OS", "linux");
    if lld && !is("OPT_LEVEL", "0") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        // A tenth of a byte for each place that the loader fixes up instead of 24; glibc knows these since 2.36 (Debian 12).
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
