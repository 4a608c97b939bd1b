//! Shims: what stands between a program and its system (`LD_PRELOAD`).

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a shim from its source into the folder `beside`.
///
/// # Panics
/// Where that cannot be written, or `cc`, with which Rust links programs, is not there.
pub(crate) fn build(source: &str, beside: &Path, name: &str) -> PathBuf {
    let path = |suffix| beside.join(name).with_extension(suffix);
    let (from, shim) = (path("c"), path("so"));
    std::fs::write(&from, source).expect("the shim's source");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&shim, &from])
        .arg("-ldl")
        .status()
        .expect("a C compiler");
    assert!(built.success(), "the shim is built");
    shim
}
